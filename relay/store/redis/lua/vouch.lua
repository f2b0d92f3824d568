-- ARGV: now, fence, the server that has all attempts of the platform up to now, 1 where some that it should have may be lost: its windows count as full.
if fenced(ARGV[2]) then return redis.error_reply('FENCED') end
call('HSET', P .. 'm', 'server', ARGV[3])
if ARGV[4] == '1' then call('HSET', P .. 'm', 'full', ARGV[1]) end
return 1
