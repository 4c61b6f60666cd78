-- What every script of the cache shares. KEYS[1] is where a value lies, such as "skycap:cache:{hotel:cmq1}"; the hash
-- tag keeps what belongs to it in one cluster slot.
--
--   <value>        hash    json, or zlib when it is compressed: the value; id, of this copy; early (ms), how long before
--                          its end it is to be loaded anew; tags (JSON): where the version of each of its tags lies, and
--                          which one must lie there for the value to hold
--   <value>:lease  string  who loads it: the id that the copy will have
--   <value>:told   list    one element, for a moment after a load has ended: those who wait for it move it onto itself
--
-- The version of a tag lies in a slot of its own: "skycap:cache:tag:{hotels}". Whoever deletes it, or a server that
-- needed its memory, makes all values that were kept under it void.
local VALUE, LEASE, TOLD = KEYS[1], KEYS[1] .. ':lease', KEYS[1] .. ':told'

local function end_lease()
  redis.call('DEL', LEASE, TOLD)
  redis.call('RPUSH', TOLD, 1)
  redis.call('PEXPIRE', TOLD, 5000)
end
