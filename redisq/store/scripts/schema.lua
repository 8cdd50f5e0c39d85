-- schema: read the schema of a queue's definition. Changes nothing.
-- USES needs
--
-- KEYS[1]  config  {ns}:1:{orders}:config
-- REPLY    its text, nil when the queue has none; it begins with `{ ` when formats are to be checked
local config = KEYS[1]
local found = redis.call('HMGET', config, 'schema', 'check_formats', 'needs')
local text, checked = found[1], found[2]
check_needs(found[3])
-- What an older redisq stored begins with `{` alone: it checked none. Where check_formats is set that decides.
if text and (checked == '0' or checked == '1') then
  text = string.gsub(text, '^{ ?', checked == '1' and '{ ' or '{')
end
return text
