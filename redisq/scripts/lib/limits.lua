-- limits: numbers of the queue's definition, in the order of `names`; the caller's defaults where it has none.
local function limits(config, names, defaults)
  local values = redis.call('HMGET', config, unpack(names))
  for i = 1, #names do
    values[i] = tonumber(values[i] or defaults[i])
  end
  return unpack(values)
end
