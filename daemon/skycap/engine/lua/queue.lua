-- What every script of a queue shares: its keys, the clock, and how a job moves between states.
-- Prepended to each script. KEYS[1] is the queue's prefix, such as "skycap:{email}:"; the hash tag keeps
-- every key of the queue in one cluster slot, which is what allows them to be derived here.
--
--   job:<id>      hash    envelope, kind, state, rank (or priority, until it has one), claim (the fence), worker,
--                         cancel, buffered, stranded, held (gates), parked (gate), unique, deadline, keep,
--                         failures, deaths, snoozes, errors (counts), error:<n> ("<ms> <text>"), logs, log:<n>,
--                         progress, enqueued, due, started, finished (ms), reason, result (JSON)
--   ready         zset    rank: priority, then first come first served
--   later         zset    due (ms): delayed, backing off, snoozed
--   run           zset    end of the lease (ms)
--   dead          zset    since (ms): the dead-letter queue
--   done          zset    since (ms): completed and cancelled, kept for a while
--   gates         zset    when (ms) a gate that jobs wait at may open; infinite: when somebody opens it
--   wait:<gate>   zset    rank: the jobs that wait at it
--   starts:<gate> list    when (ms) the newest jobs passed it, for its rate
--   busy:<gate>   set     the running jobs that passed it, for its concurrency
--   holds         zset    until when (ms) a gate is shut whatever its limit says
--   unique:<key>  string  the job that has the key
--   meta          hash    seq, paused, parked, the queue's policy, and a count of each outcome
--   cron          hash    the newest tick (ms) that was enqueued of each schedule
--   events        stream  what happened to jobs, the newest: state, id; state, id; …
--   wake          list    the doorbell, at most one long

local P = KEYS[1]
local READY, LATER, RUN, DEAD, DONE = P .. 'ready', P .. 'later', P .. 'run', P .. 'dead', P .. 'done'
local META, WAKE, EVENTS, GATES, HOLDS = P .. 'meta', P .. 'wake', P .. 'events', P .. 'gates', P .. 'holds'

-- Redis' own clock decides everything, so hosts whose clocks differ cannot harm a job.
local clock = redis.call('TIME')
local NOW = clock[1] * 1000 + math.floor(clock[2] / 1000)

local function job(id)
  return P .. 'job:' .. id
end

local function ring()
  if redis.call('LLEN', WAKE) == 0 then
    redis.call('LPUSH', WAKE, 1)
  end
end

-- What is counted, told and deleted is so once for each call, by flush(), which every script ends with.
local counted, told = {}, {}

local function count(what)
  counted[what] = (counted[what] or 0) + 1
end

local function tell(event, what)
  local n = #told
  told[n + 1], told[n + 2] = event, what
end

-- Calls a command with many arguments, in parts that Lua's stack can take.
local function in_parts(size, list, call)
  for i = 1, #list, size do
    call(unpack(list, i, math.min(i + size - 1, #list)))
  end
end

local gone = {}

local function flush()
  in_parts(1000, gone, function(...)
    redis.call('DEL', ...)
  end)
  for what, n in pairs(counted) do
    redis.call('HINCRBY', META, what, n)
  end
  -- An entry holds up to 50 events, in order, so that a busy queue does not spend its time on them.
  in_parts(100, told, function(...)
    redis.call('XADD', EVENTS, 'MAXLEN', '~', 5000, '*', ...)
  end)
end

-- 43 bits number the jobs of a queue, 10 bits hold the priority, and a double is exact to 53.
local SEATS = 8796093022208

local function priority_of(id)
  local known = redis.call('HMGET', job(id), 'priority', 'rank')
  return tonumber(known[1]) or (known[2] and math.floor(tonumber(known[2]) / SEATS)) or 10
end

-- Gives out the next `count` seats; returns a function from a priority to the rank of the next of them.
local function seats(count)
  local seat = redis.call('HINCRBY', META, 'seq', count) - count
  local is_lifo = redis.call('HGET', META, 'lifo') == '1'
  return function(priority)
    seat = seat + 1
    return string.format('%.0f', priority * SEATS + (is_lifo and SEATS - seat or seat))
  end
end

local function new_rank(priority)
  return seats(1)(priority)
end

-- A job keeps its rank for life: one that was retried or handed back goes before those that came after it.
local function to_ready(id)
  local rank = redis.call('HGET', job(id), 'rank')
  if not rank then
    rank = new_rank(priority_of(id))
    redis.call('HSET', job(id), 'rank', rank)
  end
  redis.call('HSET', job(id), 'state', 'available')
  redis.call('ZADD', READY, rank, id)
  tell('available', id)
end

local function to_later(id, due, state)
  redis.call('HSET', job(id), 'state', state, 'due', due)
  redis.call('ZADD', LATER, due, id)
  tell(state, id)
end

-- A job that waits at a gate is available to nobody until the gate opens; its state is available all the same.
local function park(id, gate, opens)
  local rank = redis.call('HGET', job(id), 'rank') or new_rank(priority_of(id))
  redis.call('HSET', job(id), 'state', 'available', 'parked', gate, 'rank', rank)
  redis.call('ZADD', P .. 'wait:' .. gate, rank, id)
  redis.call('ZADD', GATES, opens, gate)
  redis.call('HINCRBY', META, 'parked', 1)
end

local function unpark(id, gate)
  if redis.call('ZREM', P .. 'wait:' .. gate, id) == 1 then
    redis.call('HDEL', job(id), 'parked')
    redis.call('HINCRBY', META, 'parked', -1)
  end
end

-- Takes a job that waits, in whichever way, out of its line.
local function withdraw(id)
  local gate = redis.call('HGET', job(id), 'parked')
  if gate then
    unpark(id, gate)
  end
  redis.call('ZREM', READY, id)
  redis.call('ZREM', LATER, id)
end

local WAITING = { available = true, scheduled = true, retryable = true }

-- What a gate of a limit that several queues share is kept under: outside the queue's own keys.
local function gate_key(what, gate)
  local name = gate:match('^%+(.*)$')
  return name and 'skycap:limit:' .. what .. ':' .. name or P .. what .. ':' .. gate
end

-- A job does not run any more: the gates that it passed have room again.
local function leave_gates(id, held)
  for gate in held:gmatch('[^\n]+') do
    redis.call('SREM', gate_key('busy', gate), id)
    redis.call('ZADD', GATES, 'XX', 'LT', 0, gate)
  end
  redis.call('HDEL', job(id), 'held')
end

local function forget(id)
  gone[#gone + 1] = job(id)
end

-- What every end of a job means, whether or not the job is kept. A unique key that holds for a time outlives its
-- job; one that holds while the job is unfinished does not.
local function close(id, state, unique)
  count(state)
  tell(state, id)
  if unique then
    local key = P .. 'unique:' .. unique
    if redis.call('GET', key) == id and redis.call('PTTL', key) < 0 then
      redis.call('DEL', key)
    end
  end
end

local function trim(index, count)
  local over = redis.call('ZCARD', index) - count
  if over > 0 then
    -- A bounded number at a time: a lowered limit must not make one call long.
    local popped = redis.call('ZPOPMIN', index, math.min(over, 100))
    for i = 1, #popped, 2 do
      forget(popped[i])
    end
  end
end

local policy = redis.call('HMGET', META, 'keep_finished', 'keep_finished_count', 'keep_discarded', 'keep_discarded_count')
local KEEP, KEEP_COUNT = tonumber(policy[1]) or 3600000, tonumber(policy[2]) or 100
local KEEP_DEAD, KEEP_DEAD_COUNT = tonumber(policy[3]) or 172800000, tonumber(policy[4]) or 10000

-- keep: a time (ms) of the job's own instead of the queue's, or nil or ''.
local function to_dead(id, reason, keep)
  close(id, 'discarded', redis.call('HGET', job(id), 'unique'))
  redis.call('HSET', job(id), 'state', 'discarded', 'finished', NOW, 'reason', reason)
  -- Placed so that it leaves at its own time when those around it leave at the queue's, which may still change.
  redis.call('ZADD', DEAD, NOW + ((tonumber(keep) or KEEP_DEAD) - KEEP_DEAD), id)
  trim(DEAD, KEEP_DEAD_COUNT)
end

local function to_done(id, unique, state, reason, result, keep)
  close(id, state, unique)
  keep = tonumber(keep) or KEEP
  if keep <= 0 or KEEP_COUNT <= 0 then
    forget(id)
    return
  end
  redis.call('HSET', job(id), 'state', state, 'finished', NOW, 'reason', reason, 'result', result)
  redis.call('PEXPIRE', job(id), keep)
  redis.call('ZADD', DONE, NOW, id)
  trim(DONE, KEEP_COUNT)
end

local function record_error(id, text)
  local n = redis.call('HINCRBY', job(id), 'errors', 1)
  redis.call('HSET', job(id), 'error:' .. n, NOW .. ' ' .. text)
end
