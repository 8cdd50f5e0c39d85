-- define: change a queue's definition; a queue that was paused and no longer is wakes a worker.
-- USES clock, arguments, needs, limits, record, bell, tombstone, sweep
--
-- KEYS[1]  config      {ns}:1:{orders}:config
-- KEYS[2]  stream      {ns}:1:{orders}:stream
-- KEYS[3]  bell        {ns}:1:{orders}:bell
-- KEYS[4]  messages    {ns}:1:{orders}:messages
-- KEYS[5]  states      {ns}:1:{orders}:states
-- KEYS[6]  finished    {ns}:1:{orders}:finished
-- KEYS[7]  tombstones  {ns}:1:{orders}:tombstones
-- KEYS[8]  dead        {ns}:1:{orders}:dead
-- ARGV[1]  retention   default for the queue's own, in milliseconds
-- ARGV[2]  window      default for the queue's own deduplication window, in milliseconds
-- ARGV[3]  dead        default for the queue's own retention of dead letters, in milliseconds
-- ARGV[4+] name, value   per setting; a whole number, for `schema` a JSON object, or empty: back to the default
-- REPLY    the definition as names and values
local config, stream, bell, messages, states = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local finished, tombstones, dead = KEYS[6], KEYS[7], KEYS[8]
check_items(4, 2, 0)
local retention, window, dead_retention = limits(
  config, {'retention', 'dedup_window', 'dead_retention'}, {ARGV[1], ARGV[2], ARGV[3]})
local now = clock()
local due = overdue(messages, states, finished, tombstones, dead, now, retention, window, dead_retention, 4)
local ready, ringing = redis.call('XLEN', stream), redis.call('LLEN', bell)
local paused = redis.call('HGET', config, 'paused') == '1'
for i = 4, #ARGV, 2 do
  if not string.find(ARGV[i], '^%l[%l_]*$') then refuse('name') end
  local value = ARGV[i + 1]
  if ARGV[i] ~= 'schema' then
    if value ~= '' then whole(value, 'value') end
  elseif #value > (string.find(value, '^{ ') and 65537 or 65536) or value ~= '' and not string.find(value, '^{.*}$') then
    refuse('value')
  end
end
-- Setting comes before removing, so that a full server refuses the whole.
for i = 4, #ARGV, 2 do
  if ARGV[i + 1] ~= '' then redis.call('HSET', config, ARGV[i], ARGV[i + 1]) end
end
for i = 4, #ARGV, 2 do
  if ARGV[i + 1] == '' then redis.call('HDEL', config, ARGV[i]) end
end
if #ARGV > 3 then forget(messages, states, finished, tombstones, dead, due) end
if paused and ready > 0 and redis.call('HGET', config, 'paused') ~= '1' then ring(bell, ringing) end
return redis.call('HGETALL', config)
