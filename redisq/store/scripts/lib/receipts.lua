-- receipts: the records behind a batch of ids, and whether a receipt (attempt and nonce) is theirs.
-- `ids` may name a message twice: both then share one record, so the second sees what the first did.
local function read_records(states, ids)
  local records = {}
  local texts = redis.call('HMGET', states, unpack(ids))
  for i = 1, #ids do
    records[ids[i]] = texts[i] and parse_record(texts[i])
  end
  return records
end

local function holds(record, attempt, nonce)
  return record and record.attempt == attempt and record.nonce == nonce
end
