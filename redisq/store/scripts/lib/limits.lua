-- limits: numbers of the queue's definition, in the order of `names`; the caller's defaults where it has none,
-- or what is no whole number: whatever another program wrote there, the queue goes on. What it needs is checked, too.
local function limits(config, names, defaults)
  local count = #names
  names[count + 1] = 'needs'
  local values = redis.call('HMGET', config, unpack(names))
  if values[count + 1] then check_needs(values[count + 1]) end
  for i = 1, count do -- without a call for each that defines nothing: every script comes here
    local own, default = values[i], defaults[i]
    if not default or #default > 15 or not string.find(default, '^%d+$') then refuse(names[i]) end
    values[i] = tonumber(own and is_whole(own) and own or default)
  end
  return unpack(values, 1, count)
end
