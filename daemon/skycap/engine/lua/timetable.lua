-- after: queue
-- When is the turn of ARGV[1] in this line, whose turns are ARGV[2] ms apart? KEYS[1] is the prefix of a timetable,
-- not of a queue: "turns" is a zset of who waits, by the turn (ms), "last" the newest turn that was given.
-- Returns the wait in ms; 0 uses the turn up.
local TURNS, LAST, who, every = P .. 'turns', P .. 'last', ARGV[1], tonumber(ARGV[2])
local turn = tonumber(redis.call('ZSCORE', TURNS, who) or '')
if not turn or NOW > turn + every then
  turn = math.max(NOW, (tonumber(redis.call('GET', LAST) or '') or 0) + every)
  local kept = math.ceil(turn - NOW + 10 * every + 1000)
  redis.call('ZADD', TURNS, turn, who)
  redis.call('PEXPIRE', TURNS, kept)
  redis.call('SET', LAST, string.format('%.3f', turn), 'PX', kept)
end
if turn > NOW then
  return math.ceil(turn - NOW)
end
redis.call('ZREM', TURNS, who)
return 0
