-- ARGV: now, fence, time of a comparison, 1 when it is done. Answers 1 when this owner is to run it: nobody did, or an owner that is gone began it.
if fenced(ARGV[2]) then return redis.error_reply('FENCED') end
local kept = call('HMGET', P .. 'cmp', 'at', 'token', 'done')
local at = tonumber(kept[1] or '-inf') or -math.huge
if ARGV[4] == '1' then
  if at == tonumber(ARGV[3]) then call('HSET', P .. 'cmp', 'done', 1) end
  return 1
end
if at >= tonumber(ARGV[3]) and (kept[3] == '1' or kept[2] == ARGV[2]) then return 0 end
call('HSET', P .. 'cmp', 'at', ARGV[3], 'token', ARGV[2], 'done', 0)
return 1
