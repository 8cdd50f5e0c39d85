-- finish: end messages as complete (C) or as error (E, on the dead-letter list). Only writes; the caller has begun
-- with a ZREM of the leases. `ended` lists {id, record}; every record gets its entry in `finished`.
local function finish(states, finished, dead, ended, now)
  local texts = {}
  for i = 1, #ended do
    local id, record = ended[i][1], ended[i][2]
    record.entry = redis.call('XADD', finished, '*', 'id', id)
    if record.status == 'E' then redis.call('ZADD', dead, now, id) end
    texts[2 * i - 1], texts[2 * i] = id, format_record(record)
  end
  if #ended > 0 then redis.call('HSET', states, unpack(texts)) end
end
