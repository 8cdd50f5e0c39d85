-- ordinary: one message, ready at once, under an id of which nothing is known, in a queue without limits of its own.
--
-- A call that is nearly always the same does here what the rules behind it would do, in half the time: shared functions
-- are only made further down. Nothing is given, and nothing was written, where those rules have to decide.
local function ordinary()
  local max_bytes, id, body = ARGV[2], ARGV[6], ARGV[7]
  if #ARGV ~= 8 or ARGV[8] ~= '' or ARGV[1] ~= '0' then return nil end
  if #id ~= 16 or string.byte(id) < 8 then return nil end -- one call in 32 sweeps, too
  if #max_bytes > 15 or not string.find(table.concat(ARGV, ' ', 2, 5), '^%d+ %d+ %d+ %d+$') then return nil end
  if #body < 8 or #body - 8 > tonumber(max_bytes) then return nil end
  local own = redis.call('HMGET', config, 'max_length', 'max_bytes', 'needs')
  if own[1] or own[2] or own[3] then return nil end
  if redis.call('HMGET', messages, id)[1] or redis.call('HGET', states, id) then return nil end
  local rings = redis.call('XLEN', stream) == 0 and redis.call('LLEN', bell) == 0
  local total = redis.pcall('HINCRBY', counters, 'queued', '1')
  if type(total) ~= 'number' then return nil end -- it was none, or there is no room
  if total < 1 or total >= 1e15 then redis.call('HSET', counters, 'queued', '1') end -- none of ours: begun anew
  redis.call('HSET', messages, id, redis.call('XADD', stream, '*', 'id', id) .. ' ' .. body)
  if rings then redis.call('RPUSH', bell, '1') end
  return 'OK'
end

local answer = ordinary()
if answer then return answer end
