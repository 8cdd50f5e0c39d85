-- candidates: what a claim may hand out: lapsed leases, then urgent ones, ready ones, due ones. Of each it knows where it
-- was met last (`sources`) and its entry there (`taken_from`); `at` is where an id is among `ids`.
local function candidate(claim, id, source, entry)
  local i = claim.at[id] or #claim.ids + 1
  claim.ids[i], claim.at[id], claim.sources[i], claim.taken_from[i] = id, i, source, entry or false
end

-- Of lapsed leases only those that there is room for, and those that end now: not all bodies are read.
-- Gives how many suspects are left for want of room.
local function add_lapsed(claim, leases, states, overdue_by)
  local suspects = redis.call('ZRANGEBYSCORE', leases, '-inf', overdue_by, 'LIMIT', 0, claim.count + 100)
  local texts = #suspects > 0 and redis.call('HMGET', states, unpack(suspects)) or {}
  local room, alone, fitting, left = claim.room, claim.alone, 0, 0
  for i = 1, #suspects do
    local record = texts[i] and parse_record(texts[i]) or new_record(claim.now)
    local suspect, _, guilty = lapse(record, claim.max_lost)
    if guilty or is_cancelled(record) then
      candidate(claim, suspects[i], 'lapsed')
    elseif fitting < claim.count and (suspect == 1 and room >= 1 or suspect == 2 and alone) then
      candidate(claim, suspects[i], 'lapsed')
      fitting = fitting + 1
      room, alone = suspect == 2 and 0 or room - 1, false
    elseif fitting < claim.count then
      left = left + 1
    end
  end
  return left
end

-- Gives the places themselves, and whose they are: false for what is none.
local function add_urgent(claim, urgent)
  local places, placed = redis.call('ZRANGE', urgent, 0, claim.count - 1), {}
  for i = 1, #places do
    local entry, id = read_place(places[i])
    placed[i] = id or false
    if id then candidate(claim, id, 'urgent', entry) end
  end
  return places, placed
end

-- Beside urgent ones only as many as there may be room for: not all bodies are read.
local function add_ready(claim, entries, most)
  for i = 1, #entries do
    local id = entries[i][2][2]
    if #claim.ids < most or claim.at[id] then candidate(claim, id, 'ready', entries[i][1]) end
  end
end
