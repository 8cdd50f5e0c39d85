-- purge: remove messages that wait, ready or scheduled. Those in progress and those that have finished stay.
-- USES clock, arguments, needs, limits, totals, record, priority, tombstone, sweep
--
-- KEYS[1]  stream      {ns}:1:{orders}:stream
-- KEYS[2]  scheduled   {ns}:1:{orders}:scheduled
-- KEYS[3]  messages    {ns}:1:{orders}:messages
-- KEYS[4]  states      {ns}:1:{orders}:states
-- KEYS[5]  tombstones  {ns}:1:{orders}:tombstones
-- KEYS[6]  counters    {ns}:1:{orders}:counters
-- KEYS[7]  config      {ns}:1:{orders}:config
-- KEYS[8]  finished    {ns}:1:{orders}:finished
-- KEYS[9]  dead        {ns}:1:{orders}:dead
-- KEYS[10] urgent      {ns}:1:{orders}:urgent
-- ARGV[1]  retention   default for the queue's own, in milliseconds
-- ARGV[2]  window      default for the queue's own deduplication window, in milliseconds
-- ARGV[3]  dead        default for the queue's own retention of dead letters, in milliseconds
-- ARGV[4]  limit       messages at most, <= 500
-- REPLY    how many were removed; fewer than the limit when none is left
local stream, scheduled, messages, states, tombstones, counters = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local config, finished, dead, urgent = KEYS[7], KEYS[8], KEYS[9], KEYS[10]
local limit = whole(ARGV[4], 'limit', 1, 500)
local retention, window, dead_retention = limits(
  config, {'retention', 'dedup_window', 'dead_retention'}, {ARGV[1], ARGV[2], ARGV[3]})

local now = clock()
local due = overdue(messages, states, finished, tombstones, dead, now, retention, window, dead_retention, 4)
local broken = broken_totals(counters, {'deleted'})
local hurried = redis.call('ZCARD', urgent) > 0
local ids, taken, places = {}, {}, {}
local entries = redis.call('XRANGE', stream, '-', '+', 'COUNT', limit)
for i = 1, #entries do
  taken[i], ids[i] = entries[i][1], entries[i][2][2]
  if hurried then places[i] = place_of(taken[i], ids[i]) end
end
local delayed = #ids < limit and redis.call('ZRANGE', scheduled, 0, limit - #ids - 1) or {}
for i = 1, #delayed do ids[#ids + 1] = delayed[i] end
redis.call('ZCARD', scheduled)
redis.call('HLEN', states)
if #ids == 0 then
  forget(messages, states, finished, tombstones, dead, due)
  return 0
end
local bodies = redis.call('HMGET', messages, unpack(ids))

redis.call('ZREM', scheduled, unpack(#delayed > 0 and delayed or {''})) -- first, so that a full server lets the rest pass
if #places > 0 then redis.call('ZREM', urgent, unpack(places)) end
if #taken > 0 then redis.call('XDEL', stream, unpack(taken)) end
redis.call('HDEL', messages, unpack(ids))
redis.call('HDEL', states, unpack(ids))
for i = 1, #ids do
  if bodies[i] then bury(states, tombstones, ids[i], '-', digest_of(bodies[i]), now) end
end
add_to_total(counters, broken, 'deleted', #ids)
forget(messages, states, finished, tombstones, dead, due)
return #ids
