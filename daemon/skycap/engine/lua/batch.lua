-- each: add
-- Add a numbered batch, once, or as much of its front as there is room for. ARGV as of `add`, with the number as mode.
-- Returns how many of its jobs, from the first, whoever came first with this number has added. None for a number below
-- the last one: who comes so late has been overtaken, and is not believed anyway.
local FIELDS = 6
local META, NUMBER = KEYS[1] .. 'meta', ARGV[1]

local function meta(name)
  return tonumber(redis.call('HGET', META, name)) or 0
end

local last = meta('batch')
if last >= tonumber(NUMBER) then
  return last == tonumber(NUMBER) and meta('batch_added') or 0
end

local function room()
  local waiting = redis.call('ZCARD', KEYS[1] .. 'ready') + redis.call('ZCARD', KEYS[1] .. 'later') + meta('parked')
  return math.max(0, meta('max_waiting') - waiting)
end

local added = (#ARGV - 1) / FIELDS
if #each(KEYS, ARGV) == 0 then
  added = math.min(room(), added)
  local front = {}
  for i = 1, 1 + added * FIELDS do
    front[i] = ARGV[i]
  end
  if added > 0 then
    each(KEYS, front)
  end
end
-- Also a batch of which nothing was added is over, whatever room there may be when somebody comes with it again.
redis.call('HSET', META, 'batch', NUMBER, 'batch_added', added)
return added
