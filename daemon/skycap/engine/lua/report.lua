-- after: queue
-- What a running job says of itself. ARGV: id, claim, 'progress' or 'log', text. Returns 1, or 0 when the claim is old.
local id, text = ARGV[1], ARGV[4]
if redis.call('HGET', job(id), 'claim') ~= ARGV[2] or not redis.call('ZSCORE', RUN, id) then
  return 0
end
if ARGV[3] == 'progress' then
  redis.call('HSET', job(id), 'progress', text)
  tell('progress', id .. ' ' .. text)
else
  -- The newest lines are kept; each takes the place of the one a hundred before it.
  local n = redis.call('HINCRBY', job(id), 'logs', 1)
  redis.call('HSET', job(id), 'log:' .. n % 100, n .. ' ' .. STAMP .. ' ' .. text)
end
flush()
return 1
