-- each: add
-- Add jobs to several queues, all or none. KEYS: the queues' prefixes. ARGV: for each queue, how many arguments `add`
-- gets for it, then these (with the mode '').
-- Returns what `add` returns for each queue; or, where it could not be added to one of them, what that one says alone.
local calls = {}
local at = 1
for i = 1, #KEYS do
  local count = tonumber(ARGV[at])
  local arguments = {}
  for n = 1, count do
    arguments[n] = ARGV[at + n]
  end
  calls[i] = arguments
  at = at + 1 + count
end

for i, arguments in ipairs(calls) do
  arguments[1] = '?'
  local answer = each({ KEYS[i] }, arguments)
  if answer ~= 1 then
    return { i, answer }
  end
end

local reply = { 0 }
for i, arguments in ipairs(calls) do
  arguments[1] = ''
  reply[i + 1] = each({ KEYS[i] }, arguments)
end
return reply
