-- ARGV: now, fence, gate. Keeps a gate, and of its groups' stops those it names; false is one that is over.
if fenced(ARGV[2]) then return redis.error_reply('FENCED') end
local gate = unpack_(ARGV[3])
call('HSET', P .. 'gt', '', gate[1])
for _, stop in ipairs(gate[2]) do
  if stop[2] then call('HSET', P .. 'gt', 'g' .. stop[1], stop[2]) else call('HDEL', P .. 'gt', 'g' .. stop[1]) end
end
return 1
