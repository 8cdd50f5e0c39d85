-- define: change a queue's definition; a queue that was paused and no longer is wakes a worker.
-- USES bell
--
-- KEYS[1]  config  {ns}:1:{orders}:config
-- KEYS[2]  stream  {ns}:1:{orders}:stream
-- KEYS[3]  bell    {ns}:1:{orders}:bell
-- ARGV[1+] name, value   per setting; an empty value goes back to the default
-- REPLY    the definition as names and values
local config, stream, bell = KEYS[1], KEYS[2], KEYS[3]
local ready, ringing = redis.call('XLEN', stream), redis.call('LLEN', bell)
local paused = redis.call('HGET', config, 'paused') == '1'
-- Setting comes before removing, so that a full server refuses the whole.
for i = 1, #ARGV, 2 do
  if ARGV[i + 1] ~= '' then redis.call('HSET', config, ARGV[i], ARGV[i + 1]) end
end
for i = 1, #ARGV, 2 do
  if ARGV[i + 1] == '' then redis.call('HDEL', config, ARGV[i]) end
end
if paused and ready > 0 and redis.call('HGET', config, 'paused') ~= '1' then ring(bell, ringing) end
return redis.call('HGETALL', config)
