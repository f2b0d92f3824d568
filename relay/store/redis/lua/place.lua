-- ARGV: now, bulk, coalesce. Moves the next chunk of an accepted bulk into the queue. Answers freed, whether there is more, and how many receipts are due.
local bulk = ARGV[2]
local made = call('HGET', P .. 'stc', bulk)
if not made then  -- nothing of it was new
  call('HDEL', P .. 'stg', bulk)
  return {0, 0, 0}
end
local facts = unpack_(made)
local chunk = call('LPOP', P .. 'st:' .. bulk)
if not chunk then
  call('HDEL', P .. 'stc', bulk)
  call('HDEL', P .. 'stg', bulk)
  return {0, 0, 0}
end
now = facts[4]
local reserved, given = {}, unpack_(chunk)
for _, new in ipairs(given) do
  add(new, new[23], new[22] or facts[1] + facts[3], ARGV[3])
  facts[3] = facts[3] + 1
  if new[6] ~= '' then reserved[#reserved + 1] = new[6] end
end
each(reserved, 2000, function(...) call('HDEL', P .. 'rv', ...) end)
call('HINCRBY', P .. 'm', 'staged', -#given)
write_added()
flush()
if call('EXISTS', P .. 'st:' .. bulk) == 0 then
  call('HDEL', P .. 'stc', bulk)
  call('HDEL', P .. 'stg', bulk)
  return {freed, 0, noted}
end
call('HSET', P .. 'stc', bulk, pack(facts))
return {freed, 1, noted}
