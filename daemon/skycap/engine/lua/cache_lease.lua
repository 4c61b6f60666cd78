-- after: cached
-- Renew a lease, or end it, which lets another caller load. ARGV: whose it is, how long from now (ms), 0 to end it.
-- Returns 0 when it is not the caller's any more.
if redis.call('GET', LEASE) ~= ARGV[1] then
  return 0
end
if ARGV[2] == '0' then
  end_lease()
else
  redis.call('PEXPIRE', LEASE, ARGV[2])
end
return 1
