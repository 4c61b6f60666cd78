#!lua flags=allow-oom
-- after: queue
-- One breaker of the whole fleet. KEYS[1] is its prefix, such as "skycap:{breaker:stripe}:", not that of a queue:
--
--   state      hash  state (none: closed), generation (how often it has changed), told (the newest change that
--                    somebody was told of), since (ms), failures and successes (in a row), until (ms; open), forced
--   calls      zset  the calls that began since the last change, by the end (ms) of their lease
--   count:<n>  hash  ok, failed: how calls ended in the n-th 30 seconds since 1970; gone after RATE_WINDOW
--
-- The result of a call that is not in `calls` does not count: it began before the last change of state, or was told
-- before. So that a result may be sent twice, and says nothing about a partner that it did not see.
--
-- ARGV: verb, opens after, closes after, tries again after (ms), then the verb's own arguments.
-- Returns: what the verb says (begin: ms to wait, -1 to go ahead), state, 1 if nobody was told of the last change,
--          ms until it tries again (-1: it is not open, or open until somebody resets it).
local STATE, CALLS = P .. 'state', P .. 'calls'
local OPENS, CLOSES, AGAIN = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local BUCKET, RATE_WINDOW = 30000, 300000
-- How long the result of a call is waited for after its lease, and what is refused beside the probes has to wait.
local LATEST, BESIDE_PROBES = 3600000, 1000

local known = redis.call('HMGET', STATE, 'state', 'generation', 'told', 'until', 'forced')
local state, generation, told = known[1] or 'closed', tonumber(known[2]) or 0, tonumber(known[3]) or 0
local until_when, forced = tonumber(known[4]), known[5]

local function change(to, opens_until)
  state, until_when, generation = to, opens_until, generation + 1
  redis.call('HSET', STATE, 'state', to, 'generation', generation, 'since', STAMP)
  redis.call('HDEL', STATE, 'failures', 'successes', 'until', 'forced')
  if opens_until then
    redis.call('HSET', STATE, 'until', string.format('%.0f', opens_until))
  end
  redis.call('DEL', CALLS)
end

local function probes()
  return redis.call('ZCOUNT', CALLS, '(' .. STAMP, '+inf')
end

local function remaining()
  return state == 'open' and until_when and math.max(0, until_when - NOW) or -1
end

local function note(result)
  local counts = P .. 'count:' .. string.format('%.0f', math.floor(NOW / BUCKET))
  redis.call('HINCRBY', counts, result, 1)
  redis.call('PEXPIRE', counts, RATE_WINDOW + BUCKET)
end

local verb = {}

-- call, lease (ms) -> -1 when it may be made, else the ms after which it is worth asking again.
function verb.begin(call, lease)
  if state == 'open' and until_when and until_when <= NOW then
    change('half open')
  end
  if state == 'open' then
    return math.min(until_when and until_when - NOW or AGAIN, AGAIN)
  end
  if state == 'half open' and probes() >= CLOSES and not redis.call('ZSCORE', CALLS, call) then
    return math.min(BESIDE_PROBES, AGAIN)
  end
  redis.call('ZREMRANGEBYSCORE', CALLS, '-inf', NOW - LATEST)
  redis.call('ZADD', CALLS, NOW + lease, call)
  redis.call('PEXPIRE', CALLS, lease + LATEST)
  return -1
end

-- call, 'ok', 'failed' or '' (it says nothing of the partner).
function verb.finish(call, result)
  if redis.call('ZREM', CALLS, call) == 0 or result == '' then
    return 0
  end
  note(result)
  if forced then
    return 1
  end
  if result == 'failed' then
    if state == 'half open' or redis.call('HINCRBY', STATE, 'failures', 1) >= OPENS then
      change('open', NOW + AGAIN)
    end
  elseif state == 'half open' then
    if redis.call('HINCRBY', STATE, 'successes', 1) >= CLOSES then
      change('closed')
    end
  else
    redis.call('HDEL', STATE, 'failures')
  end
  return 1
end

-- 'open' and ms ('': until it is reset), 'closed' (until it is reset) or '' (as its calls go, from closed).
function verb.force(to, ms)
  if to == '' then
    if forced or state ~= 'closed' then
      change('closed')
    end
  elseif to ~= state or forced ~= to or (to == 'open') then
    change(to, ms ~= '' and NOW + tonumber(ms) or nil)
    redis.call('HSET', STATE, 'forced', to)
    forced = to
  end
  return 1
end

-- What there is to see: failures, successes, since (ms), forced, ok and failed within the window, probes under way.
function verb.look()
  if state == 'open' and until_when and until_when <= NOW then
    state = 'half open' -- the next call makes it so
  end
  local ok, failed, newest = 0, 0, math.floor(NOW / BUCKET)
  for n = newest - RATE_WINDOW / BUCKET + 1, newest do
    local counts = redis.call('HMGET', P .. 'count:' .. string.format('%.0f', n), 'ok', 'failed')
    ok, failed = ok + (tonumber(counts[1]) or 0), failed + (tonumber(counts[2]) or 0)
  end
  local seen = redis.call('HMGET', STATE, 'failures', 'successes', 'since')
  return {
    tonumber(seen[1]) or 0, tonumber(seen[2]) or 0, tonumber(seen[3]) or 0, forced or '', ok, failed,
    state == 'half open' and probes() or 0,
  }
end

local said = verb[ARGV[1]](unpack(ARGV, 5))
local is_news = 0
if generation > told and (ARGV[1] == 'begin' or ARGV[1] == 'finish') then
  redis.call('HSET', STATE, 'told', generation)
  is_news = 1
end
return { said, state, is_news, remaining() }
