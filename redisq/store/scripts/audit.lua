-- audit: judge messages in doubt: is each in the one place that it belongs to, at this moment. Mend what is safe to mend.
-- USES clock, arguments, limits, record, bell, finish, tombstone, totals, home, urgent
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
if not (hashes[structure] or zsets[structure] or streams[structure] or structure == 'urgent') then refuse('structure') end

local read = 0
local function value_of(key, id)
  local value = redis.call('HGET', key, id)
  read = read + (value and #value or 0)
  return value
end

-- 1. Where messages are.
local function is_entry(key, entry, id)
  local found = entry_of(entry) and redis.call('XRANGE', key, entry, entry)[1]
  return found and found[2][2] == id
end

local function is_at(home, entry, id)
  if zsets[home] then return redis.call('ZSCORE', zsets[home], id) end
  return is_entry(streams[home], entry, id)
end

-- 2. How to mend. Only writes.
local rung, died = false, 0
local function take_away(id, entry)
  return function()
    if entry then redis.call('XDEL', streams[structure], entry) else redis.call('ZREM', zsets[structure], id) end
  end
end

local function displace(id, entry)
  if entry and entry_of(entry) then redis.call('ZREM', urgent, place_of(entry, id)) end
end

local function put_back(id, record, due, entry)
  return function()
    redis.call('ZREM', leases, id)
    redis.call('ZREM', scheduled, id)
    displace(id, entry)
    record.status = 'P'
    if due > now and due < 2 ^ 53 then
      record.at, record.entry = due, '-'
      redis.call('ZADD', scheduled, string.format('%d', due), id)
    else
      record.entry, rung = make_ready(stream, urgent, id, record.priority), true
    end
    redis.call('HSET', states, id, format_record(record))
  end
end

local function bring_to_an_end(id, record, entry)
  return function()
    redis.call('ZREM', leases, id)
    redis.call('ZREM', scheduled, id)
    if entry then
      redis.call('XDEL', stream, entry)
      displace(id, entry)
    end
    if record then
      note(record, 'unreadable', now, who)
      record.status, record.cause, record.payload, died = 'E', 'unreadable', '', died + 1
      finish(states, finished, dead, {{id, record}}, now)
    end
  end
end

local function list(id, record)
  return function()
    if record.status == 'I' then
      redis.call('ZADD', leases, string.format('%d', now + lease), id) -- a live worker goes on, from a dead one it is taken
    elseif record.status == 'C' then
      record.entry = redis.call('XADD', finished, '*', 'id', id)
      redis.call('HSET', states, id, format_record(record))
    else
      redis.call('ZADD', dead, string.format('%d', ended_at(record) or now), id)
    end
  end
end

local function anew(at, body)
  local record = new_record(at)
  record.priority = body and priority_in(body) or 0
  return record
end

local function write_record(id, status, entry, ready_entry)
  local record = new_record(now)
  record.status, record.entry = status, entry
  if status == 'E' then record.cause = 'unreadable' end
  return function()
    displace(id, ready_entry)
    redis.call('HSET', states, id, format_record(record))
  end
end

-- 3. Judge. Each gives a word and how to mend it, if that is safe; nothing for what is sound,
-- or is told of those who were met elsewhere.
local function judge_record(id, body, record)
  local waits, home, entry = record.status == 'P' or record.status == 'I', home_of(record)
  local there = is_at(home, entry, id)
  if waits and not body then
    return 'body-missing', bring_to_an_end(id, record, there and home == 'stream' and entry)
  elseif not there and record.status == 'P' then
    local due = tonumber(redis.call('ZSCORE', scheduled, id) or record.at)
    return 'entry-missing', put_back(id, record, due, entry)
  elseif not there then
    local words = {leases = 'lease-missing', finished = 'finished-missing', dead = 'dead-missing'}
    return words[home], list(id, record)
  elseif not body and record.cause ~= 'unreadable' then
    return 'request-missing'
  end
end

local function judge_body(id, body)
  local home, entry = home_of(nil, body)
  if not home then return 'body-damaged' end
  if is_at(home, entry, id) or redis.call('ZSCORE', leases, id) or redis.call('ZSCORE', dead, id) then return nil end
  return 'orphan', put_back(id, anew(now, body), tonumber(redis.call('ZSCORE', scheduled, id) or now), entry)
end

local ending = {}
local function judge_entry(id, entry, body, record, buried)
  if not body and not record and not buried and structure ~= 'finished' and structure ~= 'dead' then
    local again = ending[id] -- a second entry of a message that is ended already
    ending[id] = true
    return 'body-missing', bring_to_an_end(id, not again and new_record(now), entry)
  end
  if body and buried or not body and record and (record.status == 'P' or record.status == 'I') then return nil end
  if not body and not record then return structure .. '-stray', take_away(id, entry) end
  local home, home_entry = home_of(record, body)
  if not home then return nil end
  if is_at(home, home_entry, id) then return structure .. '-stray', take_away(id, entry) end
  if record or structure == 'scheduled' or structure == 'stream' then return nil end
  if structure == 'leases' then return 'record-missing', put_back(id, anew(now, body), now, home_entry) end
  if structure == 'finished' then return 'record-missing', write_record(id, 'C', entry, home_entry) end
  local died_at = math.max(0, math.min(now, tonumber(redis.call('ZSCORE', dead, id))))
  return 'record-missing', write_record(id, 'E', string.format('%d', died_at), home_entry)
end

local function judge_tombstone(id, buried, at)
  if not buried or string.format('%d', buried.at) ~= at then return nil end
  return 'tombstone-missing', function() redis.call('XADD', tombstones, '*', 'id', id) end
end

local function judge_place(id, at, text, body, record, buried)
  if #id ~= 16 then
    if redis.call('ZSCORE', urgent, id) then return 'id-strange' end
    return nil
  end
  if text and not record and not buried then return nil end
  local home, entry, priority = nil, nil, 0
  if record then
    home, entry = home_of(record)
    priority = record.priority
  elseif body and not buried then
    home, entry = home_of(nil, body)
    priority = priority_in(body)
  end
  local belongs = home == 'stream' and priority > 0
  if at ~= '' then
    local place = entry_of(at) and place_of(at, id)
    if not place or not redis.call('ZSCORE', urgent, place) or belongs and entry == at then return nil end
    return 'urgent-stray', function() redis.call('ZREM', urgent, place) end
  elseif belongs and is_entry(stream, entry, id) and not redis.call('ZSCORE', urgent, place_of(entry, id)) then
    return 'urgent-missing', function() redis.call('ZADD', urgent, 9 - priority, place_of(entry, id)) end
  end
end

local function is_home(at, body, record, buried)
  if buried or not (record or body) then return false end
  local home, entry = home_of(record, body)
  return home == structure and entry == at
end

local function judge(id, at)
  local text = value_of(states, id)
  local record, buried = text and parse_record(text), text and parse_tombstone(text)
  if structure == 'tombstones' then return judge_tombstone(id, buried, at) end
  local body
  if record or buried then body = redis.call('HEXISTS', messages, id) == 1 else body = value_of(messages, id) end
  if structure == 'urgent' then return judge_place(id, at, text, body, record, buried) end
  local there -- most have only arrived, or moved on, since they were met
  if structure == 'states' then
    there = text
  elseif structure == 'messages' then
    there = body
  else
    there = not is_home(at, body, record, buried) and is_at(structure, at, id)
  end
  if not there then return nil end
  if #id ~= 16 then return 'id-strange' end
  if structure == 'messages' then
    if not text then return judge_body(id, body) end
  elseif structure ~= 'states' then
    if record or buried or not text then return judge_entry(id, at ~= '' and at, body, record, buried) end
  elseif record then
    return judge_record(id, body, record)
  elseif not buried then
    return 'record-unreadable'
  elseif body then
    return 'tombstone-with-body'
  end
end

local reply, mends = {0}, {}
for i = 6, #ARGV, 2 do
  local word, mend = judge(ARGV[i], ARGV[i + 1])
  if word then
    mends[#mends + 1] = fix and mend or false
    reply[#reply + 1] = {ARGV[i], word, mends[#mends] and 1 or 0}
  end
  reply[1] = reply[1] + 1
  if read > bytes then break end
end

-- 4. Mend. ZREM comes first, so that a full server lets the rest pass.
if fix and #mends > 0 then
  redis.call('ZREM', leases, '')
  for i = 1, #mends do
    if mends[i] then mends[i]() end
  end
  add_to_total(counters, broken, 'dead', died)
  add_to_total(counters, broken, 'unreadable', died)
  if rung then ring(bell, ringing) end
end
return reply
