-- ARGV: now, fence, seq, id. Another callback, elsewhere, stands for a dead one from now on. Answers how many receipts are due.
if fenced(ARGV[2]) then return redis.error_reply('FENCED') end
local seq = tonumber(ARGV[3])
local row = row_of(seq)
if not row or row[@STATE] ~= 2 then return 0 end
count('dead', -1)
count('superseded', 1)
for _, name in ipairs({'dl', 'e1'}) do zset(name, seq, false) end
row[@STATE], row[@REASON], row[@SUPER], row[@ENDED] = 4, 'rerouted', seq, now
zset('e0', seq, now)
touch(seq)
note_end(row, seq, '4')
call('HSET', P .. 'sup', seq, ARGV[4])
flush()
return noted
