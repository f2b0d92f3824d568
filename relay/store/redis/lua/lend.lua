-- ARGV: now, fence, then number, slot, and from when it counts, of each. Records slots that others took of the limits.
if fenced(ARGV[2]) then return redis.error_reply('FENCED') end
for place = 3, #ARGV, 3 do
  call('HSET', P .. 'ln', ARGV[place], ARGV[place + 1])
  call('ZADD', P .. 'lc', ARGV[place + 2], ARGV[place])
  call('HSET', P .. 'm', 'number', math.max(tonumber(ARGV[place]), tonumber(call('HGET', P .. 'm', 'number') or 0)))
end
return 1
