-- Where a job waits: ready to run, for a later time, or at a limit's gate.

-- 43 bits number the jobs of a queue, 10 bits hold the priority, and a double is exact to 53.
local SEATS = 8796093022208

local function priority_of(id)
  local known = redis.call('HMGET', job(id), 'priority', 'rank')
  return tonumber(known[1]) or (known[2] and math.floor(tonumber(known[2]) / SEATS)) or 10
end

-- Gives out the next `count` seats; returns a function from a priority to the rank of the next of them.
local function seats(count, lifo)
  local seat = redis.call('HINCRBY', META, 'seq', count) - count
  local is_lifo = lifo == '1'
  return function(priority)
    seat = seat + 1
    return string.format('%.0f', priority * SEATS + (is_lifo and SEATS - seat or seat))
  end
end

local function new_rank(priority)
  return seats(1, redis.call('HGET', META, 'lifo'))(priority)
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

-- Where it is written that a gate is shut: one of a limit that queues share is shut for all of them.
local function holds_of(gate)
  return gate:sub(1, 1) == '+' and 'skycap:limit:holds' or HOLDS
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
    redis.call('HINCRBY', META, 'parked', -1)
    redis.call('HDEL', job(id), 'parked')
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
