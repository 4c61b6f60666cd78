#!lua flags=no-writes
-- after: queue, lines
-- How does the queue stand, for those who watch it?
-- Returns: completed, retried, discarded (since ever), dead letters now, for how many ms the oldest job has waited that
-- could run and waits at no limit (-1: there is none), why a worker paused the queue, and, since ever, how many were
-- enqueued, how many were not as there was such a job, and how many were taken back from workers that went silent.
local PRIORITIES_LOOKED_AT = 20

local oldest = NOW + 1

local function look(id)
  local known = id and redis.call('HMGET', job(id), 'enqueued', 'due')
  if known then
    local since = math.max(tonumber(known[1]) or 0, tonumber(known[2]) or 0)
    if since > 0 then
      oldest = math.min(oldest, since)
    end
  end
end

-- Those of one priority stand in a row, the oldest at its one end or, last in first out, at the other.
local least = '-inf'
for _ = 1, PRIORITIES_LOOKED_AT do
  local first = redis.call('ZRANGEBYSCORE', READY, least, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  if not first[1] then
    break
  end
  local beyond = string.format('%.0f', (math.floor(tonumber(first[2]) / SEATS) + 1) * SEATS)
  look(first[1])
  look(redis.call('ZREVRANGEBYSCORE', READY, '(' .. beyond, '-inf', 'LIMIT', 0, 1)[1])
  least = beyond
end

local counts = redis.call('HMGET', META, 'completed', 'retried', 'discarded', 'paused_why', 'added', 'deduplicated', 'reclaimed')
return {
  tonumber(counts[1]) or 0,
  tonumber(counts[2]) or 0,
  tonumber(counts[3]) or 0,
  redis.call('ZCARD', DEAD),
  oldest > NOW and -1 or NOW - oldest,
  redis.call('HEXISTS', META, 'paused') == 1 and counts[4] or '',
  tonumber(counts[5]) or 0,
  tonumber(counts[6]) or 0,
  tonumber(counts[7]) or 0,
}
