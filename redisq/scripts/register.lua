-- register: enter a queue in the registry, before its first message. Its number of partitions never changes.
--
-- KEYS[1]  queues      {ns}:1:queues
-- ARGV[1]  queue       its name
-- ARGV[2]  partitions  how many it shall have
-- REPLY    how many it has
local queues = KEYS[1]
local queue, partitions = ARGV[1], ARGV[2]
-- A known queue is only read: a full server then still answers a repeated queueing, which needs no memory.
local known = redis.call('HGET', queues, queue)
if known then return tonumber(known) end
redis.call('HSET', queues, queue, partitions)
return tonumber(partitions)
