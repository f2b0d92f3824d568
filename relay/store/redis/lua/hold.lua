-- ARGV: now, fence, KH, reason (kept with a mark before it; '' lets the key go on). Answers pending callbacks, whether it was held before, and freed.
if fenced(ARGV[2]) then return redis.error_reply('FENCED') end
local kh = ARGV[3]
local before = call('HEXISTS', P .. 'kp', kh)
if ARGV[4] ~= '' then
  call('HSET', P .. 'kp', kh, ARGV[4])
  for _, seq in ipairs(line_of(kh, 2)) do withdraw(row_of(seq), seq) end
else
  call('HDEL', P .. 'kp', kh)
  promoted[kh] = true
end
flush()
return {call('ZLEXCOUNT', P .. 'f', '[' .. kh .. 'L', '(' .. kh .. 'M'), before, freed}
