-- audit: judge messages in doubt: is each in the one place that it belongs to, at this moment. Mend what is safe to mend.
-- USES clock, arguments, needs, limits, record, bell, finish, tombstone, totals, home, priority, mend, judge
--
-- KEYS[1]  messages    {ns}:1:{orders}:messages
-- KEYS[2]  states      {ns}:1:{orders}:states
-- KEYS[3]  stream      {ns}:1:{orders}:stream
-- KEYS[4]  scheduled   {ns}:1:{orders}:scheduled
-- KEYS[5]  leases      {ns}:1:{orders}:leases
-- KEYS[6]  finished    {ns}:1:{orders}:finished
-- KEYS[7]  tombstones  {ns}:1:{orders}:tombstones
-- KEYS[8]  dead        {ns}:1:{orders}:dead
-- KEYS[9]  bell        {ns}:1:{orders}:bell
-- KEYS[10] counters    {ns}:1:{orders}:counters
-- KEYS[11] config      {ns}:1:{orders}:config
-- KEYS[12] urgent      {ns}:1:{orders}:urgent
-- ARGV[1]  lease       default for the queue's own, in milliseconds
-- ARGV[2]  structure   that they were met in, by its key's name; `tombstones`: that they were not met in
-- ARGV[3]  bytes       of bodies and records to read, about; what is left then is not judged
-- ARGV[4]  fix         1: mend what was found and is safe to mend, 0: change nothing
-- ARGV[5]  who         asks for it, for the history
-- ARGV[6+] id, at   per message; `at` is its entry in a stream, or the time of its tombstone, else empty
-- REPLY    {how many were judged, at least one; then per problem {id, word, 1 when it was mended}}
local messages, states, stream, scheduled, leases, finished = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local tombstones, dead, bell, counters, config, urgent = KEYS[7], KEYS[8], KEYS[9], KEYS[10], KEYS[11], KEYS[12]
local structure, bytes, fix, who = ARGV[2], whole(ARGV[3], 'bytes'), whole(ARGV[4], 'fix', 0, 1) == 1, ARGV[5]
local lease = limits(config, {'lease'}, {ARGV[1]})
check_name(who, 'who')
check_items(6, 2)

-- A record says where its message is; without one the head of the body does. Each problem is told of those who were met in
-- one structure: of `states` what records and of `messages` what bodies without a record lack, of the others what is there
-- and should not be. Nothing is taken away before its message is where it belongs, so they are judged in this order:
-- states, finished, dead, leases, messages, scheduled, stream, urgent, tombstones.
local now = clock()
local ringing = redis.call('LLEN', bell)
redis.call('HLEN', messages)
redis.call('HLEN', states)
redis.call('XLEN', stream)
redis.call('XLEN', finished)
redis.call('XLEN', tombstones)
redis.call('ZCARD', scheduled)
redis.call('ZCARD', leases)
redis.call('ZCARD', dead)
redis.call('ZCARD', urgent)

local broken = broken_totals(counters, {'dead', 'unreadable'})

local hashes = {messages = true, states = true}
local zsets = {scheduled = scheduled, leases = leases, dead = dead}
local streams = {stream = stream, finished = finished, tombstones = tombstones}
local audit = {
  messages = messages, states = states, stream = stream, scheduled = scheduled, leases = leases, finished = finished,
  tombstones = tombstones, dead = dead, urgent = urgent, zsets = zsets, streams = streams, structure = structure,
  now = now, lease = lease, who = who, rung = false, died = 0, ending = {},
}
if not (hashes[structure] or zsets[structure] or streams[structure] or structure == 'urgent') then refuse('structure') end

local read = 0
local function value_of(key, id)
  local value = redis.call('HGET', key, id)
  read = read + (value and #value or 0)
  return value
end

local function judge_message(id, at)
  local text = value_of(states, id)
  local record, buried = text and parse_record(text), text and parse_tombstone(text)
  if structure == 'tombstones' then return judge_tombstone(audit, id, buried, at) end
  local body
  if record or buried then body = redis.call('HEXISTS', messages, id) == 1 else body = value_of(messages, id) end
  if structure == 'urgent' then return judge_place(audit, id, at, text, body, record, buried) end
  local there -- most have only arrived, or moved on, since they were met
  if structure == 'states' then
    there = text
  elseif structure == 'messages' then
    there = body
  else
    there = not is_home(audit, at, body, record, buried) and is_at(audit, structure, at, id)
  end
  if not there then return nil end
  if #id ~= 16 then return 'id-strange' end
  if structure == 'messages' then
    if not text then return judge_body(audit, id, body) end
  elseif structure ~= 'states' then
    if record or buried or not text then return judge_entry(audit, id, at ~= '' and at, body, record, buried) end
  elseif record then
    return judge_record(audit, id, body, record)
  elseif not buried then
    return 'record-unreadable'
  elseif body then
    return 'tombstone-with-body'
  end
end

local reply, mends = {0}, {}
for i = 6, #ARGV, 2 do
  local word, mend = judge_message(ARGV[i], ARGV[i + 1])
  if word then
    mends[#mends + 1] = fix and mend or false
    reply[#reply + 1] = {ARGV[i], word, mends[#mends] and 1 or 0}
  end
  reply[1] = reply[1] + 1
  if read > bytes then break end
end

-- Mend. ZREM comes first, so that a full server lets the rest pass.
if fix and #mends > 0 then
  redis.call('ZREM', leases, '')
  for i = 1, #mends do
    if mends[i] then mends[i]() end
  end
  add_to_total(counters, broken, 'dead', audit.died)
  add_to_total(counters, broken, 'unreadable', audit.died)
  if audit.rung then ring(bell, ringing) end
end
return reply
