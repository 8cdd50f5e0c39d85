-- stats: what a queue holds now, and its running totals. Changes nothing.
-- USES needs, clock
--
-- KEYS[1]  stream     {ns}:1:{orders}:stream
-- KEYS[2]  scheduled  {ns}:1:{orders}:scheduled
-- KEYS[3]  leases     {ns}:1:{orders}:leases
-- KEYS[4]  finished   {ns}:1:{orders}:finished
-- KEYS[5]  dead       {ns}:1:{orders}:dead
-- KEYS[6]  counters   {ns}:1:{orders}:counters
-- KEYS[7]  config     {ns}:1:{orders}:config
-- KEYS[8]  workers    {ns}:1:{orders}:workers
-- REPLY    {ready; scheduled; in progress; finished and kept; dead; age of the oldest ready message in milliseconds, -1
--          for none; counters as names and values; '1' when it is paused; workers that have claimed something
--          and have not left}
local stream, scheduled, leases, finished, dead = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local counters, config, workers = KEYS[6], KEYS[7], KEYS[8]
check_needs(redis.call('HGET', config, 'needs'))
local oldest = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
local age = oldest and math.max(0, clock() - tonumber(string.match(oldest[1], '^%d+'))) or -1
return {
  redis.call('XLEN', stream), redis.call('ZCARD', scheduled), redis.call('ZCARD', leases),
  redis.call('XLEN', finished) + redis.call('ZCARD', dead), redis.call('ZCARD', dead), age,
  redis.call('HGETALL', counters), redis.call('HGET', config, 'paused'), redis.call('HLEN', workers),
}
