-- after: cached
-- Forget a value, and have what is being loaded not kept. Returns how many were there.
local count = redis.call('DEL', VALUE)
if redis.call('EXISTS', LEASE) == 1 then
  end_lease()
end
return count
