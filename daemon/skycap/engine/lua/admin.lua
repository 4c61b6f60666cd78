#!lua flags=allow-oom
-- after: queue, lines, ends, outages
-- What an admin does. ARGV: verb, then its arguments. Every verb answers the same when it is sent twice.
local verb = {}

-- id -> the state afterwards, or false for an unknown job. A running job is told at its next heartbeat.
function verb.cancel(id)
  local state = redis.call('HGET', job(id), 'state')
  if state == 'running' then
    redis.call('HSET', job(id), 'cancel', 1)
  elseif WAITING[state] then
    withdraw(id)
    to_done(id, redis.call('HGET', job(id), 'unique'), 'cancelled', 'cancelled on request', 'null')
    return 'cancelled'
  end
  return state
end

local function start_over(id)
  redis.call('ZREM', DEAD, id)
  local priority = priority_of(id)
  redis.call('HDEL', job(id), 'failures', 'deaths', 'stranded', 'snoozes', 'finished', 'reason', 'cancel', 'rank', 'deadline')
  redis.call('HSET', job(id), 'priority', priority)
  local unique = redis.call('HGET', job(id), 'unique')
  if unique and not redis.call('SET', P .. 'unique:' .. unique, id, 'NX') then
    redis.call('HDEL', job(id), 'unique') -- another job stands for it now
  end
end

-- id, when (a delay in ms, or "@" and a time), envelope or '' -> the state afterwards, or false for an unknown job.
-- A discarded job starts over, with its attempts and without its deadline; one that waits does so until then. From
-- then on it waits anew.
function verb.run(id, when, envelope)
  local state = redis.call('HGET', job(id), 'state')
  if state ~= 'discarded' and not WAITING[state] then
    return state
  end
  if envelope ~= '' then
    redis.call('HSET', job(id), 'envelope', envelope)
  end
  if state == 'discarded' then
    start_over(id)
  else
    withdraw(id)
  end
  local at = when:match('^@(.*)$')
  local due = at and tonumber(at) or NOW + tonumber(when)
  if due > NOW then
    to_later(id, due, 'scheduled')
  else
    redis.call('HSET', job(id), 'due', STAMP)
    to_ready(id)
  end
  ring()
  return due > NOW and 'scheduled' or 'available'
end

-- id -> 1 when a discarded job was removed for good.
function verb.remove(id)
  if redis.call('ZREM', DEAD, id) == 1 then
    forget(id)
    return 1
  end
  return 0
end

-- id -> 1 when a job that has ended, however, was removed for good.
function verb.forget(id)
  if redis.call('ZREM', DEAD, id) + redis.call('ZREM', DONE, id) > 0 then
    forget(id)
    return 1
  end
  return 0
end

-- why -> 1 when it was not paused before; the first reason stays.
function verb.pause(why)
  local is_new = redis.call('HSETNX', META, 'paused', STAMP)
  if is_new == 1 and why ~= '' then
    redis.call('HSET', META, 'paused_why', why)
  end
  return is_new
end

function verb.resume()
  redis.call('HDEL', META, 'paused', 'paused_why')
  ring()
  return 1
end

-- Every gate is looked at again: it may let more jobs pass now.
local function recheck()
  for _, gate in ipairs(redis.call('ZRANGE', GATES, 0, 9999)) do
    redis.call('ZADD', GATES, 'XX', 'LT', 0, gate)
  end
  ring()
end

-- gate, or a limit for all its gates; ms ('' = until it is opened): no job passes it meanwhile.
function verb.shut(gate, ms)
  redis.call('ZADD', holds_of(gate), ms == '' and '+inf' or NOW + ms, gate)
  redis.call('HSET', META, 'holds', 1)
  redis.call('ZADD', GATES, 'XX', ms == '' and '+inf' or NOW + ms, gate)
  return 1
end

function verb.open(gate)
  redis.call('ZREM', holds_of(gate), gate)
  recheck()
  return 1
end

-- breaker, ms: it is open. 1, or 0 when no kind of this queue needs it.
function verb.outage(breaker, ms)
  return note_outage(breaker, tonumber(ms)) and 1 or 0
end

-- breaker: it is closed.
function verb.outage_over(breaker)
  redis.call('HDEL', OUTAGES, breaker)
  recheck()
  return 1
end

local function put(name, value)
  if value and value ~= '' then
    redis.call('HSET', META, name, value)
  else
    redis.call('HDEL', META, name)
  end
end

-- The configured limits, with the figures that were set while running in the place of their own.
local function merged_limits()
  local limits = cjson.decode(redis.call('HGET', META, 'base:limits') or '[]')
  for _, limit in ipairs(limits) do
    local figures = redis.call('HGET', META, 'set:limit:' .. limit.name)
    if figures then
      local set = cjson.decode(figures)
      limit.max, limit.per, limit.concurrency = set.max, set.per, set.concurrency
    end
  end
  return #limits > 0 and cjson.encode(limits) or ''
end

-- What is in force of a part of the policy: what was set while running, else what is configured.
local function apply(name)
  if name == 'limits' or name:match('^limit:') then
    put('limits', merged_limits())
  else
    local values = redis.call('HMGET', META, 'set:' .. name, 'base:' .. name)
    put(name, values[1] or values[2])
  end
end

local function store(where, parts)
  for i = 1, #parts, 2 do
    redis.call('HSET', META, where .. parts[i], parts[i + 1])
    apply(parts[i])
  end
  recheck()
  return 1
end

-- name, value for each part ('' = none), as the configuration has it.
function verb.configure(...)
  return store('base:', { ... })
end

-- name, value for each part: for the whole fleet, from now on, whatever the configuration says.
function verb.set(...)
  return store('set:', { ... })
end

-- names: as the configuration says again.
function verb.unset(...)
  for _, name in ipairs({ ... }) do
    redis.call('HDEL', META, 'set:' .. name)
    apply(name)
  end
  recheck()
  return 1
end

local answer = verb[ARGV[1]](unpack(ARGV, 2))
flush()
return answer
