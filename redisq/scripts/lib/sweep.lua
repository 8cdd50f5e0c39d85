-- sweep: forget what is due. `overdue` only reads, `forget` only writes, so that scripts can put their own work between.
--
-- A finished message goes when its retention has passed; when the deduplication window is the longer of the two it
-- leaves a tombstone, dated when it finished. A tombstone goes when the window has passed.
local function overdue(messages, states, finished, tombstones, dead, now, retention, window, limit)
  local due = {messages = {}, tombstones = {}, keep = window > retention}
  local entries = redis.call('XRANGE', finished, '-', string.format('%d', now - retention), 'COUNT', limit)
  for i = 1, #entries do
    local entry, id = entries[i][1], entries[i][2][2]
    local text, body = redis.call('HGET', states, id), redis.call('HGET', messages, id)
    local record = text and parse_record(text)
    due.messages[i] = {id = id, entry = entry, mine = record and record.entry == entry, body = body}
  end
  due.tombstones = redis.call('XRANGE', tombstones, '-', string.format('%d', now - window), 'COUNT', limit)
  for i = 1, #due.tombstones do
    local id = due.tombstones[i][2][2]
    local text = redis.call('HGET', states, id)
    local tombstone = text and parse_tombstone(text)
    due.tombstones[i].id = tombstone and tombstone.at + window <= now and id
  end
  redis.call('ZCARD', dead) -- its type, before anything is written
  return due
end

local function forget(messages, states, finished, tombstones, dead, due)
  for i = 1, #due.messages do
    local item = due.messages[i]
    redis.call('XDEL', finished, item.entry)
    if item.mine then
      redis.call('ZREM', dead, item.id)
      redis.call('HDEL', messages, item.id)
      if due.keep and item.body then
        bury(states, tombstones, item.id, '-', digest_of(item.body), string.match(item.entry, '^%d+'))
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
