-- What an admin does. ARGV: verb, then its arguments. Every verb answers the same when it is sent twice.
local verb = {}

-- id, keep (ms), keep (count) -> the state afterwards, or false for an unknown job.
-- A running job is told at its next heartbeat.
function verb.cancel(id, keep_ms, keep_count)
  local state = redis.call('HGET', job(id), 'state')
  if state == 'running' then
    redis.call('HSET', job(id), 'cancel', 1)
  elseif state == 'available' or state == 'scheduled' or state == 'retryable' then
    redis.call('ZREM', READY, id)
    redis.call('ZREM', LATER, id)
    to_done(id, 'cancelled', 'cancelled on request', tonumber(keep_ms), tonumber(keep_count))
    return 'cancelled'
  end
  return state
end

-- id -> the state afterwards, or false for an unknown job. A discarded job starts over; one that waits runs now.
function verb.retry(id)
  local state = redis.call('HGET', job(id), 'state')
  if state == 'discarded' then
    redis.call('ZREM', DEAD, id)
    redis.call('HDEL', job(id), 'failures', 'deaths', 'snoozes', 'finished', 'reason', 'cancel', 'rank')
    to_ready(id)
    ring()
    return 'available'
  elseif state == 'scheduled' or state == 'retryable' then
    redis.call('ZREM', LATER, id)
    to_ready(id)
    ring()
    return 'available'
  end
  return state
end

-- id -> 1 when a discarded job was removed for good.
function verb.remove(id)
  if redis.call('ZREM', DEAD, id) == 1 then
    return redis.call('DEL', job(id))
  end
  return 0
end

function verb.pause()
  redis.call('HSET', META, 'paused', NOW)
  return 1
end

function verb.resume()
  redis.call('HDEL', META, 'paused')
  ring()
  return 1
end

return verb[ARGV[1]](ARGV[2], ARGV[3], ARGV[4])
