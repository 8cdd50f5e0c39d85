-- leave: forget the last claim of a worker that has ended, and pass a ring on that it may have taken with it.
-- USES clock, arguments, needs, limits, record, bell, tombstone, sweep
--
-- KEYS[1]  workers     {ns}:1:{orders}:workers
-- KEYS[2]  stream      {ns}:1:{orders}:stream
-- KEYS[3]  bell        {ns}:1:{orders}:bell
-- KEYS[4]  messages    {ns}:1:{orders}:messages
-- KEYS[5]  states      {ns}:1:{orders}:states
-- KEYS[6]  finished    {ns}:1:{orders}:finished
-- KEYS[7]  tombstones  {ns}:1:{orders}:tombstones
-- KEYS[8]  dead        {ns}:1:{orders}:dead
-- KEYS[9]  config      {ns}:1:{orders}:config
-- ARGV[1]  retention   default for the queue's own, in milliseconds
-- ARGV[2]  window      default for the queue's own deduplication window, in milliseconds
-- ARGV[3]  dead        default for the queue's own retention of dead letters, in milliseconds
-- ARGV[4]  worker      its name
-- REPLY    'OK'
local workers, stream, bell, messages, states = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local finished, tombstones, dead, config = KEYS[6], KEYS[7], KEYS[8], KEYS[9]
local worker = ARGV[4]
local retention, window, dead_retention = limits(
  config, {'retention', 'dedup_window', 'dead_retention'}, {ARGV[1], ARGV[2], ARGV[3]})
local now = clock()
local due = overdue(messages, states, finished, tombstones, dead, now, retention, window, dead_retention, 4)
local ready, ringing = redis.call('XLEN', stream), redis.call('LLEN', bell)
redis.call('HLEN', workers)
redis.call('HDEL', workers, worker)
forget(messages, states, finished, tombstones, dead, due)
if ready > 0 then ring(bell, ringing) end
return 'OK'
