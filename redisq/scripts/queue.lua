-- queue: accept messages: body and entry, or body and schedule, and a ring of the bell.
-- USES clock, arguments, limits, totals, record, bell, schedule, tombstone, sweep
--
-- KEYS[1]  messages    {ns}:1:{orders}:messages
-- KEYS[2]  states      {ns}:1:{orders}:states
-- KEYS[3]  stream      {ns}:1:{orders}:stream
-- KEYS[4]  scheduled   {ns}:1:{orders}:scheduled
-- KEYS[5]  bell        {ns}:1:{orders}:bell
-- KEYS[6]  counters    {ns}:1:{orders}:counters
-- KEYS[7]  config      {ns}:1:{orders}:config
-- KEYS[8]  finished    {ns}:1:{orders}:finished
-- KEYS[9]  tombstones  {ns}:1:{orders}:tombstones
-- KEYS[10] dead        {ns}:1:{orders}:dead
-- ARGV[1]  max_length    default for the queue's own: messages that may wait, ready and scheduled; 0 is no limit
-- ARGV[2]  max_bytes     default for the queue's own: bytes of one body
-- ARGV[3]  retention     default for the queue's own, in milliseconds
-- ARGV[4]  window        default for the queue's own deduplication window, in milliseconds
-- ARGV[5]  dead          default for the queue's own retention of dead letters, in milliseconds
-- ARGV[6+] id, digest, body, delay_ms, expires_ms   per message; one that expires in 0 ms never does
-- REPLY    per message 'OK': it is in the queue now; 'SAME': it was queued before, with the same body
-- ERROR    MESSAGE_CONFLICT   this id has another body
-- ERROR    MESSAGE_TOO_LARGE  with the limit in bytes
-- ERROR    QUEUE_FULL         with the limit in messages
local messages, states, stream, scheduled, bell = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local counters, config, finished, tombstones, dead = KEYS[6], KEYS[7], KEYS[8], KEYS[9], KEYS[10]
check_items(6, 5)
local max_length, max_bytes, retention, window, dead_retention = limits(
  config, {'max_length', 'max_bytes', 'retention', 'dedup_window', 'dead_retention'},
  {ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]})

local now = clock()
local ready = redis.call('XLEN', stream)
local ringing = redis.call('LLEN', bell)
local broken = broken_totals(counters, {'queued'})
local due = overdue(messages, states, finished, tombstones, dead, now, retention, window, dead_retention, 4)
local stale = {messages = {}, tombstones = {}}
local room = max_length > 0 and max_length - ready - redis.call('ZCARD', scheduled) or math.huge
local head -- milliseconds until the first scheduled one is due, where it matters
for i = 6, #ARGV, 5 do
  if ARGV[i + 3] ~= '0' then
    head = next_due(scheduled, now)
    break
  end
end

-- What is known of an id: the digest it was queued with, nil when it is free. One whose time has passed is free, too.
local function known(id)
  local body, text = redis.call('HGET', messages, id), redis.call('HGET', states, id)
  local record, tombstone = text and parse_record(text), text and parse_tombstone(text)
  if record and (record.status == 'C' or record.status == 'E') then
    local letter = record.status == 'E'
    local kept = math.max(letter and dead_retention or retention, window)
    local ended = ended_at(record)
    if not body or ended and ended + kept <= now then
      table.insert(stale.messages, {id = id, entry = entry_of(record.entry), letter = letter, mine = true})
      return nil
    end
  end
  if body then return digest_of(body) end
  if tombstone and tombstone.at + window > now then return tombstone.digest end
  if tombstone then table.insert(stale.tombstones, {'0-0', id = id}) end
  return nil
end

local accepted, seen, reply = {}, {}, {} -- accepted: where the arguments of each begin
for i = 6, #ARGV, 5 do
  local id, digest, body = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  if ARGV[i + 3] ~= '0' then whole(ARGV[i + 3], 'delay_ms') end
  if ARGV[i + 4] ~= '0' then whole(ARGV[i + 4], 'expires_ms') end
  if #id ~= 16 then refuse('id') end
  if #digest ~= 8 then refuse('digest') end
  local before = seen[id] or known(id)
  local answer = 'OK'
  if before then
    answer = before == digest and 'SAME' or {'MESSAGE_CONFLICT'}
  elseif #body > max_bytes then
    answer = {'MESSAGE_TOO_LARGE', string.format('%d', max_bytes)}
  elseif #accepted >= room then
    answer = {'QUEUE_FULL', string.format('%d', max_length)}
  else
    seen[id] = digest
    accepted[#accepted + 1] = i
  end
  reply[#reply + 1] = answer
end

-- Leftovers under an id that is queued anew go first; else nothing may come before the write that a full server refuses.
local anew = #stale.messages + #stale.tombstones > 0
if anew then
  forget(messages, states, finished, tombstones, dead, due)
  forget(messages, states, finished, tombstones, dead, stale)
end
local wake = false
for i = 1, #accepted do
  local at = accepted[i]
  local id, delay, expires, entry = ARGV[at], tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4])
  if delay > 0 then
    entry = string.format('%d', now) -- no sequence: not in the stream, found by its id in `scheduled`
    redis.call('ZADD', scheduled, now + delay, id)
    wake = wake or not head or delay < head
  else
    entry = redis.call('XADD', stream, '*', 'id', id)
    wake = wake or ready == 0
  end
  if expires > 0 then entry = entry .. ';' .. string.format('%d', now + expires) end
  redis.call('HSET', messages, id, entry .. ' ' .. ARGV[at + 1] .. ARGV[at + 2])
end
add_to_total(counters, broken, 'queued', #accepted)
if wake then ring(bell, ringing) end
if not anew then forget(messages, states, finished, tombstones, dead, due) end
return reply
