-- ended: tell how much has ended so far, for who waits for a message: while it stays the same none has. Changes nothing.
-- USES needs, arguments
--
-- KEYS[1] counters  {ns}:1:{orders}:counters
-- KEYS[2] config    {ns}:1:{orders}:config
-- REPLY   the totals of completed, dead, deleted and cancelled messages in one text; nil when they cannot be read, or are none
local counters, config = KEYS[1], KEYS[2]
check_needs(redis.call('HMGET', config, 'needs')[1])
local totals = redis.call('HMGET', counters, 'queued', 'completed', 'dead', 'deleted', 'cancelled')
if not totals[1] then return false end -- nothing was ever queued, or the queue was dropped: look for yourself
for i = 2, 5 do
  if totals[i] and not is_whole(totals[i]) then return false end
  totals[i] = totals[i] or '0'
end
return table.concat(totals, ' ', 2, 5)
