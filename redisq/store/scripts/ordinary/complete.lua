-- ordinary: one message, on its first delivery, of which nothing is told, in a queue without max_bytes of its own; see
-- ordinary/queue.lua.
local function ordinary()
  local max_bytes, id, attempt, nonce, result = ARGV[1], ARGV[5], ARGV[6], ARGV[7], ARGV[8]
  if #ARGV ~= 8 or attempt ~= '1' then return nil end
  if #max_bytes > 15 or not string.find(table.concat(ARGV, ' ', 1, 4), '^%d+ %d+ %d+ %d+$') then return nil end
  if #id ~= 16 or string.byte(id) < 8 or #result > tonumber(max_bytes) then return nil end -- one call in 32 sweeps, too
  local own, text = redis.call('HMGET', config, 'max_bytes', 'needs'), redis.call('HGET', states, id)
  if own[1] or own[2] or not text then return nil end
  local holder, at = string.match(text, '^I 1 (%S+) %- %- (%d+) %S+ %- $')
  if holder ~= nonce or #at > 15 then return nil end
  local total = redis.call('HGET', counters, 'completed')
  if total and (#total > 15 or not string.find(total, '^[1-9]%d*$')) then return nil end
  redis.call('XLEN', finished)
  redis.call('ZCARD', leases)
  redis.call('ZREM', leases, id) -- first, so that a full server lets the rest pass
  local entry = redis.call('XADD', finished, '*', 'id', id)
  redis.call('HSET', states, id, 'C 1 ' .. nonce .. ' - - ' .. at .. ' ' .. entry .. ' - ' .. result)
  redis.call('HINCRBY', counters, 'completed', '1')
  return 'OK'
end

local answer = ordinary()
if answer then return answer end
