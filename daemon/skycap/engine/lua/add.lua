-- after: queue, lines
-- Add jobs, all or none. Idempotent by id: sending the same call again adds nothing.
-- ARGV: id, kind, priority, when, options, envelope for each job. ``when`` is a delay (ms), or "@" and a time (ms).
-- options is '' or JSON: deadline (as when), unique (key), within (ms), conflict (keep, replace, debounce).
-- Returns id, state, duplicate (0 or 1) for each; or nothing at all when the queue is full.
local FIELDS = 6

local function moment(when)
  local at = when:match('^@(.*)$')
  return at and tonumber(at) or NOW + tonumber(when)
end

local function is_full(most)
  local new = 0
  for i = 1, #ARGV, FIELDS do
    new = new + 1 - redis.call('EXISTS', job(ARGV[i]))
  end
  local parked = tonumber(redis.call('HGET', META, 'parked')) or 0
  return new > 0 and redis.call('ZCARD', READY) + redis.call('ZCARD', LATER) + parked + new > most
end

local most = tonumber(redis.call('HGET', META, 'max_waiting'))
if most and is_full(most) then
  return {}
end
local next_rank = seats(#ARGV / FIELDS)
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
local rung = false
for i = 1, #ARGV, FIELDS do
  local id = ARGV[i]
  local due = moment(ARGV[i + 3])
  local options = ARGV[i + 4] == '' and {} or cjson.decode(ARGV[i + 4])
  local state = redis.call('HGET', job(id), 'state')
  local same = state and id
  if not same and options.unique then
    same, state = standing_for(id, options, due, ARGV[i + 5])
  end
  local n = #reply
  if same then
    reply[n + 1], reply[n + 2], reply[n + 3] = same, state, 1
  else
    new_ids[#new_ids + 1] = id
    reply[n + 1], reply[n + 3] = id, 0
    reply[n + 2] = store(id, ARGV[i + 1], ARGV[i + 2], due, options, ARGV[i + 5])
    rung = true
  end
end
line_up()
if rung then
  ring()
end
flush()
return reply
