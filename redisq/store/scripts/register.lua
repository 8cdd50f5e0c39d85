-- register: enter a queue in the registry, before its first message. Its number of partitions never changes.
-- USES arguments
--
-- KEYS[1]  queues      {ns}:1:queues
-- ARGV[1]  queue       its name
-- ARGV[2]  partitions  how many it shall have
-- REPLY    how many it has
local queues = KEYS[1]
local queue, partitions = ARGV[1], whole(ARGV[2], 'partitions', 1)
if #queue > 128 or not string.find(queue, '^%w[%w._-]*$') then refuse('queue') end
-- A known queue is only read: a full server then still answers a repeated queueing, which needs no memory.
local known = redis.call('HGET', queues, queue)
if known and not is_whole(known) then error('WRONGTYPE no number of partitions', 0) end -- ours might be another one
if known then return tonumber(known) end
redis.call('HSET', queues, queue, partitions)
return partitions
