-- audit: judge one page of a queue's structure: is each message in the one place that it belongs to. Mend what is safe.
-- USES clock, limits, record, bell, finish, tombstone
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
-- ARGV[1]  lease       default for the queue's own, in milliseconds
-- ARGV[2]  walk        the structure, by its key's name; or `unlisted`: judge the tombstones given at the end
-- ARGV[3]  cursor      where the page begins, 0 for the first one
-- ARGV[4]  count       entries of the page, about
-- ARGV[5]  fix         1: mend what was found and is safe to mend, 0: change nothing
-- ARGV[6]  who         asks for it, for the history
-- ARGV[7+] id, at   per tombstone that has no entry in `tombstones`, as far as its pages told
-- REPLY    {cursor of the next page, 0 after the last; tombstones met, as ids and times in turn (no times where they are
--          listed); then per problem {id, word, 1 when it was mended}}
local messages, states, stream, scheduled, leases, finished = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local tombstones, dead, bell, counters, config = KEYS[7], KEYS[8], KEYS[9], KEYS[10], KEYS[11]
local walk, cursor, count, fix, who = ARGV[2], ARGV[3], ARGV[4], ARGV[5] == '1', ARGV[6]
local lease = limits(config, {'lease'}, {ARGV[1]})

-- A record says where its message is; without one the head of the body does. Each problem has one walk that tells of it:
-- `states` what records and `messages` what bodies without a record lack, the others what is there and should not be.
-- Nothing is taken away before its message is where it belongs, so the walks are made in this order: states, finished,
-- dead, leases, messages, scheduled, stream, tombstones.
local now = clock()
local ringing = redis.call('LLEN', bell)
redis.call('HLEN', messages)
redis.call('HLEN', states)
redis.call('HLEN', counters)
redis.call('XLEN', stream)
redis.call('XLEN', finished)
redis.call('XLEN', tombstones)
redis.call('ZCARD', scheduled)
redis.call('ZCARD', leases)
redis.call('ZCARD', dead)

-- 1. The page.
local hashes = {messages = messages, states = states}
local zsets = {scheduled = scheduled, leases = leases, dead = dead}
local streams = {stream = stream, finished = finished, tombstones = tombstones}
local reply, ids, entries, ats = {'0', {}}, {}, {}, {}
if hashes[walk] or zsets[walk] then
  local page = hashes[walk] and redis.call('HSCAN', hashes[walk], cursor, 'COUNT', count)
    or redis.call('ZSCAN', zsets[walk], cursor, 'COUNT', count)
  local seen = {} -- a scan may give one twice
  reply[1] = page[1]
  for i = 1, #page[2], 2 do
    local id = page[2][i]
    if not seen[id] then ids[#ids + 1], seen[id] = id, true end
  end
elseif streams[walk] then
  local page = redis.call('XRANGE', streams[walk], cursor, '+', 'COUNT', count)
  if #page == tonumber(count) then reply[1] = '(' .. page[#page][1] end
  for i = 1, #page do entries[i], ids[i] = page[i][1], page[i][2][2] end
end
for i = 7, #ARGV, 2 do ids[#ids + 1], ats[#ids + 1] = ARGV[i], ARGV[i + 1] end
if walk == 'tombstones' then
  for i = 1, #ids do reply[2][2 * i - 1], reply[2][2 * i] = ids[i], '' end
  return reply
end
local bodies, texts = {}, {}
for first = 1, #ids, 500 do
  local slice = {unpack(ids, first, math.min(first + 499, #ids))}
  local some_bodies, some_texts = redis.call('HMGET', messages, unpack(slice)), redis.call('HMGET', states, unpack(slice))
  for i = 1, #slice do bodies[first + i - 1], texts[first + i - 1] = some_bodies[i], some_texts[i] end
end

-- 2. Where messages belong, and whether they are there.
local function is_entry(key, entry, id)
  local ms, sequence = string.match(entry, '^(%d+)%-(%d+)$')
  if not ms or #ms > 15 or #sequence > 15 then return false end
  local found = redis.call('XRANGE', key, entry, entry)[1]
  return found and found[2][2] == id
end

local HOMES = {I = 'leases', C = 'finished', E = 'dead'}
local function home_of(record, body)
  if record and record.status ~= 'P' then return HOMES[record.status], record.entry end
  local entry = record and record.entry or string.match(body, '^(%d+%-?%d*);?%d* ........')
  if not entry then return nil end
  return string.find(entry, '%d%-') and 'stream' or 'scheduled', entry
end

local function is_at(home, entry, id)
  if zsets[home] then return redis.call('ZSCORE', zsets[home], id) end
  return is_entry(streams[home], entry, id)
end

-- 3. How to mend. Only writes.
local rung, died = false, 0
local function take_away(id, entry)
  return function()
    if entry then redis.call('XDEL', streams[walk], entry) else redis.call('ZREM', zsets[walk], id) end
  end
end

local function put_back(id, record, due)
  return function()
    redis.call('ZREM', leases, id)
    redis.call('ZREM', scheduled, id)
    record.status = 'P'
    if due > now and due < 2 ^ 53 then
      record.at, record.entry = due, '-'
      redis.call('ZADD', scheduled, string.format('%d', due), id)
    else
      record.entry, rung = redis.call('XADD', stream, '*', 'id', id), true
    end
    redis.call('HSET', states, id, format_record(record))
  end
end

local function bring_to_an_end(id, record, entry)
  return function()
    redis.call('ZREM', leases, id)
    redis.call('ZREM', scheduled, id)
    if entry then redis.call('XDEL', stream, entry) end
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
      redis.call('ZADD', dead, string.match(record.entry, '^%d+') or string.format('%d', now), id)
    end
  end
end

local function write_record(id, status, entry)
  local record = new_record(now)
  record.status, record.entry = status, entry
  if status == 'E' then record.cause = 'unreadable' end
  return function() redis.call('HSET', states, id, format_record(record)) end
end

-- 4. Judge. Each gives a word and how to mend it, if that is safe; nothing for what is sound, or another walk's to tell.
local function judge_record(id, body, record)
  local waits, home, entry = record.status == 'P' or record.status == 'I', home_of(record)
  local there = is_at(home, entry, id)
  if waits and not body then
    return 'body-missing', bring_to_an_end(id, record, there and home == 'stream' and entry)
  elseif not there and record.status == 'P' then
    local due = tonumber(redis.call('ZSCORE', scheduled, id) or record.at)
    return 'entry-missing', put_back(id, record, due)
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
  return 'orphan', put_back(id, new_record(now), tonumber(redis.call('ZSCORE', scheduled, id) or now))
end

local ending = {}
local function judge_entry(id, entry, body, record, buried)
  if not body and not record and not buried and walk ~= 'finished' and walk ~= 'dead' then
    local again = ending[id] -- a second entry of a message that is ended already
    ending[id] = true
    return 'body-missing', bring_to_an_end(id, not again and new_record(now), entry)
  end
  if body and buried or not body and record and (record.status == 'P' or record.status == 'I') then return nil end
  if not body and not record then return walk .. '-stray', take_away(id, entry) end
  local home, home_entry = home_of(record, body)
  if not home or home == walk and (not entry or entry == home_entry) then return nil end
  if is_at(home, home_entry, id) then return walk .. '-stray', take_away(id, entry) end
  if record or walk == 'scheduled' or walk == 'stream' then return nil end
  if walk == 'leases' then return 'record-missing', put_back(id, new_record(now), now) end
  if walk == 'finished' then return 'record-missing', write_record(id, 'C', entry) end
  local died_at = math.max(0, math.min(now, tonumber(redis.call('ZSCORE', dead, id))))
  return 'record-missing', write_record(id, 'E', string.format('%d', died_at))
end

local function judge(i)
  local id, body, text = ids[i], bodies[i], texts[i]
  if #id ~= 16 then return 'id-strange' end
  local record, buried = text and parse_record(text), text and parse_tombstone(text)
  if walk == 'messages' then
    if not text then return judge_body(id, body) end
  elseif walk == 'unlisted' then
    if not buried or string.format('%d', buried.at) ~= ats[i] then return nil end
    return 'tombstone-missing', function() redis.call('XADD', tombstones, '*', 'id', id) end
  elseif walk ~= 'states' then
    if record or buried or not text then return judge_entry(id, entries[i], body, record, buried) end
  elseif record then
    return judge_record(id, body, record)
  elseif buried then
    table.insert(reply[2], id)
    table.insert(reply[2], string.format('%d', buried.at))
    if body then return 'tombstone-with-body' end
  else
    return 'record-unreadable'
  end
end

local mends = {}
for i = 1, #ids do
  local word, mend = judge(i)
  if word then
    mends[#mends + 1] = fix and mend or false
    reply[#reply + 1] = {ids[i], word, mends[#mends] and 1 or 0}
  end
end

-- 5. Mend. ZREM comes first, so that a full server lets the rest pass.
if fix and #mends > 0 then
  redis.call('ZREM', leases, '')
  for i = 1, #mends do
    if mends[i] then mends[i]() end
  end
  if died > 0 then
    redis.call('HINCRBY', counters, 'dead', died)
    redis.call('HINCRBY', counters, 'unreadable', died)
  end
  if rung then ring(bell, ringing) end
end
return reply
