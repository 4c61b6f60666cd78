-- after: cached
-- What is kept, and who loads it when nothing is, or not for long. ARGV: id of the copy that the caller would load, ''
-- if it would not; its lease (ms); id of a copy that is of no use to the caller, or '-'; 1 if tags may be looked at here.
-- Returns {whether the caller is to load, ms left of the lease of whoever does, id, json, zlib, tags}.
local me, unfit = ARGV[1], ARGV[3]

local function lease()
  if me ~= '' and redis.call('SET', LEASE, me, 'NX', 'PX', ARGV[2]) then
    redis.call('DEL', TOLD)
    return 1
  end
  return 0
end

local function holds(tags)
  if tags and ARGV[4] == '1' then
    local pairs_of = cjson.decode(tags)
    for i = 1, #pairs_of, 2 do
      if redis.call('GET', pairs_of[i]) ~= pairs_of[i + 1] then
        return false
      end
    end
  end
  return true
end

local kept = redis.call('HMGET', VALUE, 'id', 'json', 'zlib', 'tags', 'early')
local id = kept[1] or ''
local is_there = kept[2] or kept[3]
if is_there and id ~= unfit and holds(kept[4]) then
  local mine = 0
  if me ~= '' and kept[5] and redis.call('PTTL', VALUE) <= tonumber(kept[5]) then
    mine = lease()
  end
  return {mine, 0, id, kept[2], kept[3], kept[4]}
end
if lease() == 1 then
  if is_there then
    redis.call('DEL', VALUE)
  end
  return {1, 0}
end
return {0, me ~= '' and redis.call('PTTL', LEASE) or 0}
