-- What a queue knows of breakers that are not closed: while one is open, no job of a kind that needs it starts, and
-- then, until somebody says that it is closed, as many at a time as it lets through. They wait at the gate "!<breaker>".
-- Each is a line of the hash "outages": until when (ms) none starts, how many may then, and when (ms) it is forgotten:
-- whoever has closed the breaker may have died before it could say so here.

local OUTAGES, KEPT_AT_LEAST = P .. 'outages', 5000
local outages, breakers = {}, {}

local function know_breakers()
  breakers = cjson.decode(redis.call('HGET', META, 'breakers') or '{}')
end

-- Returns whether there are any.
local function know_outages()
  local lines = redis.call('HGETALL', OUTAGES)
  for i = 1, #lines, 2 do
    local opens_at, most, forgotten = lines[i + 1]:match('^(%d+) (%d+) (%d+)$')
    if tonumber(forgotten) <= NOW then
      redis.call('HDEL', OUTAGES, lines[i])
    else
      outages[lines[i]] = { opens_at = tonumber(opens_at), most = tonumber(most) }
    end
  end
  if next(outages) == nil then
    redis.call('HDEL', META, 'outages')
    return false
  end
  know_breakers()
  return true
end

-- When (ms) such jobs may start again; nil when this queue knows of no kind that needs this breaker.
local function note_outage(name, delay)
  know_breakers()
  if not breakers[name] then
    return nil
  end
  local opens_at = NOW + delay
  if outages[name] then
    opens_at = math.max(opens_at, outages[name].opens_at)
  end
  local most, forgotten = breakers[name].probes, opens_at + math.max(2 * delay, KEPT_AT_LEAST)
  outages[name] = { opens_at = opens_at, most = most }
  redis.call('HSET', OUTAGES, name, string.format('%.0f %d %.0f', opens_at, most, forgotten))
  redis.call('HSET', META, 'outages', 1)
  redis.call('ZADD', GATES, 'XX', opens_at, '!' .. name)
  return opens_at
end
