-- sweep: forget what is due. `overdue` only reads, `forget` only writes, so that scripts can put their own work between.
--
-- A finished message goes when its retention has passed, a dead letter when its own has; while the deduplication window
-- lasts it leaves a tombstone, dated when it finished. A tombstone goes when the window has passed.
local function overdue(messages, states, finished, tombstones, dead, now, retention, window, dead_retention, limit)
  local due = {messages = {}, tombstones = {}}
  local entries = redis.call('XRANGE', finished, '-', string.format('%d', math.max(0, now - retention)), 'COUNT', limit)
  for i = 1, #entries do
    local entry, id = entries[i][1], entries[i][2][2]
    local text, body = redis.call('HGET', states, id), redis.call('HGET', messages, id)
    local record = text and parse_record(text)
    local mine = record and record.entry == entry
    local keep = tonumber(string.match(entry, '^%d+')) + window > now
    table.insert(due.messages, {id = id, entry = entry, mine = mine, body = body, keep = keep})
  end
  due.more = #entries == limit
  if redis.call('EXISTS', dead, tombstones) == 0 then return due end -- as is usual
  local letters = redis.call('ZRANGEBYSCORE', dead, '-inf', now - dead_retention, 'LIMIT', 0, limit)
  for i = 1, #letters do
    local id = letters[i]
    local text, body = redis.call('HGET', states, id), redis.call('HGET', messages, id)
    local record = text and parse_record(text)
    local mine = record and is_letter(record)
    local ended = mine and ended_at(record) or now
    table.insert(due.messages, {
      id = id, ended = ended, letter = true, mine = mine, body = body, keep = ended + window > now,
    })
  end
  due.tombstones = redis.call('XRANGE', tombstones, '-', string.format('%d', math.max(0, now - window)), 'COUNT', limit)
  for i = 1, #due.tombstones do
    local id = due.tombstones[i][2][2]
    local text = redis.call('HGET', states, id)
    local tombstone = text and parse_tombstone(text)
    due.tombstones[i].id = tombstone and tombstone.at + window <= now and id
  end
  due.more = due.more or #letters == limit or #due.tombstones == limit
  return due
end

local function forget(messages, states, finished, tombstones, dead, due)
  for i = 1, #due.messages do
    local item = due.messages[i]
    if item.letter then
      redis.call('ZREM', dead, item.id)
    elseif item.entry then
      redis.call('XDEL', finished, item.entry)
    end
    if item.mine then
      redis.call('HDEL', messages, item.id)
      if item.keep and item.body then
        bury(states, tombstones, item.id, '-', digest_of(item.body), item.ended or string.match(item.entry, '^%d+'))
      else
        redis.call('HDEL', states, item.id)
      end
    end
  end
  for i = 1, #due.tombstones do
    redis.call('XDEL', tombstones, due.tombstones[i][1])
    if due.tombstones[i].id then redis.call('HDEL', states, due.tombstones[i].id) end
  end
  return #due.messages + #due.tombstones
end
