#!lua flags=allow-oom
-- after: queue
-- Renew the leases of running jobs. ARGV: lease (ms), then id, claim for each.
-- Returns 'held', 'lost' (another worker has it, or it is gone) or 'cancel' (somebody called it off) for each.
local reply = {}
for i = 2, #ARGV, 2 do
  local id = ARGV[i]
  local held = redis.call('HMGET', job(id), 'claim', 'cancel')
  if held[1] == ARGV[i + 1] and redis.call('ZSCORE', RUN, id) then
    redis.call('ZADD', RUN, 'XX', NOW + ARGV[1], id)
    reply[#reply + 1] = held[2] and 'cancel' or 'held'
  else
    reply[#reply + 1] = 'lost'
  end
end
return reply
