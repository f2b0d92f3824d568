-- ARGV: now, bulk, rows, visible, the first seq where rows are numbered already (''). Gives a staged bulk its seqs and, if visible, accepts it: from here on it counts. Answers its first seq.
local bulk, many = ARGV[2], tonumber(ARGV[3])
local made = call('HGET', P .. 'stc', bulk)
local facts = made and unpack_(made)
if call('HEXISTS', P .. 'stg', bulk) == 0 or (facts and facts[5] == 2) then return redis.error_reply('GONE') end
if not facts then
  local first = tonumber(ARGV[5])
  if not first then
    first = math.max(tonumber(call('HGET', P .. 'm', 'seq') or 0) + 1, floor(now * 1e6))
    call('HSET', P .. 'm', 'seq', first + many - 1)
  end
  facts = {first, many, 0, now, 0}
end
if ARGV[4] == '1' and facts[5] == 0 then
  facts[5] = 1
  count('accepted', facts[2])
  call('HINCRBY', P .. 'm', 'staged', facts[2])
end
write_totals()
call('HSET', P .. 'stc', bulk, pack(facts))
return facts[1]
