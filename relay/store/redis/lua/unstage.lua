-- ARGV: now, bulk. Takes the next chunk of a bulk back that was never accepted. Answers whether there is more.
local bulk = ARGV[2]
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
