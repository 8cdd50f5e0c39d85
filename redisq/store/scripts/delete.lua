-- delete: remove messages, whatever their status. A worker that has one in progress loses its lease.
-- USES clock, arguments, needs, limits, totals, record, priority, tombstone, sweep, hint
--
-- KEYS[1]  messages    {ns}:1:{orders}:messages
-- KEYS[2]  states      {ns}:1:{orders}:states
-- KEYS[3]  stream      {ns}:1:{orders}:stream
-- KEYS[4]  scheduled   {ns}:1:{orders}:scheduled
-- KEYS[5]  leases      {ns}:1:{orders}:leases
-- KEYS[6]  counters    {ns}:1:{orders}:counters
-- KEYS[7]  config      {ns}:1:{orders}:config
-- KEYS[8]  finished    {ns}:1:{orders}:finished
-- KEYS[9]  tombstones  {ns}:1:{orders}:tombstones
-- KEYS[10] dead        {ns}:1:{orders}:dead
-- KEYS[11] urgent      {ns}:1:{orders}:urgent
-- ARGV[1]  retention   default for the queue's own, in milliseconds
-- ARGV[2]  window      default for the queue's own deduplication window, in milliseconds
-- ARGV[3]  dead        default for the queue's own retention of dead letters, in milliseconds
-- ARGV[4]  nonce       of this request: a repeat of it finds its own tombstones and succeeds
-- ARGV[5]  letters     1: dead letters only
-- ARGV[6]  channel     on which workers hear hints
-- ARGV[7+] id   per message
-- REPLY    per message 'OK'
-- ERROR    MESSAGE_NOT_FOUND  there is no such message, or it is no dead letter
local messages, states, stream, scheduled, leases = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local counters, config, finished, tombstones, dead, urgent = KEYS[6], KEYS[7], KEYS[8], KEYS[9], KEYS[10], KEYS[11]
local nonce, letters_only, channel = ARGV[4], whole(ARGV[5], 'letters', 0, 1) == 1, ARGV[6]
check_name(nonce, 'nonce')
check_items(7, 1)
local retention, window, dead_retention = limits(
  config, {'retention', 'dedup_window', 'dead_retention'}, {ARGV[1], ARGV[2], ARGV[3]})

local now = clock()
redis.call('XLEN', stream)
redis.call('ZCARD', scheduled)
redis.call('ZCARD', leases)
local broken = broken_totals(counters, {'deleted'})
local due = overdue(messages, states, finished, tombstones, dead, now, retention, window, dead_retention, 4)

local doomed, seen, reply, hurried = {}, {}, {}, false
for i = 7, #ARGV do
  local id = ARGV[i]
  local body, text = redis.call('HGET', messages, id), redis.call('HGET', states, id)
  local tombstone = text and parse_tombstone(text)
  local letter = redis.call('ZSCORE', dead, id) -- also one that has lost its body, or its record
  if (letter or body and not letters_only) and not seen[id] then
    seen[id] = true
    doomed[#doomed + 1] = {id = id, body = body or '', record = text and parse_record(text)}
    hurried = hurried or body and priority_in(body) > 0
    reply[#reply + 1] = 'OK'
  elseif seen[id] or (tombstone and tombstone.nonce == nonce) then
    reply[#reply + 1] = 'OK'
  else
    reply[#reply + 1] = {'MESSAGE_NOT_FOUND'}
  end
end

if hurried then redis.call('ZCARD', urgent) end
forget(messages, states, finished, tombstones, dead, due)
for i = 1, #doomed do
  local id, body, record = doomed[i].id, doomed[i].body, doomed[i].record
  local status = record and record.status or 'P'
  local entry = entry_of(record and record.entry or string.match(body, '^[^ ;]*'))
  redis.call('ZREM', leases, id) -- first, so that a full server lets the rest pass
  redis.call('ZREM', scheduled, id)
  redis.call('ZREM', dead, id)
  if entry then
    redis.call('XDEL', status == 'P' and stream or finished, entry)
    if hurried and status == 'P' then redis.call('ZREM', urgent, place_of(entry, id)) end
  end
  redis.call('HDEL', messages, id)
  bury(states, tombstones, id, nonce, digest_of(body), now)
  if status == 'I' then hint(channel, id) end
end
add_to_total(counters, broken, 'deleted', #doomed)
return reply
