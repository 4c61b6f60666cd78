-- What is known of a schedule.
local CRON = P .. 'cron'

local function schedule(name)
  return P .. 'schedule:' .. name
end

-- paused: until when (ms), or 'inf'.
local function is_paused(paused)
  return paused and (tonumber(paused) or math.huge) > NOW
end
