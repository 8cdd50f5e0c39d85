-- dead: list dead letters, oldest first. Changes nothing.
-- USES needs, clock, arguments
--
-- KEYS[1] dead      {ns}:1:{orders}:dead
-- KEYS[2] states    {ns}:1:{orders}:states
-- KEYS[3] messages  {ns}:1:{orders}:messages
-- KEYS[4] config    {ns}:1:{orders}:config
-- ARGV[1] from      when the first one died, in milliseconds since 1970; those that died earlier are left out
-- ARGV[2] skip      how many of them to pass over
-- ARGV[3] min_age   only those that died this long ago at least, in milliseconds
-- ARGV[4] max_age   only those that died this long ago at most, in milliseconds; -1 is no limit
-- ARGV[5] limit     entries at most, <= 500
-- ARGV[6] bodies    1: with bodies, 0: without
-- REPLY   per dead letter {id, when it died in milliseconds, record, entry and digest and body}; nil for what is gone
local dead, states, messages, config = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
check_needs(redis.call('HGET', config, 'needs'))
local now = clock()
local from, skip, min_age = whole(ARGV[1], 'from'), whole(ARGV[2], 'skip'), whole(ARGV[3], 'min_age')
local max_age = ARGV[4] == '-1' and now or whole(ARGV[4], 'max_age')
local limit, with_bodies = whole(ARGV[5], 'limit', 1, 500), whole(ARGV[6], 'bodies', 0, 1) == 1
from = math.max(from, now - max_age)
local letters = redis.call('ZRANGEBYSCORE', dead, string.format('%d', from), string.format('%d', now - min_age),
  'WITHSCORES', 'LIMIT', skip, limit)
local reply = {}
for i = 1, #letters, 2 do
  local id = letters[i]
  local text, body = redis.call('HGET', states, id), with_bodies and redis.call('HGET', messages, id)
  reply[#reply + 1] = {id, letters[i + 1], text or false, body or false}
end
return reply
