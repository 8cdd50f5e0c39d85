-- claim: hand messages to a worker: lapsed leases first, then what is ready, by priority; due messages join the ready ones.
-- USES clock, arguments, limits, totals, record, home, lapse, bell, finish, urgent, tombstone, sweep
--
-- KEYS[1]  stream      {ns}:1:{orders}:stream
-- KEYS[2]  messages    {ns}:1:{orders}:messages
-- KEYS[3]  states      {ns}:1:{orders}:states
-- KEYS[4]  scheduled   {ns}:1:{orders}:scheduled
-- KEYS[5]  leases      {ns}:1:{orders}:leases
-- KEYS[6]  workers     {ns}:1:{orders}:workers
-- KEYS[7]  bell        {ns}:1:{orders}:bell
-- KEYS[8]  counters    {ns}:1:{orders}:counters
-- KEYS[9]  config      {ns}:1:{orders}:config
-- KEYS[10] finished    {ns}:1:{orders}:finished
-- KEYS[11] tombstones  {ns}:1:{orders}:tombstones
-- KEYS[12] dead        {ns}:1:{orders}:dead
-- KEYS[13] urgent      {ns}:1:{orders}:urgent
-- ARGV[1]  lease         default for the queue's own, in milliseconds
-- ARGV[2]  max_lost      default for the queue's own: how often a message may be charged with a lapsed lease
-- ARGV[3]  retention     default for the queue's own, in milliseconds
-- ARGV[4]  window        default for the queue's own deduplication window, in milliseconds
-- ARGV[5]  dead          default for the queue's own retention of dead letters, in milliseconds
-- ARGV[6]  worker        name of the claiming worker
-- ARGV[7]  nonce         of this claim; a repeat of the worker's last claim is answered with the same deliveries
-- ARGV[8]  count         messages at most, <= 500
-- ARGV[9]  lapsed        take over the leases that had lapsed by then, in milliseconds since 1970; 0: none. The worker has
--                        seen that time for a while: until then their holders could have renewed them
-- ARGV[10] room          how many suspects more the worker may hold at once
-- ARGV[11] alone         1: it holds no suspect now, so it may take one that shares its worker with no other
-- ARGV[12] bytes         of bodies to hand out, about; what there is beyond that is left for the next claim
-- ARGV[13] skip          may be left out. Of a repeat: how many of the first claim's deliveries to pass over
-- REPLY    {lease in milliseconds; milliseconds until the next message is due or lease lapses, -1 for none, 0 to claim
--          again at once, -1 - n for a repeat after which n deliveries of the first claim are left; how many of the
--          deliveries, the first ones, are suspects; 1 when it is one that may share its worker with no other; the time
--          in milliseconds; then per delivery id, attempt, body}
local stream, messages, states, scheduled, leases, workers = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local bell, counters, config, finished, tombstones, dead = KEYS[7], KEYS[8], KEYS[9], KEYS[10], KEYS[11], KEYS[12]
local urgent = KEYS[13]
local worker, nonce, count, lapsed_by = ARGV[6], ARGV[7], whole(ARGV[8], 'count', 1, 500), whole(ARGV[9], 'lapsed')
local room, alone, bytes = whole(ARGV[10], 'room'), whole(ARGV[11], 'alone', 0, 1) == 1, whole(ARGV[12], 'bytes')
local skip = ARGV[13] and whole(ARGV[13], 'skip') or 0
check_name(worker, 'worker')
check_name(nonce, 'nonce')
local lease, max_lost, retention, window, dead_retention, paused = limits(
  config, {'lease', 'max_lost', 'retention', 'dedup_window', 'dead_retention', 'paused'},
  {ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], '0'})

local now = clock()
local reply = {lease, -1, 0, 0, now}

-- 1. A repeated claim: what it was given and still holds. In parts, where one reply with all of it does not get through.
local last = redis.call('HGET', workers, worker)
if last and string.sub(last, 1, #nonce + 1) == nonce .. ' ' then
  local given = string.match(last, '^%S+ %d+ (.*)$') or ''
  for at = 16 * skip + 1, math.min(16 * (skip + count), #given - #given % 16), 16 do
    local id = string.sub(given, at, at + 15)
    local text, body = redis.call('HGET', states, id), redis.call('HGET', messages, id)
    local record = text and parse_record(text)
    if body and record and record.status == 'I' and record.nonce == nonce then
      if record.suspect > 0 then reply[3], reply[4] = reply[3] + 1, record.suspect - 1 end
      reply[#reply + 1], reply[#reply + 2], reply[#reply + 3] = id, record.attempt, body
    end
  end
  local rest = math.floor(#given / 16) - skip - count
  reply[2] = rest > 0 and -1 - rest or 0
  return reply
end
if paused == 1 then return reply end

local function first_of(zset)
  return tonumber(redis.call('ZRANGE', zset, 0, 0, 'WITHSCORES')[2])
end

-- Milliseconds until there may be something for this worker, -1 when nothing is in sight. Suspects that it has no room for
-- (`left`) stay overdue until another takes them or one of its own ends; what has just lapsed gives its holder a moment.
local function pause(left, first_lease, first_due)
  local soonest = first_due and math.max(0, first_due - now) or math.huge
  if lapsed_by > 0 and left > 0 then
    soonest = math.min(soonest, 100)
  elseif lapsed_by > 0 and first_lease and first_lease <= now and first_lease > lapsed_by then
    soonest = math.min(soonest, 1000, math.ceil(lease / 3))
  elseif lapsed_by > 0 and first_lease then
    soonest = math.min(soonest, math.max(0, first_lease - now))
  end
  return soonest < math.huge and soonest or -1
end

-- 2. What there is: lapsed leases, due messages, ready entries.
--    Of lapsed ones only those that there is room for, and those that have lapsed too often: not all bodies are read.
local overdue_by, lapsed, left = math.min(now, lapsed_by), {}, 0
local first_lease, first_due = first_of(leases), first_of(scheduled)
local entries, ringing = redis.call('XRANGE', stream, '-', '+', 'COUNT', count), redis.call('LLEN', bell)
if #entries == 0 and not (first_due and first_due <= now) and not (first_lease and first_lease <= overdue_by) then
  reply[2] = pause(0, first_lease, first_due) -- nothing, which idle workers ask for again and again: it costs few commands
  if ringing > 0 then redis.call('DEL', bell) end
  return reply
end
local suspects = first_lease and first_lease <= overdue_by
  and redis.call('ZRANGEBYSCORE', leases, '-inf', overdue_by, 'LIMIT', 0, count + 100) or {}
local suspected = #suspects > 0 and redis.call('HMGET', states, unpack(suspects)) or {}
local room_left, alone_left, fitting = room, alone, 0
for i = 1, #suspects do
  local suspect, _, guilty = lapse(suspected[i] and parse_record(suspected[i]) or new_record(now), max_lost)
  if guilty then
    lapsed[#lapsed + 1] = suspects[i]
  elseif fitting < count and (suspect == 1 and room_left >= 1 or suspect == 2 and alone_left) then
    lapsed[#lapsed + 1], fitting = suspects[i], fitting + 1
    room_left, alone_left = suspect == 2 and 0 or room_left - 1, false
  elseif fitting < count then
    left = left + 1
  end
end
local promoted = first_due and first_due <= now
  and redis.call('ZRANGEBYSCORE', scheduled, '-inf', now, 'LIMIT', 0, count) or {}
local ready = redis.call('XLEN', stream)
redis.call('HLEN', counters)
local due = overdue(messages, states, finished, tombstones, dead, now, retention, window, dead_retention, 4)

local ids, at, sources, taken_from = {}, {}, {}, {} -- at: where an id is among them; what comes later about one counts
local function candidate(id, source, entry)
  local i = at[id] or #ids + 1
  ids[i], at[id], sources[i], taken_from[i] = id, i, source, entry or false
end
for i = 1, #lapsed do candidate(lapsed[i], 'lapsed') end
local places, placed = redis.call('ZRANGE', urgent, 0, count - 1), {} -- placed: whose places these are
for i = 1, #places do
  local entry, id = read_place(places[i])
  placed[i] = id or false
  if id then candidate(id, 'urgent', entry) end
end
for i = 1, #entries do -- beside urgent ones only as many as there may be room for: not all bodies are read
  if #ids < #lapsed + count or at[entries[i][2][2]] then candidate(entries[i][2][2], 'ready', entries[i][1]) end
end
for i = 1, #promoted do candidate(promoted[i], 'due') end
if #ids == 0 and #due.messages + #due.tombstones == 0 then
  reply[2] = pause(left, first_lease, first_due)
  if ringing > 0 then redis.call('DEL', bell) end
  return reply
end

-- 3. Decide: delivered now, ended, or moved to the stream until a slot is free.
--    Due ones are read in turn with the others: a backlog that uses up the bytes of every claim would keep them out.
local asked, turns, least = ids, {}, 1 -- turns: where those asked for are among `ids`
if #promoted > 0 then
  local others, joining = {}, {}
  for i = 1, #ids do table.insert(sources[i] == 'due' and joining or others, i) end
  for n = 1, math.max(#others, #joining) do
    turns[#turns + 1] = others[n]
    turns[#turns + 1] = joining[n]
  end
  asked, least = {}, 2
  for n = 1, #turns do asked[n] = ids[turns[n]] end
end

--    Of sizes only the first is known before bodies are read. So a few come first, and each time no more than four times as
--    many, nor than what was met until then leads to expect. Those that are not read any more stay where they are.
local bodies, texts, met, read = {}, {}, 0, 0
local size = #ids > 1 and redis.call('HSTRLEN', messages, asked[1]) or 0
local step = size * 10 <= bytes and 10 or math.max(1, math.floor(bytes / size))
while met < #ids and (met < least or read < bytes) do
  local slice = {unpack(asked, met + 1, math.min(met + step, #ids))}
  local some_bodies, some_texts = redis.call('HMGET', messages, unpack(slice)), redis.call('HMGET', states, unpack(slice))
  for n = 1, #slice do
    met, read = met + 1, read + (some_bodies[n] and #some_bodies[n] or 0)
    local i = turns[met] or met
    bodies[i], texts[i] = some_bodies[n], some_texts[n]
  end
  step = math.max(1, math.min(4 * step, 500, read > 0 and math.floor((bytes - read) * met / read) or 500))
end

-- The order in which they are looked at: as they came, but a due one that has a priority before ready ones of a lower.
local order, hurry, due_ids = {}, false, {}
for n = 1, met do
  local i = turns[n] or n
  order[n] = i
  if sources[i] == 'due' then
    due_ids[#due_ids + 1] = ids[i]
    hurry = hurry or bodies[i] and priority_in(bodies[i]) > 0
  end
end
if #promoted > 0 then table.sort(order) end
if hurry then
  local found = order
  order = {}
  for rank = 10, 0, -1 do
    for n = 1, #found do
      local i = found[n]
      local own = sources[i] == 'lapsed' and 10 or bodies[i] and priority_in(bodies[i]) or 0
      if own == rank then order[#order + 1] = i end
    end
  end
end
local delivered, deadlines, records, ended, moved, taken = {}, {}, {}, {}, {}, {}
local lost, unreadable, displaced = 0, 0, {} -- displaced: ids that have no place among the urgent ones any more
local function dies(i, record, cause)
  record.status, record.cause = 'E', cause
  if cause ~= 'expired' then record.payload = '' end -- else the error of its last attempt tells more
  if sources[i] ~= 'lapsed' then record.at = 0 end -- it waited: when its last delivery began is not known any more
  ended[#ended + 1], displaced[ids[i]] = {ids[i], record}, true
  if taken_from[i] then taken[#taken + 1] = taken_from[i] end
end
local function is_delivered(i, attempt, text)
  local id, n, last = ids[i], #delivered + 1, #reply
  delivered[n], deadlines[2 * n - 1], deadlines[2 * n], records[2 * n - 1], records[2 * n] = id, now + lease, id, id, text
  reply[last + 1], reply[last + 2], reply[last + 3], displaced[id] = id, attempt, bodies[i], true
  if taken_from[i] then taken[#taken + 1] = taken_from[i] end
end
local function begin(record, source)
  record.status, record.attempt, record.nonce = 'I', string.format('%d', record.attempt + 1), nonce
  if source == 'lapsed' then note(record, 'reclaimed', now, worker) else record.suspect = math.min(record.suspect, 1) end
  record.at, record.entry, record.payload = now, worker, ''
  return format_record(record)
end
local function is_astray(i, record) -- what is ready by `urgent` alone may have been taken from the stream
  local home, entry = home_of(record, bodies[i] or '')
  return sources[i] == 'urgent' and not (home == 'stream' and entry == taken_from[i])
end
local fresh -- the record of a message that is delivered for the first time: it is the same for all of this claim
for n = 1, #order do
  local i = order[n]
  local body, source = bodies[i], sources[i]
  local expires, priority = string.match(body or '', '^[%d-]+;(%d+);?(%d?) ')
  local expired = expires and expires ~= '0' and tonumber(expires) <= now
  if body and not texts[i] and source == 'ready' and not expired and (not priority or priority == '') then
    if #delivered < count then
      fresh = fresh or begin(new_record(now), source)
      is_delivered(i, '1', fresh)
    end
  elseif is_astray(i, texts[i] and parse_record(texts[i])) then
    displaced[ids[i]] = true
  else
    local record = texts[i] and parse_record(texts[i]) or new_record(now)
    record.priority = tonumber(priority) or 0
    local suspect, charge, guilty = 0, 0, false
    if source == 'lapsed' then suspect, charge, guilty = lapse(record, max_lost) end
    local fits = suspect == 0 or (#delivered < count and (suspect == 1 and room >= 1 or suspect == 2 and alone))
    if source == 'lapsed' and (fits or guilty or expired or not body) then
      note(record, 'lost', now, record.entry)
      record.suspect, record.lost, record.cause, record.payload, lost = suspect, charge, 'lost', '', lost + 1
    end
    if not body then
      note(record, 'unreadable', now, worker)
      dies(i, record, 'unreadable')
      unreadable = unreadable + 1
    elseif guilty then
      dies(i, record, 'lost')
    elseif expired then
      note(record, 'expired', now, worker)
      dies(i, record, 'expired')
    elseif not fits then
      if #delivered < count then left = left + 1 end
    elseif #delivered < count then
      local text = begin(record, source)
      is_delivered(i, record.attempt, text)
      if suspect > 0 then
        reply[3], reply[4] = reply[3] + 1, suspect - 1
        room, alone = suspect == 2 and 0 or room - 1, false
      end
    elseif source == 'due' then
      record.status, record.at = 'P', now
      moved[#moved + 1], displaced[ids[i]] = {id = ids[i], record = record}, true
    end
  end
end

local broken = lost + #ended > 0 and broken_totals(counters, {'lost', 'dead', 'unreadable'})

-- 4. Write. ZREM comes first, so that a full server lets the rest pass.
redis.call('ZREM', scheduled, unpack(#due_ids > 0 and due_ids or {''}))
for i = 1, #ended do redis.call('ZREM', leases, ended[i][1]) end
local ms, sequence = string.match(#entries > 0 and entries[#entries][1] or '', '^(%d+)%-(%d+)$')
local removed = 0
if ms and #taken == #entries and #places == 0 and #sequence <= 15 then -- all from the first on: XDEL would look for each
  removed = redis.call('XTRIM', stream, 'MINID', ms .. '-' .. string.format('%d', sequence + 1))
elseif #taken > 0 then
  removed = redis.call('XDEL', stream, unpack(taken))
end
local gone = {}
for i = 1, #places do
  if not placed[i] or displaced[placed[i]] then gone[#gone + 1] = places[i] end
end
if #gone > 0 then redis.call('ZREM', urgent, unpack(gone)) end
finish(states, finished, dead, ended, now)
for i = 1, #moved do
  moved[i].record.entry = make_ready(stream, urgent, moved[i].id, moved[i].record.priority)
  redis.call('HSET', states, moved[i].id, format_record(moved[i].record))
end
if #delivered > 0 then
  redis.call('ZADD', leases, unpack(deadlines))
  redis.call('HSET', states, unpack(records))
  redis.call('HSET', workers, worker, nonce .. ' ' .. string.format('%d', now) .. ' ' .. table.concat(delivered))
end
add_to_total(counters, broken, 'lost', lost)
add_to_total(counters, broken, 'dead', #ended)
add_to_total(counters, broken, 'unreadable', unreadable)
forget(messages, states, finished, tombstones, dead, due)

-- 5. Ring on while something is left, else silence the bell.
if ready - removed + #moved > 0 then
  ring(bell, ringing)
  reply[2] = 0
else
  if ringing > 0 then redis.call('DEL', bell) end
  reply[2] = pause(left, first_of(leases), first_of(scheduled))
end
return reply
