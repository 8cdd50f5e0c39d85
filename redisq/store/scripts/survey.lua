-- survey: how a queue is as a whole: its keys' types, its definition, and what time should have done. Changes nothing.
-- USES clock, arguments, needs, limits
--
-- KEYS[1]  stream      {ns}:1:{orders}:stream
-- KEYS[2]  messages    {ns}:1:{orders}:messages
-- KEYS[3]  states      {ns}:1:{orders}:states
-- KEYS[4]  scheduled   {ns}:1:{orders}:scheduled
-- KEYS[5]  leases      {ns}:1:{orders}:leases
-- KEYS[6]  finished    {ns}:1:{orders}:finished
-- KEYS[7]  tombstones  {ns}:1:{orders}:tombstones
-- KEYS[8]  dead        {ns}:1:{orders}:dead
-- KEYS[9]  workers     {ns}:1:{orders}:workers
-- KEYS[10] bell        {ns}:1:{orders}:bell
-- KEYS[11] counters    {ns}:1:{orders}:counters
-- KEYS[12] config      {ns}:1:{orders}:config
-- KEYS[13] urgent      {ns}:1:{orders}:urgent
-- ARGV[1]  retention   default for the queue's own, in milliseconds
-- ARGV[2]  window      default for the queue's own deduplication window, in milliseconds
-- ARGV[3]  dead        default for the queue's own retention of dead letters, in milliseconds
-- ARGV[4]  memory      how long a worker's last claim is remembered, in milliseconds
-- REPLY    {types of the keys, in order}. When each is right, also: bodies held; records and tombstones held; rings of the
--          bell; in milliseconds how far the newest entry is ahead of the clock, and how long ago the first lease lapsed, the
--          first scheduled message was due, the first leftover was; last claims that are past their memory, of a sample;
--          the definition as names and values
local stream, messages, states, scheduled, leases, finished = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local tombstones, dead, workers, bell, counters, config = KEYS[7], KEYS[8], KEYS[9], KEYS[10], KEYS[11], KEYS[12]
local urgent = KEYS[13]

local types, sound = {}, true
local function check(key, wanted)
  local found = redis.call('TYPE', key)['ok']
  types[#types + 1] = found
  sound = sound and (found == wanted or found == 'none')
end
check(stream, 'stream')
check(messages, 'hash')
check(states, 'hash')
check(scheduled, 'zset')
check(leases, 'zset')
check(finished, 'stream')
check(tombstones, 'stream')
check(dead, 'zset')
check(workers, 'hash')
check(bell, 'list')
check(counters, 'hash')
check(config, 'hash')
check(urgent, 'zset')
if not sound then return {types} end

local now = clock()
local memory = whole(ARGV[4], 'memory')
local retention, window, dead_retention = limits(
  config, {'retention', 'dedup_window', 'dead_retention'}, {ARGV[1], ARGV[2], ARGV[3]})

local function since_first(zset)
  local first = redis.call('ZRANGE', zset, 0, 0, 'WITHSCORES')[2]
  return first and math.max(0, now - tonumber(first)) or 0
end

local function since_first_entry(key)
  local first = redis.call('XRANGE', key, '-', '+', 'COUNT', 1)[1]
  return first and math.max(0, now - tonumber(string.match(first[1], '^%d+'))) or 0
end

local function ahead(key)
  local last = redis.call('XREVRANGE', key, '+', '-', 'COUNT', 1)[1]
  return last and math.max(0, tonumber(string.match(last[1], '^%d+')) - now) or 0
end

local claims = redis.call('HLEN', workers) > 0 and redis.call('HRANDFIELD', workers, 100, 'WITHVALUES') or {}
local forgotten = 0
for i = 2, #claims, 2 do
  local at = tonumber(string.match(claims[i], '^%S+ (%d+) '))
  if not at or at + memory <= now then forgotten = forgotten + 1 end
end
local leftover = math.max(
  since_first_entry(finished) - retention, since_first_entry(tombstones) - window, since_first(dead) - dead_retention, 0)
return {
  types, redis.call('HLEN', messages), redis.call('HLEN', states), redis.call('LLEN', bell),
  math.max(ahead(stream), ahead(finished), ahead(tombstones)), since_first(leases), since_first(scheduled), leftover,
  forgotten, redis.call('HGETALL', config),
}
