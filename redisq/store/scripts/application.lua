-- application: write an application's record, if the one that is there is still the one that was read.
-- USES arguments
--
-- KEYS[1]  apps        {ns}:1:apps
-- ARGV[1]  name        of the application
-- ARGV[2]  before      the record that was read; empty when there was none
-- ARGV[3]  record      the new one
-- ARGV[4]  generation  a word that no call has used before, by which readers know that something has changed
-- ARGV[5]  most        applications at most
-- REPLY    1
-- ERROR    RECORD_CHANGED  another one is there
-- ERROR    TOO_MANY_APPLICATIONS  there are `most`, which follows
local apps = KEYS[1]
local name, before, record, generation, most = ARGV[1], ARGV[2], ARGV[3], ARGV[4], whole(ARGV[5], 'most', 1)
if #name > 64 or not string.find(name, '^%w[%w._-]*$') then refuse('name') end
if record == '' or #record > 262144 then refuse('record') end
if #generation > 64 or not string.find(generation, '^[%w_-]+$') then refuse('generation') end
local there = redis.call('HGET', apps, name)
if there == record then return 1 end
if (there or '') ~= before then return {'RECORD_CHANGED'} end
if not there and redis.call('HLEN', apps) > most then return {'TOO_MANY_APPLICATIONS', most} end -- with the generation
-- A full server shall not keep anybody from revoking: a change frees something first. A new record is refused whole.
if there then redis.call('HDEL', apps, '#') end
redis.call('HSET', apps, name, record)
redis.call('HSET', apps, '#', generation)
return 1
