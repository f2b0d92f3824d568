-- ARGV: now, fence, attempt, settlement. Keeps a settlement that comes in parts, until its last part ends the attempt.
if fenced(ARGV[2]) then return redis.error_reply('FENCED') end
if call('ZSCORE', P .. 'au', ARGV[3]) == 'inf' then call('HSET', P .. 'si', ARGV[3], ARGV[4]) end
return 1
