-- clock: the server's time in integer milliseconds, the only clock that leases, delays and retention know.
local function clock()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
