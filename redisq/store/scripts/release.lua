-- release: hand messages back, uncharged, for any worker to claim at once, or deferred: not before some time has passed.
-- USES clock, arguments, needs, limits, totals, record, cancelled, receipts, bell, next_due, finish, priority, tombstone
-- USES sweep
--
-- KEYS[1]  leases      {ns}:1:{orders}:leases
-- KEYS[2]  states      {ns}:1:{orders}:states
-- KEYS[3]  stream      {ns}:1:{orders}:stream
-- KEYS[4]  bell        {ns}:1:{orders}:bell
-- KEYS[5]  messages    {ns}:1:{orders}:messages
-- KEYS[6]  counters    {ns}:1:{orders}:counters
-- KEYS[7]  config      {ns}:1:{orders}:config
-- KEYS[8]  finished    {ns}:1:{orders}:finished
-- KEYS[9]  tombstones  {ns}:1:{orders}:tombstones
-- KEYS[10] dead        {ns}:1:{orders}:dead
-- KEYS[11] urgent      {ns}:1:{orders}:urgent
-- KEYS[12] scheduled   {ns}:1:{orders}:scheduled
-- ARGV[1]  retention   default for the queue's own, in milliseconds
-- ARGV[2]  window      default for the queue's own deduplication window, in milliseconds
-- ARGV[3]  dead        default for the queue's own retention of dead letters, in milliseconds
-- ARGV[4+] id, attempt, nonce, after   per message. `after` is empty for at once, else milliseconds
-- REPLY    per message 'OK', also when this delivery handed it back before
-- ERROR    LEASE_LOST  the message is gone, finished, or another delivery holds it
local leases, states, stream, bell, messages = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local counters, config, finished, tombstones, dead, urgent = KEYS[6], KEYS[7], KEYS[8], KEYS[9], KEYS[10], KEYS[11]
local scheduled = KEYS[12]
check_items(4, 4)
local retention, window, dead_retention = limits(
  config, {'retention', 'dedup_window', 'dead_retention'}, {ARGV[1], ARGV[2], ARGV[3]})

local now = clock()
local ringing = redis.call('LLEN', bell)
redis.call('ZCARD', leases)
redis.call('XLEN', stream)
local broken = broken_totals(counters, {'released', 'cancelled'})
local due = overdue(messages, states, finished, tombstones, dead, now, retention, window, dead_retention, 4)
local ids = {}
for i = 4, #ARGV, 4 do ids[#ids + 1] = ARGV[i] end
local records = read_records(states, ids)

-- Deferrals in a row are one entry of the history: the last of them, with their number behind it.
local function note_deferral(record)
  local before, count = string.match(record.history, '^(.-);?deferred%*?(%d*),[^;]*$')
  if count then record.history = before ~= '' and before or '-' end
  local times = count and math.min(tonumber(count) or 1, 1e9) + 1
  note(record, times and string.format('deferred*%d', times) or 'deferred', now, record.entry)
end

local released, ended, reply, hurried, deferring = {}, {}, {}, false, false
for i = 4, #ARGV, 4 do
  local id, attempt, nonce = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local delay = ARGV[i + 3] ~= '' and whole(ARGV[i + 3], 'after')
  local record = records[id]
  if not holds(record, attempt, nonce) or record.status == 'C' or is_letter(record) then
    reply[#reply + 1] = {'LEASE_LOST'}
  else
    if record.status == 'I' and is_cancelled(record) then
      record.status, record.cause, record.payload = 'E', 'cancelled', ''
      ended[#ended + 1] = {id, record}
    elseif record.status == 'I' and delay then
      note_deferral(record)
      record.cause, record.at, record.entry, record.suspect, deferring = 'deferred', now + delay, '-', 0, true
    elseif record.status == 'I' then
      note(record, 'released', now, record.entry)
      record.cause, record.at, hurried = 'released', now, hurried or record.priority > 0
    end
    if record.status == 'I' then
      record.status, record.released, record.payload = 'P', record.released + 1, ''
      released[#released + 1] = id
    end
    reply[#reply + 1] = 'OK'
  end
end

if hurried then redis.call('ZCARD', urgent) end
local head, wake = deferring and next_due(scheduled, now), false
for i = 1, #ended do redis.call('ZREM', leases, ended[i][1]) end -- first, so that a full server lets the rest pass
finish(states, finished, dead, ended, now)
add_to_total(counters, broken, 'cancelled', #ended)
if #released > 0 then
  redis.call('ZREM', leases, unpack(released))
  for i = 1, #released do
    local record = records[released[i]]
    if record.cause == 'deferred' then
      redis.call('ZADD', scheduled, record.at, released[i])
      wake = wake or not head or record.at - now < head
    else
      record.entry = make_ready(stream, urgent, released[i], record.priority)
      wake = true
    end
    redis.call('HSET', states, released[i], format_record(record))
  end
  add_to_total(counters, broken, 'released', #released)
  if wake then ring(bell, ringing) end
end
forget(messages, states, finished, tombstones, dead, due)
return reply
