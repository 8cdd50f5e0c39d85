-- sweep: forget finished messages, tombstones and workers' last claims whose time has passed, and empty streams.
-- USES clock, arguments, needs, limits, record, tombstone, sweep
--
-- KEYS[1]  messages    {ns}:1:{orders}:messages
-- KEYS[2]  states      {ns}:1:{orders}:states
-- KEYS[3]  finished    {ns}:1:{orders}:finished
-- KEYS[4]  tombstones  {ns}:1:{orders}:tombstones
-- KEYS[5]  dead        {ns}:1:{orders}:dead
-- KEYS[6]  workers     {ns}:1:{orders}:workers
-- KEYS[7]  stream      {ns}:1:{orders}:stream
-- KEYS[8]  config      {ns}:1:{orders}:config
-- KEYS[9]  urgent      {ns}:1:{orders}:urgent
-- ARGV[1]  retention   default for the queue's own, in milliseconds
-- ARGV[2]  window      default for the queue's own deduplication window, in milliseconds
-- ARGV[3]  dead        default for the queue's own retention of dead letters, in milliseconds
-- ARGV[4]  memory      how long a worker's last claim is remembered, in milliseconds
-- ARGV[5]  limit       of each kind at most, <= 500
-- REPLY    {how many were forgotten; 1 when more may be due, else 0; milliseconds until the next can be due, >= 1}
local messages, states, finished, tombstones = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local dead, workers, stream, config, urgent = KEYS[5], KEYS[6], KEYS[7], KEYS[8], KEYS[9]
local memory, limit = whole(ARGV[4], 'memory'), whole(ARGV[5], 'limit', 1, 500)
local retention, window, dead_retention = limits(
  config, {'retention', 'dedup_window', 'dead_retention'}, {ARGV[1], ARGV[2], ARGV[3]})

local now = clock()
local due = overdue(messages, states, finished, tombstones, dead, now, retention, window, dead_retention, limit)
local ready, gone = redis.call('XLEN', stream), {}
redis.call('ZCARD', urgent)
-- A random sample finds every dead worker in time, without a cursor to keep.
local claims = redis.call('HLEN', workers) > 0 and redis.call('HRANDFIELD', workers, limit, 'WITHVALUES') or {}
for i = 1, #claims, 2 do
  local at = tonumber(string.match(claims[i + 1], '^%S+ (%d+) '))
  if not at or at + memory <= now then gone[#gone + 1] = claims[i] end
end

for i = 1, #gone do redis.call('HDEL', workers, gone[i]) end
local forgotten = forget(messages, states, finished, tombstones, dead, due) + #gone
-- Redis keeps a stream that has become empty. Nothing refers to a past entry, so its memory may go.
if redis.call('XLEN', finished) == 0 then redis.call('DEL', finished) end
if redis.call('XLEN', tombstones) == 0 then redis.call('DEL', tombstones) end
if ready == 0 then redis.call('DEL', stream, urgent) end

-- What ends from now on is due after the shortest of the periods.
local next_due = now + math.min(retention, window, dead_retention)
local function look(key, period)
  local first = redis.call('XRANGE', key, '-', '+', 'COUNT', 1)[1]
  if first then next_due = math.min(next_due, tonumber(string.match(first[1], '^%d+')) + period) end
end
look(finished, retention)
look(tombstones, window)
local letter = redis.call('ZRANGE', dead, 0, 0, 'WITHSCORES')[2]
if letter then next_due = math.min(next_due, tonumber(letter) + dead_retention) end
return {forgotten, due.more and 1 or 0, math.max(1, next_due - now)}
