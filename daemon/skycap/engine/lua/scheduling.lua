-- after: queue, schedules
-- What the fleet knows of its schedules, and a person's word on one. ARGV: verb, then what each verb below says.
local verb = {}

-- names -> now (ms), then for each the newest tick (ms) that was decided. A schedule that nobody knew is known from now
-- on: what was due before is not caught up with, what will be is, even if no daemon runs by then.
function verb.known(...)
  local names, answer = { ... }, { NOW }
  for i, name in ipairs(names) do
    redis.call('HSETNX', CRON, name, STAMP)
    answer[i + 1] = redis.call('HGET', CRON, name)
  end
  return answer
end

-- name, ms ('': until it is resumed)
function verb.pause(name, ms)
  redis.call('HSET', schedule(name), 'paused', ms == '' and 'inf' or string.format('%.0f', NOW + ms))
  return 1
end

function verb.resume(name)
  return redis.call('HDEL', schedule(name), 'paused')
end

return verb[ARGV[1]](unpack(ARGV, 2))
