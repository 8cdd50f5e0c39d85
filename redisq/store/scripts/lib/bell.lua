-- bell: wake one idle worker. The list never holds more than one element; `ringing` is its length, read before writing.
local function ring(bell, ringing)
  if ringing == 0 then redis.call('RPUSH', bell, '1') end
end
