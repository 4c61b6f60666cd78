#!lua flags=allow-oom
-- after: queue
-- The daemons of the whole fleet. KEYS[1] is a prefix of their own, not of a queue:
--
--   daemons  hash  by id, what it last said of itself: JSON
--   seen     zset  when (ms) it said so
--
-- Allowed when Redis is out of memory: that is when somebody looks.
--
-- ARGV: 'tell', id, JSON, for how long (ms) that counts; 'leave', id; 'list'.
-- Returns: now (ms), then id, when it was seen (ms) and JSON of each that counts, in the order of their ids.
local DAEMONS, SEEN = P .. 'daemons', P .. 'seen'
local verb, id = ARGV[1], ARGV[2]

local function remove(gone)
  redis.call('HDEL', DAEMONS, gone)
  redis.call('ZREM', SEEN, gone)
end

if verb == 'tell' then
  redis.call('HSET', DAEMONS, id, ARGV[3])
  redis.call('ZADD', SEEN, STAMP, id)
  for _, lost in ipairs(redis.call('ZRANGEBYSCORE', SEEN, '-inf', NOW - tonumber(ARGV[4]), 'LIMIT', 0, 100)) do
    remove(lost)
  end
elseif verb == 'leave' then
  remove(id)
end

local reply = { NOW }
if verb == 'list' then
  for _, each in ipairs(redis.call('ZRANGE', SEEN, 0, -1)) do
    local said = redis.call('HGET', DAEMONS, each)
    if said then
      local n = #reply
      reply[n + 1], reply[n + 2], reply[n + 3] = each, redis.call('ZSCORE', SEEN, each), said
    end
  end
end
return reply
