-- permitted: say which commands of a script this user may not run, while nothing is written yet.
--            It goes before the first call of a script, which would fail at such a command, its earlier writes done.
-- KEYS[1+] key      per key of that call
-- ARGV[1+] command  per command of that script
--
-- REPLY  the commands that are refused on any of the keys, in order; none where the server cannot tell (Redis 6.2)
local refused = {}
if redis.acl_check_cmd then
  for i = 1, #ARGV do
    local allowed = true
    for k = 1, #KEYS do allowed = allowed and redis.acl_check_cmd(ARGV[i], KEYS[k]) end
    if not allowed then refused[#refused + 1] = ARGV[i] end
  end
end
return refused
