-- schema: read the schema of a queue's definition. Changes nothing.
--
-- KEYS[1]  config  {ns}:1:{orders}:config
-- REPLY    its text, nil when the queue has none
local config = KEYS[1]
return redis.call('HGET', config, 'schema')
