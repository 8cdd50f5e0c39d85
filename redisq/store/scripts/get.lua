-- get: look messages up by id. Changes nothing.
-- USES needs, arguments
--
-- KEYS[1]  messages   {ns}:1:{orders}:messages
-- KEYS[2]  states     {ns}:1:{orders}:states
-- KEYS[3]  scheduled  {ns}:1:{orders}:scheduled
-- KEYS[4]  config     {ns}:1:{orders}:config
-- ARGV[1+] id   per message
-- REPLY    per message {entry, digest and body; record; due in milliseconds}, each nil where there is none.
--          No body: the message is unknown, or only its tombstone is left
local messages, states, scheduled, config = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
check_needs(redis.call('HMGET', config, 'needs')[1])
check_items(1, 1)
local reply = {}
local bodies, texts = redis.call('HMGET', messages, unpack(ARGV)), redis.call('HMGET', states, unpack(ARGV))
local delayed -- whether any message is: most queues have none
for i = 1, #ARGV do
  local due = false
  if bodies[i] and not texts[i] then
    if delayed == nil then delayed = redis.call('ZCARD', scheduled) > 0 end
    due = delayed and redis.call('ZSCORE', scheduled, ARGV[i])
  end
  reply[i] = {bodies[i], texts[i], due or false}
end
return reply
