-- applications: the records of all applications, unless the caller has them. Changes nothing.
-- USES arguments
--
-- KEYS[1]  apps        {ns}:1:apps
-- ARGV[1]  generation  the word that came with the records which the caller has
-- REPLY    empty when it has those that are there, else their generation, then names and records, in turn
local apps = KEYS[1]
local known = ARGV[1]
if not known then refuse('generation') end
local generation = redis.call('HGET', apps, '#') or ''
if generation == known then return {} end
local reply = redis.call('HGETALL', apps)
table.insert(reply, 1, generation)
return reply
