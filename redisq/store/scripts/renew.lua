-- renew: move the deadlines of leases, each only for the delivery that holds it, and note its progress.
-- USES clock, arguments, needs, limits, record, cancelled, receipts, tombstone, sweep
--
-- KEYS[1]  leases      {ns}:1:{orders}:leases
-- KEYS[2]  states      {ns}:1:{orders}:states
-- KEYS[3]  config      {ns}:1:{orders}:config
-- KEYS[4]  messages    {ns}:1:{orders}:messages
-- KEYS[5]  finished    {ns}:1:{orders}:finished
-- KEYS[6]  tombstones  {ns}:1:{orders}:tombstones
-- KEYS[7]  dead        {ns}:1:{orders}:dead
-- ARGV[1]  lease       default for the queue's own, in milliseconds
-- ARGV[2]  retention   default for the queue's own, in milliseconds
-- ARGV[3]  window      default for the queue's own deduplication window, in milliseconds
-- ARGV[4]  dead        default for the queue's own retention of dead letters, in milliseconds
-- ARGV[5+] id, attempt, nonce, progress   per message; an empty progress leaves the last one
-- REPLY    per message the lease in milliseconds from now on, below zero when the message is to be cancelled. A lapsed
--          lease that nobody took is renewed, too
-- ERROR    LEASE_LOST  the message is gone, or another delivery holds it
local leases, states, config, messages = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local finished, tombstones, dead = KEYS[5], KEYS[6], KEYS[7]
check_items(5, 4)
local lease, retention, window, dead_retention = limits(
  config, {'lease', 'retention', 'dedup_window', 'dead_retention'}, {ARGV[1], ARGV[2], ARGV[3], ARGV[4]})

local now = clock()
redis.call('ZCARD', leases)
local due = overdue(messages, states, finished, tombstones, dead, now, retention, window, dead_retention, 4)
local ids = {}
for i = 5, #ARGV, 4 do ids[#ids + 1] = ARGV[i] end
local records = read_records(states, ids)

local renewed, deadlines, texts, reply = {}, {}, {}, {}
for i = 5, #ARGV, 4 do
  local id, attempt, nonce, progress = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  local record = records[id]
  if not holds(record, attempt, nonce) or record.status ~= 'I' then
    reply[#reply + 1] = {'LEASE_LOST'}
  else
    renewed[#renewed + 1] = id
    deadlines[#deadlines + 1], deadlines[#deadlines + 2] = now + lease, id
    if progress ~= '' then
      record.payload = progress
      texts[#texts + 1], texts[#texts + 2] = id, format_record(record)
    end
    reply[#reply + 1] = is_cancelled(record) and -lease or lease
  end
end

if #renewed > 0 then
  redis.call('ZREM', leases, unpack(renewed)) -- first, so that a full server lets the rest pass
  redis.call('ZADD', leases, unpack(deadlines))
  if #texts > 0 then redis.call('HSET', states, unpack(texts)) end
end
forget(messages, states, finished, tombstones, dead, due)
return reply
