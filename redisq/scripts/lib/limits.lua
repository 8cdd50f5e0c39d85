-- limits: numbers of the queue's definition, in the order of `names`; the caller's defaults where it has none,
-- or what is no whole number: whatever another program wrote there, the queue goes on.
local function limits(config, names, defaults)
  local values = redis.call('HMGET', config, unpack(names))
  for i = 1, #names do
    local default = whole(defaults[i], names[i])
    values[i] = is_whole(values[i]) and tonumber(values[i]) or default
  end
  return unpack(values)
end
