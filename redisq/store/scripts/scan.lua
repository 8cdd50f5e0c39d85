-- scan: names of keys, a page of them, whoever made them. Changes nothing. For the doctor alone: no operation searches.
-- USES arguments
--
-- KEYS[1]  queues  {ns}:1:queues
-- ARGV[1]  pattern  of the names
-- ARGV[2]  cursor   where the page begins, 0 for the first one
-- ARGV[3]  count    keys that the server looks at for one page, about, <= 500
-- REPLY    {cursor of the next page, 0 after the last; how many queues are registered; the names}
local queues = KEYS[1]
local pattern, cursor, count = ARGV[1], ARGV[2], whole(ARGV[3], 'count', 1, 500)
local page = redis.call('SCAN', cursor, 'MATCH', pattern, 'COUNT', count)
return {page[1], redis.call('HLEN', queues), page[2]}
