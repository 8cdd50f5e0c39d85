-- within: read bodies and records up to a number of bytes. Of sizes only the first is known before bodies are read. So a
-- few come first, and each time no more than four times as many, nor than what was met until then leads to expect. Those
-- that are not read any more stay where they are. `asked` are the ids in the order of reading, `turns` where each is among
-- the claim's; gives how many were read, `least` of them at least.
local function read_within(claim, messages, states, asked, turns, least)
  local bytes, met, read = claim.bytes, 0, 0
  local bodies, texts = claim.bodies, claim.texts
  local size = #asked > 1 and redis.call('HSTRLEN', messages, asked[1]) or 0
  local step = size * 10 <= bytes and 10 or math.max(1, math.floor(bytes / size))
  while met < #asked and (met < least or read < bytes) do
    local slice = {unpack(asked, met + 1, math.min(met + step, #asked))}
    local some_bodies, some_texts = redis.call('HMGET', messages, unpack(slice)), redis.call('HMGET', states, unpack(slice))
    for n = 1, #slice do
      met, read = met + 1, read + (some_bodies[n] and #some_bodies[n] or 0)
      local i = turns[met] or met
      bodies[i], texts[i] = some_bodies[n], some_texts[n]
    end
    step = math.max(1, math.min(4 * step, 500, read > 0 and math.floor((bytes - read) * met / read) or 500))
  end
  return met
end
