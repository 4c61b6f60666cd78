#!lua flags=no-writes
-- after: queue
-- What happened in each of the last minutes. ARGV: how many. Returns: now (ms), then each minute's hash, the oldest first.
local reply = { NOW }
local this = math.floor(NOW / 60000)
for minute = this - ARGV[1] + 1, this do
  reply[#reply + 1] = redis.call('HGETALL', P .. 'minute:' .. minute)
end
return reply
