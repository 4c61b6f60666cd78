-- What every script of a queue shares: its keys, the clock, and what it counts and tells.
-- KEYS[1] is the queue's prefix, such as "skycap:{email}:"; the hash tag keeps
-- every key of the queue in one cluster slot, which is what allows them to be derived here.
--
--   job:<id>      hash    envelope, kind, state, rank (or priority, until it has one), claim (the fence), worker,
--                         cancel, buffered, stranded, held (gates), parked (gate), unique, deadline, schedule,
--                         failures, deaths, snoozes, errors (counts), error:<n> ("<ms> <text>"), logs, log:<n>,
--                         progress, enqueued, due (since or until when it waits, if not since it was enqueued), started,
--                         finished (ms), reason, result (JSON)
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
--   outages       hash    what is known of breakers that are not closed (outages.lua)
--   unique:<key>  string  the job that has the key
--   request:<key> string  the digest of a request that was made with an idempotency key, and the id of its job
--   meta          hash    seq, batch, paused, parked, the queue's policy, and counts: of each outcome, and of what was
--                         added, deduplicated and reclaimed
--   cron          hash    the newest tick (ms) that was decided of each schedule; at first, since when it is known
--   schedule:<name> hash  tick, decided (ms), became, job, job_state: of its newest tick; run, run_at (ms), run_state:
--                         of the newest run that somebody asked for; succeeded, took (ms): of the last that completed;
--                         paused (until ms, or 'inf')
--   schedule:<name>:ticks list  "<tick ms> <what became of it>", the newest 100
--   events        stream  what happened to jobs, the newest: state, id; state, id; …
--   wake          list    the doorbell, at most one long
--   minute:<n>    hash    what happened in the minute n since 1970, for six hours: added, completed, retried, snoozed,
--                         discarded, cancelled, reclaimed; and by how long they had waited (eighths of doublings,
--                         bucket_of), how many started
--
-- Of limits that several queues share, starts, busy and holds lie under "skycap:limit:" instead.

local P = KEYS[1]
local READY, LATER, RUN, DEAD, DONE = P .. 'ready', P .. 'later', P .. 'run', P .. 'dead', P .. 'done'
local META, WAKE, EVENTS, GATES, HOLDS = P .. 'meta', P .. 'wake', P .. 'events', P .. 'gates', P .. 'holds'

-- Redis' own clock decides everything, so hosts whose clocks differ cannot harm a job.
local clock = redis.call('TIME')
local NOW = clock[1] * 1000 + math.floor(clock[2] / 1000)
-- As it is stored: Redis takes a text much faster than a number.
local STAMP = string.format('%.0f', NOW)

local function job(id)
  return P .. 'job:' .. id
end

-- While the queue is paused nobody need come; whoever resumes it rings.
local function ring()
  if redis.call('LLEN', WAKE) == 0 and not redis.call('HGET', META, 'paused') then
    redis.call('LPUSH', WAKE, 1)
  end
end

-- What is counted, told and deleted is so once for each call, by flush(), which every script ends with.
-- What is counted is so since ever and for this minute; what is noted, for this minute alone.
local counted, noted, told = {}, {}, {}

local function count(what)
  counted[what] = (counted[what] or 0) + 1
end

local function note(what, n)
  noted[what] = n
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
    noted[what] = n
  end
  local minute = next(noted) and P .. 'minute:' .. (NOW - NOW % 60000) / 60000
  for what, n in pairs(noted) do
    -- The first of its kind: a hash that is new has no end yet.
    if redis.call('HINCRBY', minute, what, n) == n then
      redis.call('PEXPIRE', minute, 21600000)
    end
  end
  -- An entry holds up to 50 events, in order, so that a busy queue does not spend its time on them.
  in_parts(100, told, function(...)
    redis.call('XADD', EVENTS, 'MAXLEN', '~', 5000, '*', ...)
  end)
end
