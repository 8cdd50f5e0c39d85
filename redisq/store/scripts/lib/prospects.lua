-- prospects: when there may be something to claim.
local function first_of(zset)
  return tonumber(redis.call('ZRANGE', zset, 0, 0, 'WITHSCORES')[2])
end

-- Milliseconds until there may be something for this worker, -1 when nothing is in sight. Suspects that it has no room for
-- (`left`) stay overdue until another takes them or one of its own ends; what has just lapsed gives its holder a moment.
local function pause(claim, left, first_lease, first_due)
  local now, lapsed_by = claim.now, claim.lapsed_by
  local soonest = first_due and math.max(0, first_due - now) or math.huge
  if lapsed_by > 0 and left > 0 then
    soonest = math.min(soonest, 100)
  elseif lapsed_by > 0 and first_lease and first_lease <= now and first_lease > lapsed_by then
    soonest = math.min(soonest, 1000, math.ceil(claim.lease / 3))
  elseif lapsed_by > 0 and first_lease then
    soonest = math.min(soonest, math.max(0, first_lease - now))
  end
  return soonest < math.huge and soonest or -1
end
