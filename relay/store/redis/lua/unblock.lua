-- ARGV: now, fence, most. Lets keys go on past their dead rows. Answers whether there are more.
if fenced(ARGV[2]) then return redis.error_reply('FENCED') end
local found = call('HSCAN', P .. 'kz', 0, 'COUNT', ARGV[3])[2]
for place = 1, #found, 2 do
  call('HDEL', P .. 'kz', found[place])
  promoted[found[place]] = true
end
flush()
return {call('HLEN', P .. 'kz'), freed}
