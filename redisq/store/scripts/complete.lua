-- complete: end messages with their results, each only for the delivery that holds it.
-- USES clock, arguments, needs, limits, totals, record, receipts, finish, tombstone, sweep
--
-- KEYS[1]  leases      {ns}:1:{orders}:leases
-- KEYS[2]  states      {ns}:1:{orders}:states
-- KEYS[3]  messages    {ns}:1:{orders}:messages
-- KEYS[4]  counters    {ns}:1:{orders}:counters
-- KEYS[5]  config      {ns}:1:{orders}:config
-- KEYS[6]  finished    {ns}:1:{orders}:finished
-- KEYS[7]  tombstones  {ns}:1:{orders}:tombstones
-- KEYS[8]  dead        {ns}:1:{orders}:dead
-- ARGV[1]  max_bytes   default for the queue's own: bytes of one result
-- ARGV[2]  retention   default for the queue's own, in milliseconds
-- ARGV[3]  window      default for the queue's own deduplication window, in milliseconds
-- ARGV[4]  dead        default for the queue's own retention of dead letters, in milliseconds
-- ARGV[5+] id, attempt, nonce, result   per message
-- REPLY    per message 'OK', also when this delivery completed it before; the bare word where there may be but one
-- ERROR    LEASE_LOST         the message is gone, or another delivery holds it
-- ERROR    MESSAGE_TOO_LARGE  with the limit in bytes; the message is still in progress
local leases, states, messages, counters, config = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local finished, tombstones, dead = KEYS[6], KEYS[7], KEYS[8]
-- ORDINARY

check_items(5, 4)
local max_bytes, retention, window, dead_retention = limits(
  config, {'max_bytes', 'retention', 'dedup_window', 'dead_retention'}, {ARGV[1], ARGV[2], ARGV[3], ARGV[4]})

local now = clock()
redis.call('ZCARD', leases)
local broken = broken_totals(counters, {'completed'})
local due = overdue(messages, states, finished, tombstones, dead, now, retention, window, dead_retention, 128)
local ids = {}
for i = 5, #ARGV, 4 do ids[#ids + 1] = ARGV[i] end
local records = read_records(states, ids)

local ended, released, reply = {}, {}, {}
for i = 5, #ARGV, 4 do
  local id, attempt, nonce, result = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  local record = records[id]
  if not holds(record, attempt, nonce) or (record.status ~= 'I' and record.status ~= 'C') then
    reply[#reply + 1] = {'LEASE_LOST'}
  elseif record.status == 'C' then
    reply[#reply + 1] = 'OK'
  elseif #result > max_bytes then
    reply[#reply + 1] = {'MESSAGE_TOO_LARGE', string.format('%d', max_bytes)}
  else
    record.status, record.suspect, record.cause, record.payload = 'C', 0, '-', result
    ended[#ended + 1], released[#released + 1] = {id, record}, id
    reply[#reply + 1] = 'OK'
  end
end

if #ended > 0 then
  redis.call('ZREM', leases, unpack(released)) -- first, so that a full server lets the rest pass
  finish(states, finished, dead, ended, now)
  add_to_total(counters, broken, 'completed', #ended)
end
forget(messages, states, finished, tombstones, dead, due)
return reply
