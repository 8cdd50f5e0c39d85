-- page: list a page of one of a queue's lists of messages, with what is short of each. Changes nothing.
-- USES needs, arguments, priority
--
-- KEYS[1]  stream     {ns}:1:{orders}:stream
-- KEYS[2]  scheduled  {ns}:1:{orders}:scheduled
-- KEYS[3]  leases     {ns}:1:{orders}:leases
-- KEYS[4]  dead       {ns}:1:{orders}:dead
-- KEYS[5]  finished   {ns}:1:{orders}:finished
-- KEYS[6]  states     {ns}:1:{orders}:states
-- KEYS[7]  messages   {ns}:1:{orders}:messages
-- KEYS[8]  urgent     {ns}:1:{orders}:urgent
-- KEYS[9]  config     {ns}:1:{orders}:config
-- ARGV[1]  structure  by its key's name
-- ARGV[2]  cursor     where the page begins, 0 for the first one
-- ARGV[3]  limit      messages at most, <= 500
-- ARGV[4]  bytes      a body that is longer is left out, so that the reply is bounded; a record that is four times as
--          long: it may hold a traceback, and the errors of earlier attempts
-- REPLY    {cursor of the next page, 0 after the last; per message {id; time in milliseconds: when it was queued, is due,
--          lapses, died or finished; record; entry, digest and body; bytes of the latter}}, nil for what is gone or left
--          out. What is next comes first, so urgent ones before the other ready ones; of what has ended, the last
local stream, scheduled, leases, dead, finished = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local states, messages, urgent, config = KEYS[6], KEYS[7], KEYS[8], KEYS[9]
check_needs(redis.call('HGET', config, 'needs'))
local structure, cursor = ARGV[1], ARGV[2]
local limit, bytes = whole(ARGV[3], 'limit', 1, 500), whole(ARGV[4], 'bytes')

local function short(key, id, most)
  local size = redis.call('HSTRLEN', key, id)
  return size <= most and redis.call('HGET', key, id) or false, size
end

local hurried = redis.call('ZCARD', urgent) > 0
local reply = {'0'}
local function put(id, at)
  local record, body, size = short(states, id, 4 * bytes), short(messages, id, bytes)
  reply[#reply + 1] = {id, at, record, body, size}
end

local function entry_after(start)
  local ms, sequence = string.match(cursor, '^(%d+)%-(%d+)$')
  if cursor ~= '0' and not (is_whole(ms) and is_whole(sequence)) then refuse('cursor') end
  return cursor == '0' and start or '(' .. cursor
end

local function put_entry(entry) put(entry[2][2], string.match(entry[1], '^%d+')) end

-- Urgent ones first, by their number, then the others, by their entries.
local function page_of_ready()
  local room = limit
  if not string.find(cursor, '-', 1, true) then
    local first = whole(cursor, 'cursor')
    local places = redis.call('ZRANGE', urgent, string.format('%d', first), string.format('%d', first + limit - 1))
    for i = 1, #places do
      local entry, id = read_place(places[i])
      local found = id and redis.call('XRANGE', stream, entry, entry)[1] -- else an older redisq took it
      if found and found[2][2] == id then put_entry(found) end
    end
    if #places == limit then
      reply[1] = string.format('%d', first + limit)
      return
    end
    room, cursor = limit - #places, '0'
  end
  local found = redis.call('XRANGE', stream, entry_after('-'), '+', 'COUNT', room)
  for i = 1, #found do
    local listed = hurried and redis.call('ZSCORE', urgent, place_of(found[i][1], found[i][2][2]))
    if not listed then put_entry(found[i]) end
  end
  if #found == room then reply[1] = found[#found][1] end
end

local function page_of_finished()
  local found = redis.call('XREVRANGE', finished, entry_after('+'), '-', 'COUNT', limit)
  for i = 1, #found do put_entry(found[i]) end
  if #found == limit then reply[1] = found[#found][1] end
end

local function page_of_zset(key, latest_first)
  local first = whole(cursor, 'cursor')
  local last = first + limit - 1
  local from, to = first, last
  if latest_first then from, to = -1 - last, -1 - first end
  local found = redis.call('ZRANGE', key, string.format('%d', from), string.format('%d', to), 'WITHSCORES')
  local begin, finish, step = 1, #found, 2
  if latest_first then begin, finish, step = #found - 1, 1, -2 end
  for i = begin, finish, step do put(found[i], found[i + 1]) end
  if #found == 2 * limit then reply[1] = string.format('%d', last + 1) end
end

redis.call('XLEN', stream)
redis.call('ZCARD', scheduled)
redis.call('ZCARD', leases)
redis.call('ZCARD', dead)
redis.call('XLEN', finished)
redis.call('HLEN', states)
redis.call('HLEN', messages)
if structure == 'stream' then
  page_of_ready()
elseif structure == 'finished' then
  page_of_finished()
elseif structure == 'scheduled' then
  page_of_zset(scheduled, false)
elseif structure == 'leases' then
  page_of_zset(leases, false)
elseif structure == 'dead' then
  page_of_zset(dead, true)
else
  refuse('structure')
end
return reply
