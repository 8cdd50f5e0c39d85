-- priority: the urgent messages are the ready ones that have a priority, 1 to 9, the larger first. The stream says what
-- is ready, and has their entries, too: this is only the order in which they are claimed before all others. What stands
-- here and is no longer ready, because an older redisq took it from the stream, is passed over by the next claim, and goes.
--
-- A member is <milliseconds, 15 digits><sequence, 15 digits><id>, by its entry: those of one score, 9 - priority, are in the
-- order of the stream. The priority stands in the head of the body, where there is one: <entry>;<expires>;<priority>.
local function priority_in(body)
  return tonumber(string.match(body, '^[%d-]+;%d+;(%d) ') or 0)
end

local function place_of(entry, id)
  local ms, sequence = string.match(entry, '^(%d+)%-(%d+)$')
  return string.format('%015d%015d', ms, sequence) .. id
end

-- Entry and id, nil when it is no place: another program's.
local function read_place(place)
  if #place ~= 46 or not string.find(place, '^' .. string.rep('%d', 30)) then return nil end
  local ms, sequence = tonumber(string.sub(place, 1, 15)), tonumber(string.sub(place, 16, 30))
  return string.format('%d-%d', ms, sequence), string.sub(place, 31)
end

local function be_urgent(urgent, entry, id, priority)
  redis.call('ZADD', urgent, 9 - priority, place_of(entry, id))
end

local function make_ready(stream, urgent, id, priority)
  local entry = redis.call('XADD', stream, '*', 'id', id)
  if priority > 0 then be_urgent(urgent, entry, id, priority) end
  return entry
end
