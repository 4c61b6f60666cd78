#!lua flags=allow-oom
-- after: queue
-- What admins did. KEYS[1] is a prefix of its own, not of a queue:
--
--   done     stream  the newest actions: JSON under "entry", by Redis' clock
--   refused  stream  the newest attempts that were refused; apart, so that no number of them pushes out an action
--
--   number   string  how many there have been: of several in one millisecond, it tells which was first
--
-- Allowed when Redis is out of memory: that is when somebody acts.
--
-- ARGV: 'done' or 'refused', JSON.
local number = redis.call('INCR', P .. 'number')
redis.call('XADD', P .. ARGV[1], 'MAXLEN', '~', 10000, '*', 'entry', ARGV[2], 'number', number)
return 1
