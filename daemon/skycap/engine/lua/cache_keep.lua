-- after: cached
-- Keep a copy. ARGV: its id; 1 if only while its lease holds; how long (ms); early (ms); 'json' or 'zlib'; the value;
-- tags (JSON), or ''. Returns 0 when the lease is not the caller's any more: the value was forgotten or set meanwhile.
if ARGV[2] == '1' and redis.call('GET', LEASE) ~= ARGV[1] then
  return 0
end
redis.call('DEL', VALUE)
redis.call('HSET', VALUE, 'id', ARGV[1], 'early', ARGV[4], ARGV[5], ARGV[6])
if ARGV[7] ~= '' then
  redis.call('HSET', VALUE, 'tags', ARGV[7])
end
redis.call('PEXPIRE', VALUE, ARGV[3])
end_lease()
return 1
