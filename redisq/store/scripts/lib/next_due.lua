-- next_due: milliseconds until the first of `zset` is due (0 when overdue), nil when it is empty.
local function next_due(zset, now)
  local first = redis.call('ZRANGE', zset, 0, 0, 'WITHSCORES')
  return first[2] and math.max(0, tonumber(first[2]) - now)
end
