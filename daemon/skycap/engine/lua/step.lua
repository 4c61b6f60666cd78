#!lua flags=allow-oom
-- One turn of a worker's loop, and the only call on the hot path: settle what ended, take back what crashed
-- workers left, promote what is due, claim what there is room for.
-- Allowed when Redis is out of memory: settling is what frees it.
--
-- ARGV: worker, lease (ms), slots (jobs that can start at once), more (jobs to have at hand behind them),
--       poison limit, then id, claim, verb, a, b, c for each outcome.
-- Returns: the ms until something can happen without a doorbell (-1: nothing is known),
--          1 when the queue has its policy, 0 when it was lost with Redis' data,
--          1 or 0 for each outcome (0: the lease was lost, the outcome was ignored),
--          id, claim, envelope, failures, snoozes, enqueued (ms), start within (ms), end within (ms) for each
--          claimed job; 0 where there is no such bound.
local WORKER, LEASE, SLOTS, MORE, POISON = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local OUTCOME, FIELDS = 6, 6
-- Housekeeping is bounded for each call, so that no backlog of it can block Redis.
local BATCH, MOST_LOOKED_AT = 100, 1000
local NEVER = 9e15

local known = redis.call('HMGET', META, 'base:keep_finished', 'paused', 'fleet', 'rate_max', 'rate_per', 'limits', 'swept')
local has_policy, paused, fleet = known[1] and 1 or 0, known[2], tonumber(known[3])
local queue_rate = tonumber(known[4]) and { max = tonumber(known[4]), per = tonumber(known[5]) }

-- Limits ---------------------------------------------------------------------------------------------------------
-- A limit counts by the value of a key in the payload; each value is a gate of its own, "<limit>:<value>".
-- The limit "kind" is always there, counts by the job's kind, and needs no figures: it lets one pause a kind.

local LIMITS, limit_named = {}, {}
if known[6] then
  LIMITS = cjson.decode(known[6])
end
for _, limit in ipairs(LIMITS) do
  limit_named[limit.name] = limit
end
local has_holds = redis.call('EXISTS', HOLDS) == 1
if has_holds then
  redis.call('ZREMRANGEBYSCORE', HOLDS, '-inf', NOW)
end
local has_gates = has_holds or #LIMITS > 0

-- A job starts a little after its claim. Counting the window that much longer, and having no job start later than
-- that (the worker hands it back), keeps starts as far apart as claims are.
local function slack(per)
  return math.min(50, math.ceil(per / 10))
end

local function value_at(payload, path)
  local value = payload
  for name in path:gmatch('[^.]+') do
    value = type(value) == 'table' and value[name] or nil
  end
  if type(value) == 'table' or type(value) == 'userdata' then
    return nil
  end
  return value ~= nil and tostring(value) or nil
end

local shapes = {
  domain = function(text) return text:match('@([^@%s]+)$') and text:match('@([^@%s]+)$'):lower() end,
  lower = string.lower,
}

local function gates_of(id)
  local stored = redis.call('HMGET', job(id), 'kind', 'envelope')
  local kind, payload = stored[1] or '?', nil
  local gates = {}
  for _, limit in ipairs(LIMITS) do
    if not limit.kinds or limit.kinds[kind] then
      if limit.key == '@kind' then
        gates[#gates + 1] = limit.name .. ':' .. kind
      elseif not limit.key then
        gates[#gates + 1] = limit.name
      else
        if payload == nil then
          local readable, envelope = pcall(cjson.decode, stored[2] or '')
          payload = readable and type(envelope) == 'table' and envelope.payload or false
        end
        local value = payload and value_at(payload, limit.key)
        if value and limit.shape then
          value = shapes[limit.shape](value)
        end
        if value then
          gates[#gates + 1] = limit.name .. ':' .. value:gsub('\n', ' ')
        end
      end
    end
  end
  if not limit_named.kind then
    gates[#gates + 1] = 'kind:' .. kind
  end
  return gates
end

local function figures(gate)
  local name, value = gate:match('^([^:]+):?(.*)$')
  local limit = limit_named[name]
  if not limit then
    return {}
  end
  local own = limit.own and limit.own[value]
  return {
    rate = own and own.max and own or (limit.max and limit) or nil,
    concurrency = own and own.concurrency or limit.concurrency,
    keyed = limit.key and limit.key ~= '@kind',
  }
end

-- When (ms) one more may pass by this rate.
local function rate_opens(key, rate)
  local last = redis.call('LINDEX', key, -rate.max)
  return last and last + rate.per + slack(rate.per) or 0
end

local function note_start(key, rate)
  redis.call('RPUSH', key, NOW)
  redis.call('LTRIM', key, -rate.max, -1)
  redis.call('PEXPIRE', key, rate.per + 1000)
end

-- When (ms) the gate lets one more job pass; NOW or earlier: it does.
local function opens(gate)
  if has_holds then
    -- Shut is a gate by itself, or with all the others of its limit.
    for _, name in ipairs({ gate, gate:match('^[^:]+') }) do
      local until_when = tonumber(redis.call('ZSCORE', HOLDS, name) or 0)
      if until_when > NOW then
        return math.min(until_when, NEVER)
      end
    end
  end
  local limit = figures(gate)
  if limit.concurrency and redis.call('SCARD', gate_key('busy', gate)) >= limit.concurrency then
    -- A job of this queue that leaves opens it; one of another queue cannot say so.
    return gate:sub(1, 1) == '+' and NOW + 250 or NEVER
  end
  return limit.rate and rate_opens(gate_key('starts', gate), limit.rate) or 0
end

-- Nil, or the gate that a job must wait at and when it opens.
local function obstacle(gates)
  for _, gate in ipairs(gates) do
    local at = opens(gate)
    if at > NOW then
      return gate, at
    end
  end
end

-- Lets the job pass; the ms within which it must start, 0 for any.
local function pass(id, gates)
  local within, held = 0, {}
  for _, gate in ipairs(gates) do
    local limit = figures(gate)
    if limit.rate then
      note_start(gate_key('starts', gate), limit.rate)
      local most = slack(limit.rate.per)
      within = within == 0 and most or math.min(within, most)
    end
    if limit.concurrency then
      redis.call('SADD', gate_key('busy', gate), id)
      held[#held + 1] = gate
    end
  end
  if #held > 0 then
    redis.call('HSET', job(id), 'held', table.concat(held, '\n'))
  end
  return within
end

-- How many jobs the queue's own rate lets start now.
local function queue_room(want)
  local key, most = P .. 'starts:', math.min(want, queue_rate.max)
  local first = redis.call('LLEN', key) - queue_rate.max
  local oldest = math.max(first, 0)
  local counting = redis.call('LRANGE', key, oldest, oldest + most)
  for i = 0, most - 1 do
    -- The start that must have left the window before the i-th new one may enter it.
    local before = first + i >= 0 and counting[first + i - oldest + 1]
    if before and before + queue_rate.per + slack(queue_rate.per) > NOW then
      return i
    end
  end
  return most
end

-- Settle ---------------------------------------------------------------------------------------------------------

-- Only a handler that failed uses an attempt up; a job that no handler could take does not.
local FAILED = { permanent = true, ['attempts used up'] = true, ['cancelled by deadline'] = true }

local settle = {}

function settle.completed(id, result, keep, _, unique)
  to_done(id, unique, 'completed', '', result, keep)
end

function settle.cancelled(id, reason, keep, _, unique)
  to_done(id, unique, 'cancelled', reason, 'null', keep)
end

function settle.retry(id, delay, error)
  redis.call('HINCRBY', job(id), 'failures', 1)
  redis.call('HDEL', job(id), 'deaths', 'stranded')
  record_error(id, error)
  to_later(id, NOW + delay, 'retryable')
  count('retried')
end

function settle.snoozed(id, delay, reason)
  redis.call('HINCRBY', job(id), 'snoozes', 1)
  redis.call('HDEL', job(id), 'deaths', 'stranded')
  redis.call('HSET', job(id), 'reason', reason)
  to_later(id, NOW + delay, 'scheduled')
  count('snoozed')
end

-- The handler was told to come back later by whoever a limit protects: shut the gate, not the queue.
function settle.held(id, delay, reason, name)
  local at, first = NOW + delay, nil
  for _, gate in ipairs(gates_of(id)) do
    local is_meant = figures(gate).keyed
    if name ~= '' then
      is_meant = gate:gsub('^%+', ''):match('^([^:]+)') == name
    end
    if is_meant then
      redis.call('ZADD', HOLDS, 'GT', at, gate)
      redis.call('ZADD', GATES, 'XX', at, gate)
      has_holds, has_gates, first = true, true, first or gate
    end
  end
  if not first then
    settle.snoozed(id, delay, reason)
    return
  end
  redis.call('HINCRBY', job(id), 'snoozes', 1)
  redis.call('HSET', job(id), 'reason', reason)
  count('snoozed')
  park(id, first, at)
end

function settle.returned(id)
  to_ready(id)
end

function settle.discarded(id, reason, error, keep)
  if FAILED[reason] then
    redis.call('HINCRBY', job(id), 'failures', 1)
  end
  record_error(id, error)
  to_dead(id, reason, keep)
end

local GOES_ON = { retry = true, snoozed = true, held = true, returned = true }

-- Somebody may have written to Redis by hand. What cannot be handled is set aside, and hinders no other job.
local function set_aside(id)
  for _, index in ipairs({ READY, LATER, RUN }) do
    redis.call('ZREM', index, id)
  end
  redis.call('RENAME', job(id), P .. 'foreign:' .. id)
  record_error(id, 'its key did not hold what a job is made of; what was there is kept under foreign:' .. id)
  to_dead(id, 'undecodable')
end

local function safely(act, id, ...)
  local done, answer = pcall(act, id, ...)
  if done then
    return answer
  end
  if redis.call('EXISTS', job(id)) == 0 then
    error(answer)
  end
  set_aside(id)
end

local ended = {}

local function settled(id, number, verb, a, b, c)
  local now = redis.call('HMGET', job(id), 'claim', 'held', 'cancel', 'unique', 'state')
  -- Fenced: whoever holds the newest claim, and only while its lease stands, decides about the job.
  if now[1] ~= number or now[5] ~= 'running' then
    return 0
  end
  ended[#ended + 1] = id
  if now[2] then
    leave_gates(id, now[2])
  end
  if now[3] and GOES_ON[verb] then
    settle.cancelled(id, 'cancelled on request', nil, nil, now[4])
  else
    settle[verb](id, a, b, c, now[4])
  end
  return 1
end

local accepted = {}
for i = OUTCOME, #ARGV, FIELDS do
  accepted[#accepted + 1] = safely(settled, ARGV[i], unpack(ARGV, i + 1, i + 5)) or 0
end
in_parts(1000, ended, function(...)
  redis.call('ZREM', RUN, ...)
end)

-- Take back, promote, sweep --------------------------------------------------------------------------------------

local function take_back(id)
  local now = redis.call('HMGET', job(id), 'held', 'buffered', 'stranded', 'cancel', 'unique')
  redis.call('ZREM', RUN, id)
  if now[1] then
    leave_gates(id, now[1])
  end
  count('reclaimed')
  if now[4] then
    settle.cancelled(id, 'cancelled on request', nil, nil, now[5])
  elseif now[2] == '1' and not now[3] then
    -- It only waited in the worker for a slot, so it killed nobody. Once: from now on it gets a slot or nothing.
    redis.call('HSET', job(id), 'stranded', 1)
    to_ready(id)
  else
    local deaths = redis.call('HINCRBY', job(id), 'deaths', 1)
    if deaths >= POISON then
      record_error(id, 'its worker died or lost its lease ' .. deaths .. ' times while running it')
      to_dead(id, 'poison')
    else
      to_ready(id)
    end
  end
end

local function promote(id)
  redis.call('ZREM', LATER, id)
  to_ready(id)
end

for _, id in ipairs(redis.call('ZRANGEBYSCORE', RUN, '-inf', NOW, 'LIMIT', 0, BATCH)) do
  safely(take_back, id)
end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', LATER, '-inf', NOW, 'LIMIT', 0, BATCH)) do
  safely(promote, id)
end

if NOW - (tonumber(known[7]) or 0) >= 1000 then
  redis.call('HSET', META, 'swept', NOW)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', DEAD, '-inf', NOW - KEEP_DEAD, 'LIMIT', 0, BATCH)) do
    redis.call('ZREM', DEAD, id)
    forget(id)
  end
  redis.call('ZREMRANGEBYSCORE', DONE, '-inf', NOW - KEEP)
end

-- Claim ----------------------------------------------------------------------------------------------------------

local want = SLOTS + MORE
if fleet or queue_rate or has_gates then
  want = SLOTS -- what waits in a worker would count as started, or keep others from a gate
end
if paused then
  want = 0
end
if fleet then
  want = math.max(0, math.min(want, fleet - redis.call('ZCARD', RUN)))
end
if queue_rate and want > 0 then
  want = queue_room(want)
end

if want > 0 and redis.call('EXISTS', GATES) == 1 then
  for _, gate in ipairs(redis.call('ZRANGEBYSCORE', GATES, '-inf', NOW, 'LIMIT', 0, BATCH)) do
    local waiting = P .. 'wait:' .. gate
    local at = opens(gate)
    if at <= NOW then
      for _, id in ipairs(redis.call('ZRANGE', waiting, 0, want - 1)) do
        unpark(id, gate)
        redis.call('ZADD', READY, redis.call('HGET', job(id), 'rank'), id)
      end
    else
      redis.call('ZADD', GATES, at, gate)
    end
    if redis.call('EXISTS', waiting) == 0 then
      redis.call('ZREM', GATES, gate)
    end
  end
end

local claimed, leases = {}, {}
local taken, looked_at = 0, 0

-- Returns true when the job must wait for a slot of its own, for which this worker has no room.
local function claim(id)
  local key = job(id)
  local had = redis.call('HMGET', key, 'envelope', 'failures', 'snoozes', 'enqueued', 'deadline', 'stranded', 'claim')
  local deadline = tonumber(had[5])
  if deadline and deadline <= NOW then
    record_error(id, 'its deadline passed before it could run')
    to_dead(id, 'expired')
    return
  end
  local buffered = taken >= SLOTS
  if buffered and had[6] then
    return true
  end
  local within = 0
  if has_gates then
    local gates = gates_of(id)
    local gate, at = obstacle(gates)
    if gate then
      park(id, gate, at)
      return
    end
    within = pass(id, gates)
  end
  if queue_rate then
    note_start(P .. 'starts:', queue_rate)
    within = within == 0 and slack(queue_rate.per) or math.min(within, slack(queue_rate.per))
  end
  local number = (tonumber(had[7]) or 0) + 1
  redis.call(
    'HSET', key, 'claim', number, 'state', 'running', 'worker', WORKER, 'started', NOW, 'buffered', buffered and 1 or 0
  )
  leases[2 * taken + 1], leases[2 * taken + 2] = NOW + LEASE, id
  tell('running', id)
  taken = taken + 1
  local n = #claimed
  claimed[n + 1], claimed[n + 2], claimed[n + 3] = id, number, had[1] or ''
  claimed[n + 4], claimed[n + 5] = tonumber(had[2]) or 0, tonumber(had[3]) or 0
  claimed[n + 6] = tonumber(had[4]) or NOW
  claimed[n + 7], claimed[n + 8] = within, deadline and deadline - NOW or 0
end

local full = false
while taken < want and looked_at < MOST_LOOKED_AT and not full do
  local popped = redis.call('ZPOPMIN', READY, want - taken)
  if #popped == 0 then
    break
  end
  for i = 1, #popped, 2 do
    looked_at = looked_at + 1
    full = full or safely(claim, popped[i])
    if full then
      redis.call('ZADD', READY, popped[i + 1], popped[i])
    end
  end
end

in_parts(1000, leases, function(...)
  redis.call('ZADD', RUN, ...)
end)

-- This worker takes no more, but there is more that could run: wake another one.
local waits = redis.call('ZCARD', READY) > 0 and not paused
local queue_opens = queue_rate and rate_opens(P .. 'starts:', queue_rate) or 0
local is_full = fleet and redis.call('ZCARD', RUN) >= fleet
if waits and queue_opens <= NOW and not is_full then
  ring()
end

local due = waits and queue_opens > NOW and queue_opens - NOW or NEVER
if looked_at >= MOST_LOOKED_AT then
  due = 0
end
for _, index in ipairs({ LATER, RUN, GATES }) do
  local first = tonumber(redis.call('ZRANGE', index, 0, 0, 'WITHSCORES')[2])
  -- At an open gate, jobs wait for this worker only if it had room for more than it found.
  if first and first < NEVER and (index ~= GATES or first > NOW or taken < want) then
    due = math.min(due, math.max(0, math.ceil(first - NOW)))
  end
end
flush()
return { due >= NEVER - NOW and -1 or due, has_policy, accepted, claimed }
