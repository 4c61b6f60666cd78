-- after: queue, lines, schedules
-- Decide about one tick of a schedule, unless some daemon has done so: claim, job and record are one step, so that none
-- is lost between them. Whether it is due, late, paused or would overlap is seen here, by one clock and at one moment.
--
-- ARGV: schedule, tick (ms; '': none, a run that somebody asks for), job id, kind, envelope, priority, how long after
--       its tick the job starts (ms), how late (ms) it is missed ('': never), 'skip' (no overlap) or 'allow'.
-- Returns what became of it: enqueued, known, early, missed, paused or overlap.
local NAME, ID, GRACE, OVERLAP = ARGV[1], ARGV[3], tonumber(ARGV[8] or ''), ARGV[9]
local TICK, RECORD = tonumber(ARGV[2]), schedule(NAME)
local last = redis.call('HGET', CRON, NAME)

local function is_unfinished(id)
  local state = id and redis.call('HGET', job(id), 'state')
  return state and (WAITING[state] or state == 'running')
end

local function enqueue(due)
  if redis.call('EXISTS', job(ID)) == 1 then
    return
  end
  redis.call('HSET', job(ID), 'kind', ARGV[4], 'envelope', ARGV[5], 'priority', ARGV[6], 'enqueued', STAMP,
    'schedule', NAME)
  if due > NOW then
    to_later(ID, due, 'scheduled')
  else
    to_ready(ID)
  end
  count('added')
  ring()
end

local function outcome(known)
  if GRACE and NOW - TICK > GRACE then
    return 'missed'
  elseif is_paused(known[1]) then
    return 'paused'
  elseif OVERLAP == 'skip' then
    -- The last two are jobs of runs that were asked for, and of a daemon that keeps no record.
    for _, id in ipairs({ known[2] or '', known[3] or '', NAME .. '-' .. (last or '') }) do
      if is_unfinished(id) then
        return 'overlap'
      end
    end
  end
  return 'enqueued'
end

if not TICK then
  enqueue(NOW)
  redis.call('HSET', RECORD, 'run', ID, 'run_at', STAMP)
  redis.call('HDEL', RECORD, 'run_state')
  flush()
  return 'enqueued'
end
if TICK > NOW then
  return 'early'
end
if TICK <= (tonumber(last or '') or 0) then
  return 'known'
end
local became = outcome(redis.call('HMGET', RECORD, 'paused', 'job', 'run'))
redis.call('HSET', CRON, NAME, ARGV[2])
redis.call('HSET', RECORD, 'tick', ARGV[2], 'decided', STAMP, 'became', became)
if became == 'enqueued' then
  redis.call('HSET', RECORD, 'job', ID)
  redis.call('HDEL', RECORD, 'job_state')
  enqueue(TICK + tonumber(ARGV[7] or 0))
end
redis.call('RPUSH', RECORD .. ':ticks', ARGV[2] .. ' ' .. became)
redis.call('LTRIM', RECORD .. ':ticks', -100, -1)
flush()
return became
