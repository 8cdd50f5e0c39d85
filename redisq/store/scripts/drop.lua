-- drop: remove a queue with all its messages and its definition. A worker that is at one of them loses its lease.
-- USES needs
--
-- KEYS[1]  stream      {ns}:1:{orders}:stream
-- KEYS[2]  messages    {ns}:1:{orders}:messages
-- KEYS[3]  states      {ns}:1:{orders}:states
-- KEYS[4]  scheduled   {ns}:1:{orders}:scheduled
-- KEYS[5]  leases      {ns}:1:{orders}:leases
-- KEYS[6]  finished    {ns}:1:{orders}:finished
-- KEYS[7]  tombstones  {ns}:1:{orders}:tombstones
-- KEYS[8]  dead        {ns}:1:{orders}:dead
-- KEYS[9]  workers     {ns}:1:{orders}:workers
-- KEYS[10] bell        {ns}:1:{orders}:bell
-- KEYS[11] counters    {ns}:1:{orders}:counters
-- KEYS[12] config      {ns}:1:{orders}:config
-- KEYS[13] urgent      {ns}:1:{orders}:urgent
-- REPLY    how many keys there were; Redis frees their memory in the background
local stream, messages, states, scheduled, leases, finished = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local tombstones, dead, workers, bell, counters, config = KEYS[7], KEYS[8], KEYS[9], KEYS[10], KEYS[11], KEYS[12]
local urgent = KEYS[13]
check_needs(redis.call('HGET', config, 'needs'))
-- Reading tells whether each key is ours, before any goes.
redis.call('XLEN', stream)
redis.call('XLEN', finished)
redis.call('XLEN', tombstones)
redis.call('HLEN', messages)
redis.call('HLEN', states)
redis.call('HLEN', workers)
redis.call('HLEN', counters)
redis.call('HLEN', config)
redis.call('ZCARD', scheduled)
redis.call('ZCARD', leases)
redis.call('ZCARD', dead)
redis.call('ZCARD', urgent)
redis.call('LLEN', bell)
return redis.call('UNLINK',
  stream, messages, states, scheduled, leases, finished, tombstones, dead, workers, bell, counters, config, urgent)
