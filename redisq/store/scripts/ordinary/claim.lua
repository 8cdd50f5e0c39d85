-- ordinary: nothing, or one message on its first delivery, in a queue without lease of its own where nothing is
-- scheduled, urgent or lapsed; see ordinary/queue.lua. A first delivery needs no record: the body names its entry.
local function ordinary()
  local lease, worker, nonce, count, lapsed, longest = ARGV[1], ARGV[6], ARGV[7], ARGV[8], ARGV[9], ARGV[13]
  if #ARGV ~= 13 or not string.find(count, '^[1-9]%d?%d?$') or #count == 3 and count > '500' then return nil end
  if #lease > 15 or not string.find(lease .. ' ' .. lapsed .. ' ' .. longest, '^%d+ %d+ %d+$') then return nil end
  if worker == '' or nonce == '' or string.find(worker .. nonce, '[^!-+.-:<-~-]') then return nil end
  local ready = redis.call('XLEN', stream)
  if ready > 1 and count ~= '1' then return nil end
  local own = redis.call('HMGET', config, 'lease', 'max_lost', 'paused', 'needs', 'max_attempts')
  local last, most = redis.call('HGET', workers, worker), own[5] or '0'
  if own[1] or own[2] or own[3] or own[4] or #most > 15 or not string.find(most, '^%d+$') then return nil end
  if last and string.sub(last, 1, #nonce + 1) == nonce .. ' ' or redis.call('EXISTS', scheduled, urgent) > 0 then return nil end
  if longest ~= '0' then
    if not string.find(ARGV[2], '^%d+$') or tonumber(ARGV[2]) <= 2 then return nil end
    lease = string.format('%d', math.min(lease, longest))
  end
  local time, first = redis.call('TIME'), tonumber(redis.call('ZRANGE', leases, '0', '0', 'WITHSCORES')[2])
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  if lapsed == '0' then first = nil elseif first and first <= now then return nil end
  local at, ringing = string.format('%d', now), redis.call('LLEN', bell)
  if ready == 0 then
    if ringing > 0 then redis.call('DEL', bell) end
    return lease .. ' ' .. string.format('%d', first and first - now or -1) .. ' ' .. at .. ' ' .. most .. ' '
  end
  local found = redis.call('XRANGE', stream, '-', '+', 'COUNT', '1')[1]
  local entry, id = found[1], found[2][2]
  local body = #id == 16 and redis.call('HGET', messages, id)
  if not body or string.sub(body, 1, #entry + 1) ~= entry .. ' ' or redis.call('HGET', states, id) then return nil end
  local lapses, wait = now + lease, 0
  redis.call('XDEL', stream, entry) -- first, so that a full server lets the rest pass
  redis.call('ZADD', leases, string.format('%d', lapses), id)
  redis.call('HSET', states, id, 'I 1 ' .. nonce .. ' - - ' .. at .. ' ' .. worker .. ' - ')
  redis.call('HSET', workers, worker, nonce .. ' ' .. at .. ' ' .. id)
  if ready > 1 then
    if ringing == 0 then redis.call('RPUSH', bell, '1') end
  else
    if ringing > 0 then redis.call('DEL', bell) end
    wait = lapsed == '0' and -1 or math.min(first or lapses, lapses) - now
  end
  return lease .. ' ' .. string.format('%d', wait) .. ' ' .. at .. ' ' .. most .. ' ' .. id .. body
end

local answer = ordinary()
if answer then return answer end
