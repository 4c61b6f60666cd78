#!lua flags=no-writes,allow-oom
-- after: queue
-- What the caller may do, with nothing done.
--
-- ARGV: a command and its first argument, again and again. Returns of each: 1 allowed, 0 refused, -1 not known here.
local answers = {}
for i = 1, #ARGV, 2 do
  local command, key = ARGV[i], ARGV[i + 1]
  -- Of some commands all further arguments are keys, too.
  local known, allowed = pcall(redis.acl_check_cmd, command, key, key, key, key)
  answers[#answers + 1] = not known and -1 or allowed and 1 or 0
end
return answers
