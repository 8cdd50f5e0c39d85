-- take: take tokens out of an application's bucket, which fills at a steady rate; fewer than wanted when there are fewer.
-- USES clock, arguments
--
-- KEYS[1]  rate      {ns}:1:rates:{app}
-- ARGV[1]  interval  microseconds in which one token comes
-- ARGV[2]  burst     how many tokens the bucket holds
-- ARGV[3]  tokens    how many are wanted
-- REPLY    {how many were taken; when it is none, in how many milliseconds there will be one}
local rate = KEYS[1]
local interval = whole(ARGV[1], 'interval', 1, 1000000000) / 1000
local burst, tokens = whole(ARGV[2], 'burst', 1, 1000000), whole(ARGV[3], 'tokens', 1, 1000000)
local now = clock()
-- One number tells all: when the bucket will be full again. What is no number, or beyond an empty bucket, is not ours.
local full = redis.call('GET', rate)
full = full and #full <= 19 and string.find(full, '^%d+%.%d%d%d$') and tonumber(full) or now
full = math.min(math.max(full, now), now + burst * interval)
local taken = math.min(tokens, math.floor((now + burst * interval - full) / interval + 0.000001))
if taken < 1 then return {0, math.max(1, math.ceil(full - now - (burst - 1) * interval))} end
full = full + taken * interval
redis.call('DEL', rate) -- a full server lets what follows pass then, and the rate holds there, too
redis.call('SET', rate, string.format('%.3f', full), 'PX', string.format('%.0f', math.ceil(full - now) + 1))
return {taken, 0}
