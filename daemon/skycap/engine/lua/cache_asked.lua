-- after: cached
-- Count how often keys were asked for. KEYS[1] is a zset of the most asked ones of a namespace, not a value. ARGV: how
-- many it holds, the time (ms) after which a count is worth half; key, times; key, times; … the most asked first.
-- Space saving (Metwally et al., 2005): a new key takes the place of the least asked one, and its count.
if redis.call('SET', VALUE .. ':aged', 1, 'NX', 'PX', ARGV[2]) then
  redis.call('ZUNIONSTORE', VALUE, 1, VALUE, 'WEIGHTS', 0.5)
end
local free = tonumber(ARGV[1]) - redis.call('ZCARD', VALUE)
for i = 3, #ARGV, 2 do
  local times = tonumber(ARGV[i + 1])
  if not redis.call('ZSCORE', VALUE, ARGV[i]) then
    free = free - 1
    if free < 0 then
      times = times + tonumber(redis.call('ZPOPMIN', VALUE)[2])
    end
  end
  redis.call('ZINCRBY', VALUE, times, ARGV[i])
end
redis.call('PEXPIRE', VALUE, 24 * ARGV[2])
return redis.call('ZCARD', VALUE)
