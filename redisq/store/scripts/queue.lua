-- queue: accept messages: body and entry, or body and schedule, and a ring of the bell.
-- USES clock, arguments, needs, limits, totals, record, bell, next_due, priority, tombstone, sweep
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
-- KEYS[11] urgent      {ns}:1:{orders}:urgent
-- ARGV[1]  max_length    default for the queue's own: messages that may wait, ready and scheduled; 0 is no limit
-- ARGV[2]  max_bytes     default for the queue's own: bytes of one body
-- ARGV[3]  retention     default for the queue's own, in milliseconds
-- ARGV[4]  window        default for the queue's own deduplication window, in milliseconds
-- ARGV[5]  dead          default for the queue's own retention of dead letters, in milliseconds
-- ARGV[6+] id, body, terms   per message. The body begins with its digest, of 8 bytes. The terms are empty, as is usual, or
--          `<delay in ms> <expires in ms> <priority, 0 to 9>`; one that expires in 0 ms never does
-- REPLY    per message 'OK': it is in the queue now; 'SAME': it was queued before, with the same body. No list, but the
--          bare word, where there is one message
-- ERROR    MESSAGE_CONFLICT   this id has another body
-- ERROR    MESSAGE_TOO_LARGE  with the limit in bytes
-- ERROR    QUEUE_FULL         with the limit in messages
local messages, states, stream, scheduled, bell = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local counters, config, finished, tombstones, dead, urgent = KEYS[6], KEYS[7], KEYS[8], KEYS[9], KEYS[10], KEYS[11]
-- ORDINARY

check_items(6, 3)
local max_length, max_bytes, retention, window, dead_retention = limits(
  config, {'max_length', 'max_bytes', 'retention', 'dedup_window', 'dead_retention'},
  {ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]})

local now = clock()
local ready = redis.call('XLEN', stream)
local ringing = redis.call('LLEN', bell)
local broken = broken_totals(counters, {'queued'})
local due = overdue(messages, states, finished, tombstones, dead, now, retention, window, dead_retention, 128)
local stale = {messages = {}, tombstones = {}}
local room = max_length > 0 and max_length - ready - redis.call('ZCARD', scheduled) or math.huge
local head -- milliseconds until the first scheduled one is due, where it matters
for i = 6, #ARGV, 3 do
  if ARGV[i + 2] ~= '' then
    head = next_due(scheduled, now)
    redis.call('ZCARD', urgent)
    break
  end
end

-- What is known of an id: the digest it was queued with, nil when it is free. One whose time has passed is free, too.
local function known(id, body, text)
  local record, tombstone = text and parse_record(text), text and parse_tombstone(text)
  if record and (record.status == 'C' or record.status == 'E') then
    local letter = is_letter(record)
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
local function terms_of(text)
  local delay, expires, priority = string.match(text, '^(%d+) (%d+) (%d)$')
  return whole(delay, 'terms'), whole(expires, 'terms'), whole(priority, 'terms')
end

local function judge(i, body, text)
  local id, new = ARGV[i], ARGV[i + 1]
  if #new < 8 then refuse('body') end
  if ARGV[i + 2] ~= '' then terms_of(ARGV[i + 2]) end
  local before = seen[id] or (body or text) and known(id, body, text)
  if before then return before == string.sub(new, 1, 8) and 'SAME' or {'MESSAGE_CONFLICT'} end
  if #new - 8 > max_bytes then return {'MESSAGE_TOO_LARGE', string.format('%d', max_bytes)} end
  if #accepted >= room then return {'QUEUE_FULL', string.format('%d', max_length)} end
  seen[id], accepted[#accepted + 1] = string.sub(new, 1, 8), i
  return 'OK'
end

for first = 6, #ARGV, 60 do -- 20 messages: that of many, bodies of a megabyte are not all held at once
  local ids = {}
  for at = first, math.min(first + 59, #ARGV), 3 do
    if #ARGV[at] ~= 16 then refuse('id') end
    ids[#ids + 1] = ARGV[at]
  end
  local bodies, texts = redis.call('HMGET', messages, unpack(ids)), redis.call('HMGET', states, unpack(ids))
  for i = 1, #ids do reply[#reply + 1] = judge(first + 3 * (i - 1), bodies[i], texts[i]) end
end

-- Leftovers under an id that is queued anew go first; else nothing may come before the write that a full server refuses.
local anew = #stale.messages + #stale.tombstones > 0
if anew then
  forget(messages, states, finished, tombstones, dead, due)
  forget(messages, states, finished, tombstones, dead, stale)
end
local wake, bodies = false, {}
for i = 1, #accepted do
  local at = accepted[i]
  local id, new, terms, entry = ARGV[at], ARGV[at + 1], ARGV[at + 2], nil
  local delay, expires, priority = 0, 0, 0
  if terms ~= '' then delay, expires, priority = terms_of(terms) end
  if delay == 0 then
    entry = make_ready(stream, urgent, id, priority)
    wake = wake or ready == 0
  else
    entry = string.format('%d', now) -- no sequence: not in the stream, found by its id in `scheduled`
    redis.call('ZADD', scheduled, now + delay, id)
    wake = wake or not head or delay < head
  end
  if expires > 0 or priority > 0 then
    entry = entry .. ';' .. string.format('%d', expires > 0 and now + expires or 0)
    if priority > 0 then entry = entry .. ';' .. string.format('%d', priority) end
  end
  bodies[2 * i - 1], bodies[2 * i] = id, entry .. ' ' .. new
end
if #bodies > 0 then redis.call('HSET', messages, unpack(bodies)) end
add_to_total(counters, broken, 'queued', #accepted)
if wake then ring(bell, ringing) end
if not anew then forget(messages, states, finished, tombstones, dead, due) end
return reply
