-- claim: hand messages to a worker: lapsed leases first, then what is ready, by priority; due messages join the ready ones.
-- USES clock, arguments, needs, limits, totals, record, home, lapse, bell, finish, priority, tombstone, sweep, remembered
-- USES prospects, cancelled, candidates, within, order, deliver
--
-- KEYS[1]  stream      {ns}:1:{orders}:stream
-- KEYS[2]  messages    {ns}:1:{orders}:messages
-- KEYS[3]  states      {ns}:1:{orders}:states
-- KEYS[4]  scheduled   {ns}:1:{orders}:scheduled
-- KEYS[5]  leases      {ns}:1:{orders}:leases
-- KEYS[6]  workers     {ns}:1:{orders}:workers
-- KEYS[7]  bell        {ns}:1:{orders}:bell
-- KEYS[8]  counters    {ns}:1:{orders}:counters
-- KEYS[9]  config      {ns}:1:{orders}:config
-- KEYS[10] finished    {ns}:1:{orders}:finished
-- KEYS[11] tombstones  {ns}:1:{orders}:tombstones
-- KEYS[12] dead        {ns}:1:{orders}:dead
-- KEYS[13] urgent      {ns}:1:{orders}:urgent
-- ARGV[1]  lease         default for the queue's own, in milliseconds
-- ARGV[2]  max_lost      default for the queue's own: how often a message may be charged with a lapsed lease
-- ARGV[3]  retention     default for the queue's own, in milliseconds
-- ARGV[4]  window        default for the queue's own deduplication window, in milliseconds
-- ARGV[5]  dead          default for the queue's own retention of dead letters, in milliseconds
-- ARGV[6]  worker        name of the claiming worker
-- ARGV[7]  nonce         of this claim; a repeat of the worker's last claim is answered with the same deliveries
-- ARGV[8]  count         messages at most, <= 500
-- ARGV[9]  lapsed        take over the leases that had lapsed by then, in milliseconds since 1970; 0: none. The worker has
--                        seen that time for a while: until then their holders could have renewed them
-- ARGV[10] room          how many suspects more the worker may hold at once
-- ARGV[11] alone         1: it holds no suspect now, so it may take one that shares its worker with no other
-- ARGV[12] bytes         of bodies to hand out, about; what there is beyond that is left for the next claim
-- ARGV[13] first         0, or how long the first lease is at most, in milliseconds: of a claim that waited behind the bell,
--                        whose worker may be gone. It hands out nothing where a second lapse is death
-- ARGV[14] skip          may be left out; else only a repeat is answered: how many of the first claim to pass over
-- REPLY    {lease in milliseconds; milliseconds until the next message is due or lease lapses, -1 for none, 0 to claim
--          again at once, -1 - n for a repeat after which n deliveries of the first claim are left; how many of the
--          deliveries, the first ones, are suspects; 1 when it is one that may share its worker with no other; the time
--          in milliseconds; the queue's own max_attempts, or 0; then per delivery id, `<attempt>` or `<attempt>,<failed>`
--          where its handler has failed, body}. Or in one text `<lease> <wait> <time> <max_attempts> `, and behind it
--          id and body of the one message that there is, on its first delivery
local stream, messages, states, scheduled, leases, workers = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local bell, counters, config, finished, tombstones, dead = KEYS[7], KEYS[8], KEYS[9], KEYS[10], KEYS[11], KEYS[12]
local urgent = KEYS[13]
-- ORDINARY

local worker, nonce, count, lapsed_by = ARGV[6], ARGV[7], whole(ARGV[8], 'count', 1, 500), whole(ARGV[9], 'lapsed')
local room, alone, bytes = whole(ARGV[10], 'room'), whole(ARGV[11], 'alone', 0, 1) == 1, whole(ARGV[12], 'bytes')
local first, skip = whole(ARGV[13], 'first'), ARGV[14] and whole(ARGV[14], 'skip') or 0
check_name(worker, 'worker')
check_name(nonce, 'nonce')
local lease, max_lost, retention, window, dead_retention, paused, max_attempts = limits(
  config, {'lease', 'max_lost', 'retention', 'dedup_window', 'dead_retention', 'paused', 'max_attempts'},
  {ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], '0', '0'})

local now = clock()
local reply = {lease, -1, 0, 0, now, max_attempts}
local last = redis.call('HGET', workers, worker)
if last and string.sub(last, 1, #nonce + 1) == nonce .. ' ' then
  return repeat_claim(last, nonce, count, skip, states, messages, reply)
end
if ARGV[14] then redis.call('HSET', workers, worker, nonce .. ' ' .. now .. ' ') end -- the first may come yet: in vain
if paused == 1 then return reply end
if ARGV[14] or first > 0 and max_lost <= 2 then -- nothing for this one, which may claim anew at once
  reply[2] = 0
  return reply
end
if first > 0 then
  lease = math.min(lease, first)
  reply[1] = lease
end
local claim = {
  now = now, worker = worker, nonce = nonce, count = count, lapsed_by = lapsed_by, room = room, alone = alone,
  bytes = bytes, lease = lease, max_lost = max_lost, reply = reply,
  ids = {}, at = {}, sources = {}, taken_from = {}, bodies = {}, texts = {},
  delivered = {}, deadlines = {}, records = {}, ended = {}, moved = {}, taken = {}, displaced = {},
  handed = 0, lapses = now + lease, lost = 0, unreadable = 0, cancelled = 0, left = 0,
}

-- What there is. Nothing, which idle workers ask for again and again, costs few commands.
local overdue_by, first_lease, first_due = math.min(now, lapsed_by), first_of(leases), first_of(scheduled)
local entries, ringing = redis.call('XRANGE', stream, '-', '+', 'COUNT', count), redis.call('LLEN', bell)
local has_lapsed, has_due = first_lease and first_lease <= overdue_by, first_due and first_due <= now
if #entries == 0 and not has_due and not has_lapsed then
  reply[2] = pause(claim, 0, first_lease, first_due)
  if ringing > 0 then redis.call('DEL', bell) end
  return reply
end
if has_lapsed then claim.left = add_lapsed(claim, leases, states, overdue_by) end
local most = #claim.ids + count
local promoted = has_due and redis.call('ZRANGEBYSCORE', scheduled, '-inf', now, 'LIMIT', 0, count) or {}
local ready = redis.call('XLEN', stream)
redis.call('HLEN', counters)
local due = overdue(messages, states, finished, tombstones, dead, now, retention, window, dead_retention, 128)
local places, placed = add_urgent(claim, urgent)
add_ready(claim, entries, most)
for i = 1, #promoted do candidate(claim, promoted[i], 'due') end
if #claim.ids == 0 and #due.messages + #due.tombstones == 0 then
  reply[2] = pause(claim, claim.left, first_lease, first_due)
  if ringing > 0 then redis.call('DEL', bell) end
  return reply
end

-- What is read, in which order it is looked at, and what becomes of each.
local turns, asked, order, due_ids = {}, claim.ids, nil, {}
if #promoted > 0 then turns, asked = in_turn(claim) end
local met = read_within(claim, messages, states, asked, turns, #promoted > 0 and 2 or 1)
if #promoted > 0 then order, due_ids = ordered(claim, turns, met) end
decide(claim, order, met)
local delivered, ended, moved, taken, lost = claim.delivered, claim.ended, claim.moved, claim.taken, claim.lost
local broken = lost + #ended > 0 and broken_totals(counters, {'lost', 'dead', 'unreadable', 'cancelled'})

-- Write. ZREM comes first, so that a full server lets the rest pass.
redis.call('ZREM', scheduled, unpack(#due_ids > 0 and due_ids or {''}))
for i = 1, #ended do redis.call('ZREM', leases, ended[i][1]) end
local ms, sequence = string.match(#entries > 0 and entries[#entries][1] or '', '^(%d+)%-(%d+)$')
local removed = 0
if ms and #taken == #entries and #places == 0 and #sequence <= 15 then -- all from the first on: XDEL would look for each
  removed = redis.call('XTRIM', stream, 'MINID', ms .. '-' .. string.format('%d', sequence + 1))
elseif #taken > 0 then
  removed = redis.call('XDEL', stream, unpack(taken))
end
local gone = {}
for i = 1, #places do
  if not placed[i] or claim.displaced[placed[i]] then gone[#gone + 1] = places[i] end
end
if #gone > 0 then redis.call('ZREM', urgent, unpack(gone)) end
finish(states, finished, dead, ended, now)
for i = 1, #moved do
  moved[i].record.entry = make_ready(stream, urgent, moved[i].id, moved[i].record.priority)
  redis.call('HSET', states, moved[i].id, format_record(moved[i].record))
end
if #delivered > 0 then
  redis.call('ZADD', leases, unpack(claim.deadlines))
  redis.call('HSET', states, unpack(claim.records))
  redis.call('HSET', workers, worker, nonce .. ' ' .. string.format('%d', now) .. ' ' .. table.concat(delivered))
end
add_to_total(counters, broken, 'lost', lost)
add_to_total(counters, broken, 'dead', #ended - claim.cancelled)
add_to_total(counters, broken, 'cancelled', claim.cancelled)
add_to_total(counters, broken, 'unreadable', claim.unreadable)
forget(messages, states, finished, tombstones, dead, due)

-- Ring on while something is left, else silence the bell.
if ready - removed + #moved > 0 then
  ring(bell, ringing)
  reply[2] = 0
else
  if ringing > 0 then redis.call('DEL', bell) end
  reply[2] = pause(claim, claim.left, first_of(leases), first_of(scheduled))
end
return reply
