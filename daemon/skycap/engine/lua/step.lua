-- One turn of a worker's loop, and the only call on the hot path: settle what ended, take back what crashed
-- workers left, promote what is due, claim what there is room for.
--
-- ARGV: worker, lease (ms), want, poison limit, keep finished (ms), keep finished (count), keep discarded (ms),
--       then id, claim, verb, a, b for each outcome.
-- Returns: the ms until something can happen without a doorbell (-1: nothing is known),
--          1 or 0 for each outcome (0: the lease was lost, the outcome was ignored),
--          id, claim, envelope, failures, snoozes, enqueued (ms) for each claimed job.
local WORKER, LEASE, WANT, POISON = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local KEEP_MS, KEEP_COUNT, KEEP_DEAD = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
-- Housekeeping is bounded for each call, so that no backlog of it can block Redis.
local BATCH = 100

-- Only a handler that failed uses an attempt up; a job that no handler could take does not.
local FAILED = { permanent = true, ['attempts used up'] = true }

local settle = {
  completed = function(id, result)
    redis.call('HSET', job(id), 'result', result)
    to_done(id, 'completed', '', KEEP_MS, KEEP_COUNT)
  end,
  cancelled = function(id, reason)
    to_done(id, 'cancelled', reason, KEEP_MS, KEEP_COUNT)
  end,
  retry = function(id, delay, error)
    redis.call('HINCRBY', job(id), 'failures', 1)
    record_error(id, error)
    to_later(id, tonumber(delay), 'retryable')
    redis.call('HINCRBY', META, 'retried', 1)
  end,
  snoozed = function(id, delay, reason)
    redis.call('HINCRBY', job(id), 'snoozes', 1)
    redis.call('HSET', job(id), 'reason', reason)
    to_later(id, tonumber(delay), 'scheduled')
    redis.call('HINCRBY', META, 'snoozed', 1)
  end,
  returned = function(id)
    to_ready(id)
  end,
  discarded = function(id, reason, error)
    if FAILED[reason] then
      redis.call('HINCRBY', job(id), 'failures', 1)
    end
    record_error(id, error)
    to_dead(id, reason)
  end,
}
local GOES_ON = { retry = true, snoozed = true, returned = true }

local accepted = {}
for i = 8, #ARGV, 5 do
  local id = ARGV[i]
  -- Fenced: whoever holds the newest claim, and only while its lease stands, decides about the job.
  if redis.call('HGET', job(id), 'claim') == ARGV[i + 1] and redis.call('ZREM', RUN, id) == 1 then
    local verb = ARGV[i + 2]
    if GOES_ON[verb] and redis.call('HEXISTS', job(id), 'cancel') == 1 then
      settle.cancelled(id, 'cancelled on request')
    else
      settle[verb](id, ARGV[i + 3], ARGV[i + 4])
    end
    accepted[#accepted + 1] = 1
  else
    accepted[#accepted + 1] = 0
  end
end

for _, id in ipairs(redis.call('ZRANGEBYSCORE', RUN, '-inf', NOW, 'LIMIT', 0, BATCH)) do
  redis.call('ZREM', RUN, id)
  local deaths = redis.call('HINCRBY', job(id), 'deaths', 1)
  redis.call('HINCRBY', META, 'reclaimed', 1)
  if deaths >= POISON then
    record_error(id, 'its worker died or lost its lease ' .. deaths .. ' times while running it')
    to_dead(id, 'poison')
  else
    to_ready(id)
  end
end

for _, id in ipairs(redis.call('ZRANGEBYSCORE', LATER, '-inf', NOW, 'LIMIT', 0, BATCH)) do
  redis.call('ZREM', LATER, id)
  to_ready(id)
end

for _, id in ipairs(redis.call('ZRANGEBYSCORE', DEAD, '-inf', NOW - KEEP_DEAD, 'LIMIT', 0, BATCH)) do
  redis.call('ZREM', DEAD, id)
  redis.call('DEL', job(id))
end
redis.call('ZREMRANGEBYSCORE', DONE, '-inf', NOW - KEEP_MS)

local claimed = {}
local paused = redis.call('HEXISTS', META, 'paused') == 1
if WANT > 0 and not paused then
  local popped = redis.call('ZPOPMIN', READY, WANT)
  for i = 1, #popped, 2 do
    local id = popped[i]
    local key = job(id)
    -- The key may hold anything when somebody wrote to Redis by hand: such a job is kept aside, not tripped over.
    local claim = redis.pcall('HINCRBY', key, 'claim', 1)
    if type(claim) == 'table' then
      redis.call('RENAME', key, P .. 'foreign:' .. id)
      record_error(id, 'its key held no hash; what was there is kept under foreign:' .. id)
      to_dead(id, 'undecodable')
    else
      redis.call('HSET', key, 'state', 'running', 'worker', WORKER, 'started', NOW)
      redis.call('ZADD', RUN, NOW + LEASE, id)
      local known = redis.call('HMGET', key, 'envelope', 'failures', 'snoozes', 'enqueued')
      claimed[#claimed + 1] = id
      claimed[#claimed + 1] = claim
      claimed[#claimed + 1] = known[1] or ''
      claimed[#claimed + 1] = tonumber(known[2]) or 0
      claimed[#claimed + 1] = tonumber(known[3]) or 0
      claimed[#claimed + 1] = tonumber(known[4]) or NOW
    end
  end
end

-- This worker takes no more, but there is more: wake another one.
if not paused and redis.call('ZCARD', READY) > 0 then
  ring()
end

local due = -1
for _, index in ipairs({ LATER, RUN }) do
  local first = redis.call('ZRANGE', index, 0, 0, 'WITHSCORES')
  if first[2] then
    local wait = math.max(0, math.ceil(tonumber(first[2]) - NOW))
    if due < 0 or wait < due then
      due = wait
    end
  end
end
return { due, accepted, claimed }
