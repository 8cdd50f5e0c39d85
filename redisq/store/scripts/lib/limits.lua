-- limits: numbers of the queue's definition, in the order of `names`; the caller's defaults where it has none,
-- or what is no whole number: whatever another program wrote there, the queue goes on.
local function limits(config, names, defaults)
  local values = redis.call('HMGET', config, unpack(names))
  for i = 1, #names do -- without a call for each that defines nothing: every script comes here
    local own, default = values[i], defaults[i]
    if not default or #default > 15 or not string.find(default, '^%d+$') then refuse(names[i]) end
    values[i] = tonumber(own and is_whole(own) and own or default)
  end
  return unpack(values)
end
