-- look: list a page of one of a queue's structures: what it tells of where messages are. Changes nothing.
-- USES needs, arguments, record, tombstone, home, priority
--
-- KEYS[1]  messages    {ns}:1:{orders}:messages
-- KEYS[2]  states      {ns}:1:{orders}:states
-- KEYS[3]  stream      {ns}:1:{orders}:stream
-- KEYS[4]  scheduled   {ns}:1:{orders}:scheduled
-- KEYS[5]  leases      {ns}:1:{orders}:leases
-- KEYS[6]  finished    {ns}:1:{orders}:finished
-- KEYS[7]  tombstones  {ns}:1:{orders}:tombstones
-- KEYS[8]  dead        {ns}:1:{orders}:dead
-- KEYS[9]  urgent      {ns}:1:{orders}:urgent
-- KEYS[10] config      {ns}:1:{orders}:config
-- ARGV[1]  structure   by its key's name
-- ARGV[2]  cursor      where the page begins, 0 for the first one
-- ARGV[3]  count       entries of the page, about
-- ARGV[4]  bytes       of bodies or records that the page may read, about; at least one is read
-- ARGV[5]  slices      into which all ids are divided, by their last byte
-- ARGV[6]  slice       of which it tells, 0 for the first one
-- REPLY    {cursor of the next page, 0 after the last; places; ids about which there is doubt at once; tombstones, as ids
--          and times in turn}. A place is `<structure> <entry, in streams> <id>`: `states` and `messages` (of those without
--          a record) tell where messages belong, the others where they are. `tombstones` lists ids alone
local messages, states, stream, scheduled = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local leases, finished, tombstones, dead, urgent, config = KEYS[5], KEYS[6], KEYS[7], KEYS[8], KEYS[9], KEYS[10]
check_needs(redis.call('HGET', config, 'needs'))
local structure, cursor = ARGV[1], ARGV[2]
local count, bytes = whole(ARGV[3], 'count', 1, 500), whole(ARGV[4], 'bytes')
local slices = whole(ARGV[5], 'slices', 1)
local slice = whole(ARGV[6], 'slice', 0, slices - 1)

redis.call('HLEN', messages)
redis.call('HLEN', states)
redis.call('XLEN', stream)
redis.call('XLEN', finished)
redis.call('XLEN', tombstones)
redis.call('ZCARD', scheduled)
redis.call('ZCARD', leases)
redis.call('ZCARD', dead)
redis.call('ZCARD', urgent)

local places, doubtful, buried_ids = {}, {}, {}

local function is_of_slice(id)
  return slices == 1 or (string.byte(id, -1) or 0) % slices == slice
end

local function place(home, entry, id)
  places[#places + 1] = home .. ' ' .. entry .. ' ' .. id
end

local function place_ready(home, entry, id, priority)
  place(home, entry, id)
  if home == 'stream' and priority > 0 then place('urgent', entry, id) end
end

local HEAD = 8192 -- a record is longer only by its payload, which need not be copied
local function look_at_record(id, text)
  local head = #text > HEAD and string.sub(text, 1, HEAD) or text
  local record = parse_record(head)
  local buried = not record and parse_tombstone(head)
  local body = redis.call('HEXISTS', messages, id) == 1
  if record and (body or record.cause == 'unreadable' and (record.status == 'C' or record.status == 'E')) then
    local home, entry = home_of(record)
    return place_ready(home, entry, id, record.priority)
  end
  if buried then
    table.insert(buried_ids, id)
    table.insert(buried_ids, string.format('%d', buried.at))
  end
  if not buried or body then doubtful[#doubtful + 1] = id end
end

local function look_at_body(id, body)
  if redis.call('HEXISTS', states, id) == 1 then return end
  local home, entry = home_of(nil, body)
  if home then place_ready(home, entry, id, priority_in(body)) else doubtful[#doubtful + 1] = id end
end

-- A hash gives values, too, whose sizes are not known before. So the first step is the smallest, and each next one twice as
-- large, but no larger than what was met until then leads to expect, and than leaves few chances of many large ones.
local STEP = 16
local function look_over_hash(key, look_at)
  local asked, met, read, step = 0, 0, 0, 1
  repeat
    local found = redis.call('HSCAN', key, cursor, 'COUNT', step)
    cursor, asked = found[1], asked + step
    for i = 1, #found[2], 2 do
      local id, value = found[2][i], found[2][i + 1]
      read = read + #value
      if #id ~= 16 and is_of_slice(id) then
        doubtful[#doubtful + 1] = id
      elseif is_of_slice(id) then
        look_at(id, value)
      end
    end
    met = met + #found[2] / 2
    local room = read > 0 and math.floor((bytes - read) * met / read) or count
    step = math.min(2 * step, STEP, count - math.max(asked, met), room)
  until cursor == '0' or step < 1
end

local function look_over_zset(key)
  local found = redis.call('ZSCAN', key, cursor, 'COUNT', count)
  cursor = found[1]
  for i = 1, #found[2], 2 do
    if is_of_slice(found[2][i]) then place(structure, '', found[2][i]) end
  end
end

local function look_over_stream(key)
  local found = redis.call('XRANGE', key, cursor, '+', 'COUNT', count)
  cursor = #found == count and '(' .. found[#found][1] or '0'
  for i = 1, #found do
    local entry, id = found[i][1], found[i][2][2]
    if is_of_slice(id) then
      if key == tombstones then places[#places + 1] = id else place(structure, entry, id) end
    end
  end
end

local function look_over_urgent()
  local found = redis.call('ZSCAN', urgent, cursor, 'COUNT', count)
  cursor = found[1]
  for i = 1, #found[2], 2 do
    local entry, id = read_place(found[2][i])
    if not id then
      doubtful[#doubtful + 1] = found[2][i]
    elseif is_of_slice(id) then
      place('urgent', entry, id)
    end
  end
end

local zsets = {scheduled = scheduled, leases = leases, dead = dead}
local streams = {stream = stream, finished = finished, tombstones = tombstones}
if structure == 'states' then
  look_over_hash(states, look_at_record)
elseif structure == 'messages' then
  look_over_hash(messages, look_at_body)
elseif structure == 'urgent' then
  look_over_urgent()
elseif zsets[structure] then
  look_over_zset(zsets[structure])
elseif streams[structure] then
  look_over_stream(streams[structure])
else
  refuse('structure')
end
return {cursor, places, doubtful, buried_ids}
