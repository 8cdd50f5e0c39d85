-- leave: forget the last claim of a worker that has ended, and pass a ring on that it may have taken with it.
-- USES bell
--
-- KEYS[1]  workers  {ns}:1:{orders}:workers
-- KEYS[2]  stream   {ns}:1:{orders}:stream
-- KEYS[3]  bell     {ns}:1:{orders}:bell
-- ARGV[1]  worker   its name
-- REPLY    'OK'
local workers, stream, bell = KEYS[1], KEYS[2], KEYS[3]
local worker = ARGV[1]
local ready, ringing = redis.call('XLEN', stream), redis.call('LLEN', bell)
redis.call('HDEL', workers, worker)
if ready > 0 then ring(bell, ringing) end
return 'OK'
