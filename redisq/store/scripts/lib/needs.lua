-- needs: features that a queue's scripts must know, as its definition names them: each `<feature>@<version>` of the first
-- redisq that knows it, between spaces. A script that does not know one refuses the queue before it has written anything.
local function check_needs(needs)
  local known = {} -- feature -> true
  for need in string.gmatch(needs or '', '%S+') do
    local feature, version = string.match(need, '^(%l[%l_]*)@(%d[%d.]*)$')
    if not (feature and known[feature]) then error('UPGRADE ' .. (feature and need or '?'), 0) end
  end
end
