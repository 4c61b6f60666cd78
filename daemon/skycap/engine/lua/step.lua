#!lua flags=allow-oom
-- after: queue, lines, ends, outages, limits
-- One turn of a worker's loop, and the only call on the hot path: settle what ended, take back what crashed
-- workers left, promote what is due, claim what there is room for.
-- Allowed when Redis is out of memory: settling is what frees it.
--
-- ARGV: worker, lease (ms), slots (jobs that can start at once), more (jobs to have at hand behind them),
--       poison limit ('': take nothing back), then id, claim, verb, a, b, c for each outcome.
-- Returns: the ms until something can happen without a doorbell (-1: nothing is known),
--          1 when the queue has its policy, 0 when it was lost with Redis' data,
--          1 or 0 for each outcome (0: the lease was lost, the outcome was ignored),
--          id, claim, envelope, failures, snoozes, enqueued (ms), start within (ms), end within (ms), for how long (ms)
--          it could have run, for each claimed job; 0 where there is no such bound,
--          now (ms),
--          kind, reason of each job that this call itself gave up.
local WORKER, LEASE, SLOTS, MORE, POISON = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local OUTCOME, FIELDS = 6, 6
-- Housekeeping is bounded for each call, so that no backlog of it can block Redis.
local BATCH, MOST_LOOKED_AT = 100, 1000

local NAMES = { 'base:keep_finished', 'paused', 'fleet', 'rate_max', 'rate_per', 'limits', 'swept', 'holds', 'parked',
  'outages', 'keep_finished', 'keep_finished_count', 'keep_discarded', 'keep_discarded_count' }
local known = redis.call('HMGET', META, unpack(NAMES))
local has_policy, paused, fleet = known[1] and 1 or 0, known[2], tonumber(known[3])
local queue_rate = tonumber(known[4]) and { max = tonumber(known[4]), per = tonumber(known[5]) }
local swept, has_parked = tonumber(known[7]) or 0, (tonumber(known[9]) or 0) > 0

know_retention(unpack(known, 11, 14))
know_limits(known[6], known[8])
has_gates = known[10] and know_outages() or has_gates
local parks, given_up = 0, {}

-- Of a job that no worker settles.
local function give_up(id, reason)
  local n = #given_up
  given_up[n + 1], given_up[n + 2] = redis.call('HGET', job(id), 'kind') or '', reason
  to_dead(id, reason)
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
  local breaker = name:match('^!(.*)$')
  if breaker then
    local opens_at = note_outage(breaker, tonumber(delay))
    if opens_at then
      at, first, has_gates = opens_at, name, true
    end
  end
  for _, gate in ipairs(first and {} or gates_of(id)) do
    local is_meant = figures(gate).keyed
    if name ~= '' then
      is_meant = gate:gsub('^%+', ''):match('^([^:]+)') == name
    end
    if is_meant then
      redis.call('ZADD', holds_of(gate), 'GT', at, gate)
      redis.call('HSET', META, 'holds', 1)
      redis.call('ZADD', GATES, 'XX', at, gate)
      has_holds, has_gates, first = true, true, first or gate
    end
  end
  if not first then
    settle.snoozed(id, delay, reason)
    return
  end
  redis.call('HINCRBY', job(id), 'snoozes', 1)
  redis.call('HDEL', job(id), 'deaths', 'stranded')
  redis.call('HSET', job(id), 'reason', reason, 'due', string.format('%.0f', at))
  count('snoozed')
  park(id, first, at)
  parks = parks + 1
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
local function set_aside(id, problem)
  for _, index in ipairs({ READY, LATER, RUN }) do
    redis.call('ZREM', index, id)
  end
  redis.call('RENAME', job(id), P .. 'foreign:' .. id)
  record_error(id, 'it could not be handled and was set aside under foreign:' .. id .. ': ' .. problem)
  give_up(id, 'undecodable')
end

local function safely(act, id, ...)
  local done, answer = pcall(act, id, ...)
  if done then
    return answer
  end
  if redis.call('EXISTS', job(id)) == 0 then
    error(answer)
  end
  set_aside(id, type(answer) == 'table' and answer.err or tostring(answer))
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
      give_up(id, 'poison')
    else
      redis.call('HSET', job(id), 'due', STAMP)
      to_ready(id)
    end
  end
end

local function promote(id)
  redis.call('ZREM', LATER, id)
  to_ready(id)
end

-- When (ms) the first of an index is due, after everything that is due now was handled; a bounded part of it.
local function handle_due(index, handle)
  local first = redis.call('ZRANGE', index, 0, 0, 'WITHSCORES')[2]
  if not first or tonumber(first) > NOW then
    return tonumber(first) or NEVER
  end
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', index, '-inf', NOW, 'LIMIT', 0, BATCH)) do
    safely(handle, id)
  end
  return tonumber(redis.call('ZRANGE', index, 0, 0, 'WITHSCORES')[2]) or NEVER
end

local next_due = handle_due(LATER, promote)
if POISON then
  next_due = math.min(next_due, handle_due(RUN, take_back))
end
if NOW - swept >= 1000 then
  redis.call('HSET', META, 'swept', STAMP)
  local too_old = NOW - retention().discarded
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', DEAD, '-inf', too_old, 'LIMIT', 0, BATCH)) do
    redis.call('ZREM', DEAD, id)
    forget(id)
  end
  redis.call('ZREMRANGEBYSCORE', DONE, '-inf', NOW - retention().finished)
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
  want = queue_room(queue_rate, want)
end

if want > 0 and has_parked then
  for _, gate in ipairs(redis.call('ZRANGEBYSCORE', GATES, '-inf', NOW, 'LIMIT', 0, BATCH)) do
    local waiting = P .. 'wait:' .. gate
    local at = opens(gate)
    if at <= NOW then
      local first = redis.call('ZRANGE', waiting, 0, want - 1, 'WITHSCORES')
      for i = 1, #first, 2 do
        safely(unpark, first[i], gate)
        if redis.call('ZSCORE', DEAD, first[i]) == false then
          redis.call('ZADD', READY, first[i + 1], first[i])
        end
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
local LEASE_END = string.format('%.0f', NOW + LEASE)
local taken, looked_at = 0, 0
local frexp = math.frexp

-- Returns true when the job must wait for a slot of its own, for which this worker has no room.
local function claim(id)
  local key = job(id)
  local had = redis.call('HMGET', key, 'envelope', 'failures', 'snoozes', 'enqueued', 'deadline', 'stranded', 'claim', 'due')
  local deadline = tonumber(had[5])
  if deadline and deadline <= NOW then
    record_error(id, 'its deadline passed before it could run')
    give_up(id, 'expired')
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
      parks = parks + 1
      return
    end
    within = pass(id, gates)
  end
  if queue_rate then
    note_start(P .. 'starts:', queue_rate)
    within = within == 0 and slack(queue_rate.per) or math.min(within, slack(queue_rate.per))
  end
  local number = tonumber(had[7]) or 0
  -- The worker gets a whole number, and must be able to say the same one.
  number = (number >= 0 and number < 1e15 and number == math.floor(number) and number or 0) + 1
  local at_hand = buffered and '1' or '0'
  redis.call('HSET', key, 'claim', number, 'state', 'running', 'worker', WORKER, 'started', STAMP, 'buffered', at_hand)
  leases[2 * taken + 1], leases[2 * taken + 2] = LEASE_END, id
  tell('running', id)
  taken = taken + 1
  local n = #claimed
  claimed[n + 1], claimed[n + 2], claimed[n + 3] = id, number, had[1] or ''
  claimed[n + 4], claimed[n + 5] = tonumber(had[2]) or 0, tonumber(had[3]) or 0
  local enqueued, due = tonumber(had[4]) or NOW, had[8] and tonumber(had[8])
  claimed[n + 6] = enqueued
  claimed[n + 7], claimed[n + 8] = within, deadline and deadline - NOW or 0
  -- Others' words for when may be infinite, or no numbers.
  local waited = NOW - (due and due > enqueued and due or enqueued)
  claimed[n + 9] = waited > 0 and waited < 1e15 and waited or 0
  -- Eight buckets for each doubling of the wait; engine/minutes.py knows what each means.
  local half, doublings = frexp(waited)
  local bucket = doublings > 0 and half > 0 and half < 1 and doublings * 8 + half * 16 - half * 16 % 1 or 0
  noted[bucket] = (noted[bucket] or 0) + 1
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

-- This worker takes no more, but there is more that could run: wake another one. What had room for more than it
-- found has found it all.
local found_all = taken < want and looked_at < MOST_LOOKED_AT and not full
local gate_at = (has_parked or parks > 0) and tonumber(redis.call('ZRANGE', GATES, 0, 0, 'WITHSCORES')[2])
-- Jobs at an open gate wait as those that are ready do, until there is room or the queue's rate allows.
local is_open = gate_at and gate_at <= NOW
local waits = not paused and not found_all and (is_open or redis.call('ZCARD', READY) > 0)
local queue_opens = waits and queue_rate and rate_opens(P .. 'starts:', queue_rate) or 0
local is_full = waits and fleet and redis.call('ZCARD', RUN) >= fleet
if waits and queue_opens <= NOW and not is_full then
  ring()
end

local due = next_due - NOW
if queue_opens > NOW then
  due = math.min(due, queue_opens - NOW)
end
if looked_at >= MOST_LOOKED_AT then
  due = 0
end
if gate_at then
  -- At an open gate, jobs wait for this worker only if it had room for more than it found.
  if gate_at < NEVER and (not is_open or taken < want) then
    due = math.min(due, gate_at - NOW)
  end
end
flush()
return { due >= NEVER - NOW and -1 or math.max(0, math.ceil(due)), has_policy, accepted, claimed, NOW, given_up }
