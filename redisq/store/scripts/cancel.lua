-- cancel: end messages that wait, as cancelled. What is in progress goes on, and is to be cancelled: its worker is told.
-- USES clock, arguments, needs, limits, totals, record, cancelled, hint, finish, priority, tombstone, sweep
--
-- KEYS[1]  messages    {ns}:1:{orders}:messages
-- KEYS[2]  states      {ns}:1:{orders}:states
-- KEYS[3]  stream      {ns}:1:{orders}:stream
-- KEYS[4]  scheduled   {ns}:1:{orders}:scheduled
-- KEYS[5]  counters    {ns}:1:{orders}:counters
-- KEYS[6]  config      {ns}:1:{orders}:config
-- KEYS[7]  finished    {ns}:1:{orders}:finished
-- KEYS[8]  tombstones  {ns}:1:{orders}:tombstones
-- KEYS[9]  dead        {ns}:1:{orders}:dead
-- KEYS[10] urgent      {ns}:1:{orders}:urgent
-- ARGV[1]  retention   default for the queue's own, in milliseconds
-- ARGV[2]  window      default for the queue's own deduplication window, in milliseconds
-- ARGV[3]  dead        default for the queue's own retention of dead letters, in milliseconds
-- ARGV[4]  who         asks for it, for the history
-- ARGV[5]  error       of what ends now
-- ARGV[6]  channel     on which workers hear hints
-- ARGV[7+] id   per message
-- REPLY    per message 'CANCELLED': it has ended so, now or before; 'TOLD': it is in progress; 'FINISHED': it had ended
-- ERROR    MESSAGE_NOT_FOUND  there is no such message, or none that can be read
local messages, states, stream, scheduled, counters = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local config, finished, tombstones, dead, urgent = KEYS[6], KEYS[7], KEYS[8], KEYS[9], KEYS[10]
local who, message_error, channel = ARGV[4], ARGV[5], ARGV[6]
check_name(who, 'who')
check_items(7, 1)
local retention, window, dead_retention = limits(
  config, {'retention', 'dedup_window', 'dead_retention'}, {ARGV[1], ARGV[2], ARGV[3]})

local now = clock()
redis.call('XLEN', stream)
redis.call('ZCARD', scheduled)
redis.call('ZCARD', urgent)
local broken = broken_totals(counters, {'cancelled'})
local due = overdue(messages, states, finished, tombstones, dead, now, retention, window, dead_retention, 4)

-- So that whoever claims it after its lease has lapsed, whatever its redisq knows, does not deliver it.
local function expired(body)
  local entry, terms, rest = string.match(body, '^([%d-]+)(%S*)( .*)$')
  local priority = terms and string.match(terms, '^;%d+(;%d)$') or ''
  if not entry or priority == '' and not string.find(terms, '^;?%d*$') then return body end
  return entry .. ';' .. string.format('%d', now) .. priority .. rest
end

local known, ended, marked, told, reply = {}, {}, {}, {}, {}
local function judge(id)
  local body, text = redis.call('HGET', messages, id), redis.call('HGET', states, id)
  local record = known[id] or text and parse_record(text)
  local has_ended = record and (record.status == 'C' or record.status == 'E')
  if not (has_ended or body) or text and not record then return {'MESSAGE_NOT_FOUND'} end
  if has_ended then return record.cause == 'cancelled' and 'CANCELLED' or 'FINISHED' end
  if not record then
    record = new_record(now)
    record.entry, record.priority = string.match(body, '^[^ ;]*'), priority_in(body)
  end
  local is_marked = is_cancelled(record)
  known[id] = record
  if not is_marked then note(record, 'cancelled', now, who) end
  if record.status == 'I' then
    told[#told + 1] = id
    if not is_marked then marked[#marked + 1] = {id = id, record = record, body = expired(body)} end
    return 'TOLD'
  end
  ended[#ended + 1] = {id, record, entry_of(record.entry)}
  record.status, record.cause, record.at, record.payload = 'E', 'cancelled', 0, message_error
  return 'CANCELLED'
end
for i = 7, #ARGV do reply[#reply + 1] = judge(ARGV[i]) end

for i = 1, #ended do
  local id, record, entry = ended[i][1], ended[i][2], ended[i][3]
  redis.call('ZREM', scheduled, id) -- first, so that a full server lets the rest pass
  if entry then
    redis.call('XDEL', stream, entry)
    if record.priority > 0 then redis.call('ZREM', urgent, place_of(entry, id)) end
  end
end
finish(states, finished, dead, ended, now)
add_to_total(counters, broken, 'cancelled', #ended)
for i = 1, #marked do
  redis.call('ZREM', scheduled, marked[i].id)
  redis.call('HSET', messages, marked[i].id, marked[i].body)
  redis.call('HSET', states, marked[i].id, format_record(marked[i].record))
end
forget(messages, states, finished, tombstones, dead, due)
for i = 1, #told do hint(channel, told[i]) end
return reply
