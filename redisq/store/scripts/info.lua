-- info: what the server tells of itself, and its time. Changes nothing.
-- USES clock
--
-- KEYS[1]  queues  {ns}:1:queues
-- REPLY    {the server's time in milliseconds since 1970; how many queues are registered; its INFO}
local queues = KEYS[1]
return {clock(), redis.call('HLEN', queues), redis.call('INFO')}
