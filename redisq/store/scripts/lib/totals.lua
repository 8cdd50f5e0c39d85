-- totals: running totals in `counters`. HINCRBY would fail at one that is no number, which another program wrote, half-way
-- through a script: `broken_totals` finds those before the first write, and `add_to_total` begins them anew.
local function broken_totals(counters, names)
  local values, broken = redis.call('HMGET', counters, unpack(names)), {}
  for i = 1, #names do
    broken[names[i]] = values[i] and not (is_whole(values[i]) and string.find(values[i], '^[1-9]')) and values[i] ~= '0'
  end
  return broken
end

local function add_to_total(counters, broken, name, count)
  if count == 0 then return end
  if broken[name] then redis.call('HSET', counters, name, count) else redis.call('HINCRBY', counters, name, count) end
end
