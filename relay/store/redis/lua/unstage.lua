-- ARGV: now, bulk. Takes the next chunk of a bulk back that was never accepted. Answers whether there is more; -1: it has been accepted.
local bulk = ARGV[2]
local made = call('HGET', P .. 'stc', bulk)
if made and unpack_(made)[5] == 1 then return -1 end
call('HSET', P .. 'stc', bulk, pack({0, 0, 0, 0, 2}))  -- from here on it cannot be flipped
local chunk = call('LPOP', P .. 'st:' .. bulk)
if not chunk then
  call('HDEL', P .. 'stg', bulk)
  call('HDEL', P .. 'stc', bulk)
  return 0
end
for _, new in ipairs(unpack_(chunk)) do
  if new[6] ~= '' then call('HDEL', P .. 'rv', new[6]) end
end
return 1
