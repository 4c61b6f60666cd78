-- What every script of a queue shares: its keys, the clock, and how a job moves between states.
-- Prepended to each script. KEYS[1] is the queue's prefix, such as "skycap:{email}:"; the hash tag keeps
-- every key of the queue in one cluster slot, which is what allows them to be derived here.
--
--   job:<id>   hash   envelope, state, priority, rank, claim (the fence), worker, cancel,
--                     failures, deaths, snoozes, errors (counts), error:<n> ("<ms> <text>"),
--                     enqueued, due, started, finished (ms), reason, result (JSON)
--   ready      zset   rank: priority, then first come first served
--   later      zset   due (ms): delayed, backing off, snoozed
--   run        zset   end of the lease (ms)
--   dead       zset   since (ms): the dead-letter queue
--   done       zset   since (ms): completed and cancelled, kept for a while
--   meta       hash   seq, paused, and a count of each outcome
--   cron       hash   the newest tick (ms) that was enqueued of each schedule
--   wake       list   the doorbell, at most one long

local P = KEYS[1]
local READY, LATER, RUN, DEAD, DONE = P .. 'ready', P .. 'later', P .. 'run', P .. 'dead', P .. 'done'
local META, WAKE = P .. 'meta', P .. 'wake'

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

-- A job keeps its rank for life: one that was retried or handed back goes before those that came after it.
-- 43 bits number the jobs of a queue, 10 bits hold the priority, and a double is exact to 53.
local function rank(id)
  local known = redis.call('HGET', job(id), 'rank')
  if known then
    return known
  end
  local priority = tonumber(redis.call('HGET', job(id), 'priority')) or 10
  local score = string.format('%.0f', priority * 8796093022208 + redis.call('HINCRBY', META, 'seq', 1))
  redis.call('HSET', job(id), 'rank', score)
  return score
end

local function to_ready(id)
  redis.call('HSET', job(id), 'state', 'available')
  redis.call('ZADD', READY, rank(id), id)
end

local function to_later(id, delay, state)
  redis.call('HSET', job(id), 'state', state, 'due', NOW + delay)
  redis.call('ZADD', LATER, NOW + delay, id)
end

local function finish(id, state, reason)
  redis.call('HSET', job(id), 'state', state, 'finished', NOW, 'reason', reason)
  redis.call('HINCRBY', META, state, 1)
  redis.call('PUBLISH', P .. 'finished', id)
end

local function to_dead(id, reason)
  finish(id, 'discarded', reason)
  redis.call('ZADD', DEAD, NOW, id)
end

local function to_done(id, state, reason, keep_ms, keep_count)
  finish(id, state, reason)
  redis.call('PEXPIRE', job(id), keep_ms)
  redis.call('ZADD', DONE, NOW, id)
  local over = redis.call('ZCARD', DONE) - keep_count
  if over > 0 then
    -- A bounded number at a time: a lowered limit must not make one call long.
    local popped = redis.call('ZPOPMIN', DONE, math.min(over, 100))
    for i = 1, #popped, 2 do
      redis.call('DEL', job(popped[i]))
    end
  end
end

local function record_error(id, text)
  local n = redis.call('HINCRBY', job(id), 'errors', 1)
  redis.call('HSET', job(id), 'error:' .. n, NOW .. ' ' .. text)
end
