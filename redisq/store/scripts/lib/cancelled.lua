-- cancelled: whether a message in progress is to be cancelled. Its history says so, which no outcome takes away, not even
-- of a worker whose redisq knows nothing of this; and its body has expired, so that nobody delivers it again.
local function is_cancelled(record)
  if record.history == '-' then return false end
  local history = ';' .. record.history
  return string.find(string.match(history, '.*(;redriven,.*)') or history, ';cancelled,', 1, true) ~= nil
end
