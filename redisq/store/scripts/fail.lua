-- fail: end deliveries whose handler failed: the message waits for its next attempt, is dead, or has ended as cancelled.
-- USES clock, arguments, needs, limits, totals, record, cancelled, receipts, bell, next_due, finish, tombstone, sweep
--
-- KEYS[1]  leases      {ns}:1:{orders}:leases
-- KEYS[2]  states      {ns}:1:{orders}:states
-- KEYS[3]  scheduled   {ns}:1:{orders}:scheduled
-- KEYS[4]  bell        {ns}:1:{orders}:bell
-- KEYS[5]  messages    {ns}:1:{orders}:messages
-- KEYS[6]  counters    {ns}:1:{orders}:counters
-- KEYS[7]  config      {ns}:1:{orders}:config
-- KEYS[8]  finished    {ns}:1:{orders}:finished
-- KEYS[9]  tombstones  {ns}:1:{orders}:tombstones
-- KEYS[10] dead        {ns}:1:{orders}:dead
-- ARGV[1]  max_attempts  default for the queue's own: how often a handler may fail
-- ARGV[2]  backoff_base  default for the queue's own: longest delay after the first failure, in milliseconds; it doubles
-- ARGV[3]  backoff_cap   default for the queue's own: longest delay of all, in milliseconds
-- ARGV[4]  retention     default for the queue's own, in milliseconds
-- ARGV[5]  window        default for the queue's own deduplication window, in milliseconds
-- ARGV[6]  dead          default for the queue's own retention of dead letters, in milliseconds
-- ARGV[7+] id, attempt, nonce, delay_ms, jitter, cause, error, told   per message
--          delay_ms: -1 the queue's backoff times jitter (a fraction of a million, full jitter), -2 no further attempt
--          told: |type|text of the error for the history, as store/record.py writes it; empty for none
-- REPLY    per message 'delay failed max_attempts': milliseconds until its next attempt, -1 when it has ended; how often its
--          handler has failed, and may fail. A repeat is answered alike
-- ERROR    LEASE_LOST  the message is gone, or another delivery holds it
local leases, states, scheduled, bell, messages = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local counters, config, finished, tombstones, dead = KEYS[6], KEYS[7], KEYS[8], KEYS[9], KEYS[10]
check_items(7, 8)
local max_attempts, backoff_base, backoff_cap, retention, window, dead_retention = limits(
  config, {'max_attempts', 'backoff_base', 'backoff_cap', 'retention', 'dedup_window', 'dead_retention'},
  {ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]})

local now = clock()
local ringing, head = redis.call('LLEN', bell), next_due(scheduled, now)
redis.call('ZCARD', leases)
local broken = broken_totals(counters, {'failed', 'dead', 'cancelled'})
local due = overdue(messages, states, finished, tombstones, dead, now, retention, window, dead_retention, 4)
local ids = {}
for i = 7, #ARGV, 8 do ids[#ids + 1] = ARGV[i] end
local records = read_records(states, ids)

-- The exponent is bounded, so that a base of 0 is never multiplied with infinity.
local function backoff(failed, jitter)
  return math.floor(math.min(backoff_cap, backoff_base * 2 ^ math.min(failed - 1, 60)) * jitter / 1000000)
end

local function answer(delay, record)
  return string.format('%d %d %d', delay, record.failed, max_attempts)
end

local DELAYS, CAUSES = {['-1'] = -1, ['-2'] = -2}, {failed = true, rejected = true, unreadable = true}
local ended, retried, released, reply, cancelled = {}, {}, {}, {}, 0
for i = 7, #ARGV, 8 do
  local id, attempt, nonce = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local delay = DELAYS[ARGV[i + 3]] or whole(ARGV[i + 3], 'delay_ms')
  local jitter, cause, message_error = whole(ARGV[i + 4], 'jitter', 0, 1000000), ARGV[i + 5], ARGV[i + 6]
  if not CAUSES[cause] then refuse('cause') end
  check_told(ARGV[i + 7], 'told')
  local record = records[id]
  if not holds(record, attempt, nonce) or record.status == 'C' then
    reply[#reply + 1] = {'LEASE_LOST'}
  elseif record.status ~= 'I' then
    reply[#reply + 1] = answer(record.status == 'E' and -1 or math.max(0, tonumber(record.at) - now), record)
  elseif is_cancelled(record) then
    record.status, record.cause, record.payload = 'E', 'cancelled', message_error
    released[#released + 1], ended[#ended + 1], cancelled = id, {id, record}, cancelled + 1
    reply[#reply + 1] = answer(-1, record)
  else
    note(record, cause, now, record.entry .. ARGV[i + 7])
    record.failed, record.suspect, record.cause, record.payload = record.failed + 1, 0, cause, message_error
    released[#released + 1] = id
    if delay == -2 or record.failed >= max_attempts then
      record.status = 'E'
      ended[#ended + 1] = {id, record}
      reply[#reply + 1] = answer(-1, record)
    else
      if delay == -1 then delay = backoff(record.failed, jitter) end
      record.status, record.at, record.entry = 'P', now + delay, '-'
      retried[#retried + 1] = {id = id, record = record}
      reply[#reply + 1] = answer(delay, record)
    end
  end
end

if #released > 0 then
  redis.call('ZREM', leases, unpack(released)) -- first, so that a full server lets the rest pass
  finish(states, finished, dead, ended, now)
  local wake = false
  for i = 1, #retried do
    local id, record = retried[i].id, retried[i].record
    redis.call('ZADD', scheduled, record.at, id)
    redis.call('HSET', states, id, format_record(record))
    wake = wake or not head or record.at - now < head
  end
  add_to_total(counters, broken, 'failed', #released - cancelled)
  add_to_total(counters, broken, 'dead', #ended - cancelled)
  add_to_total(counters, broken, 'cancelled', cancelled)
  if wake then ring(bell, ringing) end
end
forget(messages, states, finished, tombstones, dead, due)
return reply
