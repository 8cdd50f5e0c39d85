-- tombstone: what is remembered of a deleted or swept message: the delete's nonce, when, and the body's digest.
local function parse_tombstone(text)
  local nonce, at, digest = string.match(text, '^T (%S+) (%d+) (.*)$')
  return nonce and {nonce = nonce, at = tonumber(at), digest = digest}
end

-- A body without its space was damaged by another program; stumbling over it half-way would damage more.
local function digest_of(body)
  local space = string.find(body, ' ', 1, true) or 0
  return string.sub(body, space + 1, space + 8)
end

local function bury(states, tombstones, id, nonce, digest, now)
  redis.call('HSET', states, id, 'T ' .. nonce .. ' ' .. string.format('%d', now) .. ' ' .. digest)
  redis.call('XADD', tombstones, '*', 'id', id)
end
