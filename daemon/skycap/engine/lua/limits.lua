-- What a job must pass before it starts.
-- A limit counts by the value of a key in the payload; each value is a gate of its own, "<limit>:<value>".
-- The limit "kind" is always there, counts by the job's kind, and needs no figures: it lets one pause a kind.

local NEVER = 9e15
local LIMITS, limit_named = {}, {}
local has_holds, has_gates, has_shared = false, false, false

-- The queue's limits as they are stored (JSON), and whether any gate is shut.
local function know_limits(stored, holds)
  LIMITS = stored and cjson.decode(stored) or {}
  for _, limit in ipairs(LIMITS) do
    limit_named[limit.name] = limit
    has_shared = has_shared or limit.name:sub(1, 1) == '+'
  end
  if has_shared then
    redis.call('ZREMRANGEBYSCORE', holds_of('+'), '-inf', NOW)
  end
  if holds and redis.call('ZREMRANGEBYSCORE', HOLDS, '-inf', NOW) > 0 and redis.call('EXISTS', HOLDS) == 0 then
    redis.call('HDEL', META, 'holds')
    holds = false
  end
  has_holds = holds
  has_gates = holds or #LIMITS > 0
end

-- What a gate of a limit that several queues share is kept under: outside the queue's own keys.
local function gate_key(what, gate)
  local name = gate:match('^%+(.*)$')
  return name and 'skycap:limit:' .. what .. ':' .. name or P .. what .. ':' .. gate
end

-- A job does not run any more: the gates that it passed have room again.
local function leave_gates(id, held)
  for gate in held:gmatch('[^\n]+') do
    redis.call('SREM', gate_key('busy', gate), id)
    redis.call('ZADD', GATES, 'XX', 'LT', 0, gate)
  end
  redis.call('HDEL', job(id), 'held')
end

-- A job starts a little after its claim. Counting the window that much longer, and having no job start later than
-- that (the worker hands it back), keeps starts as far apart as claims are.
local function slack(per)
  return math.min(50, math.ceil(per / 10))
end

local function value_at(payload, path)
  local value = payload
  for name in path:gmatch('[^.]+') do
    value = type(value) == 'table' and value[name] or nil
  end
  if type(value) == 'table' or type(value) == 'userdata' then
    return nil
  end
  return value ~= nil and tostring(value) or nil
end

local shapes = {
  domain = function(text) return text:match('@([^@%s]+)$') and text:match('@([^@%s]+)$'):lower() end,
  lower = string.lower,
}

local function gates_of(id)
  local stored = redis.call('HMGET', job(id), 'kind', 'envelope')
  local kind, payload = stored[1] or '?', nil
  local gates = {}
  for _, limit in ipairs(LIMITS) do
    if not limit.kinds or limit.kinds[kind] then
      if limit.key == '@kind' then
        gates[#gates + 1] = limit.name .. ':' .. kind
      elseif not limit.key then
        gates[#gates + 1] = limit.name
      else
        if payload == nil then
          local readable, envelope = pcall(cjson.decode, stored[2] or '')
          payload = readable and type(envelope) == 'table' and envelope.payload or false
        end
        local value = payload and value_at(payload, limit.key)
        if value and limit.shape then
          value = shapes[limit.shape](value)
        end
        if value then
          gates[#gates + 1] = limit.name .. ':' .. value:gsub('\n', ' ')
        end
      end
    end
  end
  if not limit_named.kind then
    gates[#gates + 1] = 'kind:' .. kind
  end
  for name in pairs(outages) do
    if breakers[name] and breakers[name].kinds[kind] then
      gates[#gates + 1] = '!' .. name
    end
  end
  return gates
end

local function figures(gate)
  local outage = outages[gate:match('^!(.*)$')]
  if outage then
    return { concurrency = outage.most }
  end
  local name, value = gate:match('^([^:]+):?(.*)$')
  local limit = limit_named[name]
  if not limit then
    return {}
  end
  local own = limit.own and limit.own[value]
  return {
    rate = own and own.max and own or (limit.max and limit) or nil,
    concurrency = own and own.concurrency or limit.concurrency,
    keyed = limit.key and limit.key ~= '@kind',
  }
end

-- When (ms) one more may pass by this rate.
local function rate_opens(key, rate)
  local last = redis.call('LINDEX', key, -rate.max)
  return last and last + rate.per + slack(rate.per) or 0
end

local function note_start(key, rate)
  redis.call('RPUSH', key, NOW)
  redis.call('LTRIM', key, -rate.max, -1)
  redis.call('PEXPIRE', key, rate.per + 1000)
end

-- When (ms) the gate lets one more job pass; NOW or earlier: it does.
local function opens(gate)
  local outage = outages[gate:match('^!(.*)$')]
  if outage and outage.opens_at > NOW then
    return outage.opens_at
  end
  if has_holds or has_shared then
    -- Shut is a gate by itself, or with all the others of its limit.
    for _, name in ipairs({ gate, gate:match('^[^:]+') }) do
      local until_when = tonumber(redis.call('ZSCORE', holds_of(gate), name) or 0)
      if until_when > NOW then
        return math.min(until_when, NEVER)
      end
    end
  end
  local limit = figures(gate)
  if limit.concurrency and redis.call('SCARD', gate_key('busy', gate)) >= limit.concurrency then
    -- A job of this queue that leaves opens it; one of another queue cannot say so.
    return gate:sub(1, 1) == '+' and NOW + 250 or NEVER
  end
  return limit.rate and rate_opens(gate_key('starts', gate), limit.rate) or 0
end

-- Nil, or the gate that a job must wait at and when it opens.
local function obstacle(gates)
  for _, gate in ipairs(gates) do
    local at = opens(gate)
    if at > NOW then
      return gate, at
    end
  end
end

-- Lets the job pass; the ms within which it must start, 0 for any.
local function pass(id, gates)
  local within, held = 0, {}
  for _, gate in ipairs(gates) do
    local limit = figures(gate)
    if limit.rate then
      note_start(gate_key('starts', gate), limit.rate)
      local most = slack(limit.rate.per)
      within = within == 0 and most or math.min(within, most)
    end
    if limit.concurrency then
      redis.call('SADD', gate_key('busy', gate), id)
      held[#held + 1] = gate
    end
  end
  if #held > 0 then
    redis.call('HSET', job(id), 'held', table.concat(held, '\n'))
  end
  return within
end

-- How many jobs the queue's own rate lets start now.
local function queue_room(rate, want)
  local key, most = P .. 'starts:', math.min(want, rate.max)
  local first = redis.call('LLEN', key) - rate.max
  local oldest = math.max(first, 0)
  local counting = redis.call('LRANGE', key, oldest, oldest + most)
  for i = 0, most - 1 do
    -- The start that must have left the window before the i-th new one may enter it.
    local before = first + i >= 0 and counting[first + i - oldest + 1]
    if before and before + rate.per + slack(rate.per) > NOW then
      return i
    end
  end
  return most
end
