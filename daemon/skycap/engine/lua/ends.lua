-- The ends of a job, and how long it is kept afterwards.

local function forget(id)
  gone[#gone + 1] = job(id)
end

-- How the job of a schedule ended is known there for as long as there is no newer one, and when one last completed.
local function note_end(id, state)
  local name = redis.call('HGET', job(id), 'schedule')
  if name then
    local record = P .. 'schedule:' .. name
    if state == 'completed' then
      local took = NOW - (tonumber(redis.call('HGET', job(id), 'started') or '') or NOW)
      redis.call('HSET', record, 'succeeded', STAMP, 'took', took)
    end
    local newest = redis.call('HMGET', record, 'job', 'run')
    if newest[1] == id then
      redis.call('HSET', record, 'job_state', state)
    elseif newest[2] == id then
      redis.call('HSET', record, 'run_state', state)
    end
  end
end

-- What every end of a job means, whether or not the job is kept. A unique key that holds for a time outlives its
-- job; one that holds while the job is unfinished does not.
local function close(id, state, unique)
  count(state)
  tell(state, id)
  -- The ids of ticks end with a hyphen and 13 digits; other jobs are spared the call.
  if id:byte(-14) == 45 then
    note_end(id, state)
  end
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

local known_retention

local function know_retention(finished, finished_count, discarded, discarded_count)
  known_retention = {
    finished = tonumber(finished) or 3600000,
    finished_count = tonumber(finished_count) or 100,
    discarded = tonumber(discarded) or 172800000,
    discarded_count = tonumber(discarded_count) or 10000,
  }
end

-- How long (ms) and how many: finished jobs, discarded jobs.
local function retention()
  if not known_retention then
    local names = { 'keep_finished', 'keep_finished_count', 'keep_discarded', 'keep_discarded_count' }
    know_retention(unpack(redis.call('HMGET', META, unpack(names)), 1, 4))
  end
  return known_retention
end

-- keep: a time (ms) of the job's own instead of the queue's, or nil or ''.
local function to_dead(id, reason, keep)
  close(id, 'discarded', redis.call('HGET', job(id), 'unique'))
  redis.call('HSET', job(id), 'state', 'discarded', 'finished', STAMP, 'reason', reason)
  -- Placed so that it leaves at its own time when those around it leave at the queue's, which may still change.
  local usual = retention().discarded
  redis.call('ZADD', DEAD, NOW + ((tonumber(keep) or usual) - usual), id)
  trim(DEAD, retention().discarded_count)
end

local function to_done(id, unique, state, reason, result, keep)
  close(id, state, unique)
  keep = tonumber(keep) or retention().finished
  if keep <= 0 or retention().finished_count <= 0 then
    forget(id)
    return
  end
  redis.call('HSET', job(id), 'state', state, 'finished', STAMP, 'reason', reason, 'result', result)
  redis.call('PEXPIRE', job(id), keep)
  redis.call('ZADD', DONE, STAMP, id)
  trim(DONE, retention().finished_count)
end

local function record_error(id, text)
  local n = redis.call('HINCRBY', job(id), 'errors', 1)
  redis.call('HSET', job(id), 'error:' .. n, STAMP .. ' ' .. text)
end
