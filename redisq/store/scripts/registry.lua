-- registry: the names of all queues and how many partitions each has. Changes nothing.
--
-- KEYS[1]  queues  {ns}:1:queues
-- REPLY    names and numbers of partitions, in turn
local queues = KEYS[1]
return redis.call('HGETALL', queues)
