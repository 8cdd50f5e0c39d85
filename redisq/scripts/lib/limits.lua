-- limits: numbers of the queue's definition, in the order of `names`; the caller's defaults where it has none,
-- or what is no number: a script must not stumble over that half-way.
local function limits(config, names, defaults)
  local values = redis.call('HMGET', config, unpack(names))
  for i = 1, #names do
    values[i] = tonumber(values[i]) or tonumber(defaults[i])
  end
  return unpack(values)
end
