-- remembered: a worker's last claim, as the hash of workers has it: nonce, time, and the ids of what it gave. A repeat
-- gets what of that it still holds: in parts, where one reply with all of it does not get through.

-- Which delivery it is, as the reply says it: behind a comma how often handlers have failed, if they have.
local function ordinal_of(record)
  return record.failed > 0 and record.attempt .. ',' .. string.format('%d', record.failed) or record.attempt
end

local function repeat_claim(last, nonce, count, skip, states, messages, reply)
  local given = string.match(last, '^%S+ %d+ (.*)$') or ''
  for at = 16 * skip + 1, math.min(16 * (skip + count), #given - #given % 16), 16 do
    local id = string.sub(given, at, at + 15)
    local text, body = redis.call('HGET', states, id), redis.call('HGET', messages, id)
    local record = text and parse_record(text)
    if body and record and record.status == 'I' and record.nonce == nonce then
      if record.suspect > 0 then reply[3], reply[4] = reply[3] + 1, record.suspect - 1 end
      reply[#reply + 1], reply[#reply + 2], reply[#reply + 3] = id, ordinal_of(record), body
    end
  end
  local rest = math.floor(#given / 16) - skip - count
  reply[2] = rest > 0 and -1 - rest or 0
  return reply
end
