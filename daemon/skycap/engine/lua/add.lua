-- after: queue, lines, ends
-- Add jobs, all or none. Idempotent by id: sending the same call again adds nothing.
-- ARGV: mode, then id, kind, priority, when, options, envelope for each job.
-- mode is '' or '?' (only look whether they could be added) or the number of a batch, of which each is added once, in order.
-- when is a delay (ms), or "@" and a time (ms).
-- options is '' or JSON: deadline (as when), unique (key), within (ms), conflict (keep, replace, debounce);
-- request (key), digest, known (ms): the same request again is its first job, as long as it is known;
-- dead (a reason), error: it goes to the dead-letter queue at once.
-- Returns id, state, duplicate (0 or 1) for each; nothing at all when the queue is full; of one job only, with the
-- state 'reused', when its request's key came with another digest before; 1 when there is room; 0 for a batch that was
-- added before.
local FIELDS = 6
local MODE, NONE = ARGV[1], {}

local function moment(when)
  local at = when:match('^@(.*)$')
  return at and tonumber(at) or NOW + tonumber(when)
end

local function is_full(most)
  local new = 0
  for i = 2, #ARGV, FIELDS do
    new = new + 1 - redis.call('EXISTS', job(ARGV[i]))
  end
  local parked = tonumber(redis.call('HGET', META, 'parked')) or 0
  return new > 0 and redis.call('ZCARD', READY) + redis.call('ZCARD', LATER) + parked + new > most
end

local batch = tonumber(MODE)
if batch and (tonumber(redis.call('HGET', META, 'batch')) or 0) >= batch then
  return 0
end
local policy = redis.call('HMGET', META, 'max_waiting', 'lifo')
local most = tonumber(policy[1])
if most and is_full(most) then
  return {}
end

-- The job that the same request made before, with its state; nil for a request that is not known.
local function made_by(options)
  local known = redis.call('GET', P .. 'request:' .. options.request)
  if not known then
    return nil
  end
  local digest, id = known:match('^(%S+) (.*)$')
  if digest ~= options.digest then
    return id, 'reused'
  end
  return id, redis.call('HGET', job(id), 'state') or 'completed'
end

-- What each job is asked for with; looked at as a whole before anything is stored.
local wishes = {}
for i = 2, #ARGV, FIELDS do
  if ARGV[i + 4] ~= '' then
    local options = cjson.decode(ARGV[i + 4])
    wishes[i] = options
    if options.request then
      local id, state = made_by(options)
      if state == 'reused' then
        return { id, state, 1 }
      end
    end
  end
end
if MODE == '?' then
  return 1
elseif batch then
  redis.call('HSET', META, 'batch', MODE)
end
local next_rank = seats((#ARGV - 1) / FIELDS, policy[2])
local ranks = {}

local new_ids = {}

-- Lets those that were added so far take their places.
local function line_up()
  in_parts(1000, ranks, function(...)
    redis.call('ZADD', READY, ...)
  end)
  -- A job that ended and was forgotten may have had the id; its place among the ended ones is no longer its own.
  in_parts(1000, new_ids, function(...)
    redis.call('ZREM', DONE, ...)
  end)
  ranks, new_ids = {}, {}
end

-- The job that has the unique key already and stands for the new one; nil when the new one is a job of its own.
local function standing_for(id, options, due, envelope)
  local key = P .. 'unique:' .. options.unique
  local other = redis.call('GET', key)
  if not other then
    return nil
  end
  local state = redis.call('HGET', job(other), 'state')
  if options.conflict == 'keep' then
    -- One that ended so long ago that nothing but its key is known any more did end.
    return other, state or 'completed'
  end
  if not WAITING[state] then
    return nil -- it runs or has ended with the old payload: the new one must run, too
  end
  line_up()
  redis.call('HSET', job(other), 'envelope', envelope)
  if options.conflict == 'debounce' then
    withdraw(other)
    to_later(other, due, 'scheduled')
    ring()
    return other, 'scheduled'
  end
  local gate = redis.call('HGET', job(other), 'parked')
  if gate then
    -- With its new payload it may have to wait elsewhere, or nowhere.
    unpark(other, gate)
    to_ready(other)
    ring()
  end
  return other, state
end

local function store(id, kind, priority, due, options, envelope)
  local key = job(id)
  if options.deadline then
    redis.call('HSET', key, 'deadline', moment(tostring(options.deadline)))
  end
  if options.unique then
    redis.call('HSET', key, 'unique', options.unique)
    if options.within then
      redis.call('SET', P .. 'unique:' .. options.unique, id, 'PX', options.within)
    else
      redis.call('SET', P .. 'unique:' .. options.unique, id)
    end
  end
  if options.dead then
    redis.call('HSET', key, 'envelope', envelope, 'kind', kind, 'priority', priority, 'enqueued', STAMP)
    record_error(id, options.error)
    to_dead(id, options.dead)
    return 'discarded'
  end
  if due > NOW then
    redis.call('HSET', key, 'envelope', envelope, 'kind', kind, 'priority', priority, 'enqueued', STAMP)
    to_later(id, due, 'scheduled')
    return 'scheduled'
  end
  local rank = next_rank(priority)
  redis.call('HSET', key, 'envelope', envelope, 'kind', kind, 'rank', rank, 'enqueued', STAMP, 'state', 'available')
  local n = #ranks
  ranks[n + 1], ranks[n + 2] = rank, id
  tell('available', id)
  return 'available'
end

local reply = {}
local added = 0
for i = 2, #ARGV, FIELDS do
  local id = ARGV[i]
  local due = moment(ARGV[i + 3])
  local options = wishes[i] or NONE
  local same, state
  if options.request then
    same, state = made_by(options)
  end
  if not same then
    state = redis.call('HGET', job(id), 'state')
    same = state and id
  end
  if not same and options.unique then
    same, state = standing_for(id, options, due, ARGV[i + 5])
  end
  if options.request then
    redis.call('SET', P .. 'request:' .. options.request, options.digest .. ' ' .. (same or id), 'PX', options.known, 'NX')
  end
  local n = #reply
  if same then
    count('deduplicated')
    reply[n + 1], reply[n + 2], reply[n + 3] = same, state, 1
  else
    new_ids[#new_ids + 1] = id
    reply[n + 1], reply[n + 3] = id, 0
    reply[n + 2] = store(id, ARGV[i + 1], ARGV[i + 2], due, options, ARGV[i + 5])
    added = added + 1
  end
end
line_up()
if added > 0 then
  counted.added = added
  ring()
end
flush()
return reply
