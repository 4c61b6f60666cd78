-- after: queue, lines
-- Enqueue one tick of a schedule, unless some daemon has done so: claim and job are one step, so that none is lost
-- between them. ARGV: schedule, tick (ms), job id, kind, envelope, priority. Returns 1 when this call enqueued it.
local CRON = P .. 'cron'
if tonumber(ARGV[2]) <= (tonumber(redis.call('HGET', CRON, ARGV[1])) or 0) then
  return 0
end
redis.call('HSET', CRON, ARGV[1], ARGV[2])
if redis.call('EXISTS', job(ARGV[3])) == 1 then
  return 0
end
redis.call('HSET', job(ARGV[3]), 'kind', ARGV[4], 'envelope', ARGV[5], 'priority', ARGV[6], 'enqueued', STAMP)
to_ready(ARGV[3])
ring()
flush()
return 1
