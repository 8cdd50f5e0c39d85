-- finish: end messages as complete (C) or as error (E). Only writes; the caller has begun with a ZREM of the leases.
-- `ended` lists {id, record}. Dead letters are listed in `dead`, the others in `finished`, each in the order of time.
local function finish(states, finished, dead, ended, now)
  local texts = {}
  for i = 1, #ended do
    local id, record = ended[i][1], ended[i][2]
    record.suspect = 0
    if is_letter(record) then
      record.entry = string.format('%d', now)
      redis.call('ZADD', dead, now, id)
    else
      record.entry = redis.call('XADD', finished, '*', 'id', id)
    end
    texts[2 * i - 1], texts[2 * i] = id, format_record(record)
  end
  if #ended > 0 then redis.call('HSET', states, unpack(texts)) end
end
