-- Add jobs. Idempotent by id: sending the same call again adds nothing.
-- ARGV: id, envelope, priority, delay (ms) for each job. Returns state, duplicate (0 or 1) for each.
local reply = {}
local rung = false
for i = 1, #ARGV, 4 do
  local id, envelope, priority, delay = ARGV[i], ARGV[i + 1], ARGV[i + 2], tonumber(ARGV[i + 3])
  local state = redis.call('HGET', job(id), 'state')
  if state then
    reply[#reply + 1] = state
    reply[#reply + 1] = 1
  else
    redis.call('HSET', job(id), 'envelope', envelope, 'priority', priority, 'enqueued', NOW)
    if delay > 0 then
      to_later(id, delay, 'scheduled')
      reply[#reply + 1] = 'scheduled'
    else
      to_ready(id)
      reply[#reply + 1] = 'available'
    end
    reply[#reply + 1] = 0
    rung = true
  end
end
if rung then
  ring()
end
return reply
