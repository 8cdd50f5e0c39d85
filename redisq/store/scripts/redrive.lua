-- redrive: queue dead letters anew: the same id, counted from zero, with their history. Their expiry is lifted.
-- USES clock, arguments, needs, limits, totals, record, receipts, bell, priority, tombstone, sweep
--
-- KEYS[1] dead        {ns}:1:{orders}:dead
-- KEYS[2] states      {ns}:1:{orders}:states
-- KEYS[3] messages    {ns}:1:{orders}:messages
-- KEYS[4] stream      {ns}:1:{orders}:stream
-- KEYS[5] bell        {ns}:1:{orders}:bell
-- KEYS[6] counters    {ns}:1:{orders}:counters
-- KEYS[7] config      {ns}:1:{orders}:config
-- KEYS[8] finished    {ns}:1:{orders}:finished
-- KEYS[9] tombstones  {ns}:1:{orders}:tombstones
-- KEYS[10] urgent     {ns}:1:{orders}:urgent
-- ARGV[1]  retention   default for the queue's own, in milliseconds
-- ARGV[2]  window      default for the queue's own deduplication window, in milliseconds
-- ARGV[3]  dead        default for the queue's own retention of dead letters, in milliseconds
-- ARGV[4]  who         asks for it, for the history
-- ARGV[5+] id   per message
-- REPLY    per message 'OK', also when it was redriven before and is no longer dead
-- ERROR    MESSAGE_NOT_FOUND  it is no dead letter, or its body is gone
local dead, states, messages, stream, bell, counters = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local config, finished, tombstones, urgent = KEYS[7], KEYS[8], KEYS[9], KEYS[10]
local who = ARGV[4]
check_name(who, 'who')
check_items(5, 1)
local retention, window, dead_retention = limits(
  config, {'retention', 'dedup_window', 'dead_retention'}, {ARGV[1], ARGV[2], ARGV[3]})

local now = clock()
local ringing = redis.call('LLEN', bell)
redis.call('XLEN', stream)
redis.call('ZCARD', urgent)
local broken = broken_totals(counters, {'redriven'})
local due = overdue(messages, states, finished, tombstones, dead, now, retention, window, dead_retention, 4)
local ids = {}
for i = 5, #ARGV do ids[#ids + 1] = ARGV[i] end
local records, bodies = read_records(states, ids), redis.call('HMGET', messages, unpack(ids))

local redriven, reply = {}, {}
for i = 1, #ids do
  local record, body = records[ids[i]], bodies[i]
  if record and is_letter(record) and body then
    note(record, 'redriven', now, who)
    record.failed, record.lost, record.released = 0, 0, 0
    record.status, record.cause, record.at, record.priority = 'P', 'redriven', now, priority_in(body)
    local expiry = record.priority > 0 and {'^([%d-]+);%d+;', '%1;0;'} or {'^([%d-]+);%d+ ', '%1 '}
    redriven[#redriven + 1] = {id = ids[i], record = record, body = string.gsub(body, expiry[1], expiry[2], 1)}
    reply[i] = 'OK'
  elseif record and body and string.find(record.history, 'redriven,', 1, true) then
    reply[i] = 'OK'
  else
    reply[i] = {'MESSAGE_NOT_FOUND'}
  end
end

forget(messages, states, finished, tombstones, dead, due) -- before what is redriven, which may be due itself
for i = 1, #redriven do
  local item = redriven[i]
  redis.call('ZREM', dead, item.id) -- first, so that a full server lets the rest pass
  item.record.entry = make_ready(stream, urgent, item.id, item.record.priority)
  redis.call('HSET', messages, item.id, item.body)
  redis.call('HSET', states, item.id, format_record(item.record))
end
if #redriven > 0 then
  add_to_total(counters, broken, 'redriven', #redriven)
  ring(bell, ringing)
end
return reply
