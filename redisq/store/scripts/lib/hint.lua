-- hint: tell the workers of a queue at once of a message that they work on in vain. Their next renewal tells the same:
-- where this user may not publish, nothing is lost but time.
local function hint(channel, id)
  redis.pcall('PUBLISH', channel, id)
end
