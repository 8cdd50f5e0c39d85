-- unregister: take a dropped queue off the registry.
--
-- KEYS[1]  queues  {ns}:1:queues
-- ARGV[1]  queue   its name
-- REPLY    1, or 0 when it was not there
local queues = KEYS[1]
local queue = ARGV[1]
return redis.call('HDEL', queues, queue)
