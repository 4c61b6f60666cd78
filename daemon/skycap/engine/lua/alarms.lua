#!lua flags=allow-oom
-- after: queue
-- The alarms of the whole fleet. KEYS[1] is a prefix of their own, not of a queue:
--
--   alarms   hash    by "RULE SUBJECT", the alarms that are not simply well: JSON, see below
--   looked   hash    by the same, the newest reading of every rule: JSON
--   claims   string  the number of the newest claim of a notice
--
-- An alarm is pending (somebody sees that it is so), firing (it was so for its time), or recovered (it was firing and
-- was over for its time). "seen" has who saw it bad, and when (ms). A change makes a notice, which one daemon claims,
-- delivers and confirms; a claim that is not confirmed within its lease goes to whoever comes next.
-- Allowed when Redis is out of memory: that is when somebody must be told.
--
-- ARGV: 'watch', who, grace (ms), recover (ms), repeat (ms), lease (ms), then alarm, 1 or 0 (bad), hold (ms) and the
--       reading for each. Returns alarm, claim, state for each notice that the caller is now to tell.
-- ARGV: 'told', alarm, claim, 1 or 0 (nothing is left to deliver), the ways that it was delivered by, and when to try
--       the others (ms). Returns 1, or 0 when the claim is no longer held.
local ALARMS, LOOKED, CLAIMS = P .. 'alarms', P .. 'looked', P .. 'claims'
local KEPT = 86400000

local function stored(alarm)
  local found = redis.call('HGET', ALARMS, alarm)
  return found and cjson.decode(found)
end

local function store(alarm, state)
  redis.call('HSET', ALARMS, alarm, cjson.encode(state))
end

local function notify(state, event)
  state.notices = (state.notices or 0) + 1
  state.notice = { event = event, number = state.notices, tries = 0, delivered = '', free_at = 0 }
end

-- Whether a daemon is at it just now.
local function is_being_told(state)
  return state.notice and state.notice.claim and state.notice.free_at > NOW
end

-- How many see it bad; what a daemon saw that has not come back since does not count.
local function seers(state, grace)
  local count = 0
  for who, at in pairs(state.seen) do
    if NOW - at > grace then
      state.seen[who] = nil
    else
      count = count + 1
    end
  end
  return count
end

local function bad(state, who, grace, hold, again, reading)
  if state and state.state == 'recovered' and state.notice and state.notice.delivered == '' then
    if is_being_told(state) then
      -- What is being told is told to its end; then this begins anew.
      return state
    end
    -- Nobody knows yet that it was over: it is not.
    state.state, state.notice = 'firing', nil
    if not state.told_at then
      notify(state, 'firing')
    end
  elseif not state or state.state == 'recovered' then
    state = { state = 'pending', since = NOW, seen = {} }
  elseif state.state == 'pending' and seers(state, grace) == 0 then
    state.since = NOW
  end
  state.seen[who], state.reading, state.over_since, state.looked = NOW, reading, nil, NOW
  if state.state == 'pending' and NOW - state.since >= hold then
    state.state, state.fired_at = 'firing', NOW
    notify(state, 'firing')
  elseif state.state == 'firing' and not state.notice and NOW - (state.told_at or state.fired_at) >= again then
    notify(state, 'reminder')
  end
  return state
end

local function good(state, who, grace, recover)
  state.seen[who], state.looked = nil, NOW
  if seers(state, grace) > 0 then
    return state
  end
  if state.state == 'pending' then
    return nil
  end
  if state.state == 'firing' then
    state.over_since = state.over_since or NOW
    -- The good news must not overtake the bad.
    if NOW - state.over_since >= recover and not is_being_told(state) then
      state.state, state.recovered_at = 'recovered', NOW
      notify(state, 'recovered')
    end
  elseif NOW - state.recovered_at > KEPT and not state.notice then
    return nil
  end
  return state
end

local function watch(who, grace, recover, again, lease)
  for i = 7, #ARGV, 4 do
    local alarm, is_bad, hold, reading = ARGV[i], ARGV[i + 1] == '1', tonumber(ARGV[i + 2]), ARGV[i + 3]
    local state = stored(alarm)
    if is_bad then
      store(alarm, bad(state, who, grace, hold, again, reading))
    elseif state then
      state = good(state, who, grace, recover)
      if state then
        store(alarm, state)
      else
        redis.call('HDEL', ALARMS, alarm)
      end
    end
    redis.call('HSET', LOOKED, alarm, cjson.encode({ at = NOW, reading = reading }))
  end
  redis.call('PEXPIRE', LOOKED, KEPT)

  local claimed = {}
  local all = redis.call('HGETALL', ALARMS)
  for i = 1, #all, 2 do
    local alarm, state = all[i], cjson.decode(all[i + 1])
    local notice = state.notice
    if notice and notice.free_at <= NOW then
      notice.claim, notice.free_at, notice.tries = redis.call('INCR', CLAIMS), NOW + lease, notice.tries + 1
      store(alarm, state)
      local n = #claimed
      claimed[n + 1], claimed[n + 2], claimed[n + 3] = alarm, notice.claim, cjson.encode(state)
    elseif not notice and NOW - state.looked > KEPT then
      -- Its rule was switched off, or its subject is no more.
      redis.call('HDEL', ALARMS, alarm)
    end
  end
  return claimed
end

local function told(alarm, claim, is_done, delivered, pause)
  local state = stored(alarm)
  local notice = state and state.notice
  if not notice or notice.claim ~= claim then
    return 0
  end
  if delivered ~= '' then
    state.told_at = NOW
  end
  if is_done then
    state.told_at, state.notice = NOW, nil
  else
    notice.claim, notice.free_at, notice.delivered = nil, NOW + pause, delivered
  end
  store(alarm, state)
  return 1
end

if ARGV[1] == 'watch' then
  return watch(ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]))
end
return told(ARGV[2], tonumber(ARGV[3]), ARGV[4] == '1', ARGV[5], tonumber(ARGV[6]))
