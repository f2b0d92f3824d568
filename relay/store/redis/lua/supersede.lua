-- ARGV: now, fence, seq, id of what stands for it elsewhere, or '', the reason, and the seq of what stands for it here. Answers how many receipts are due.
if fenced(ARGV[2]) then return redis.error_reply('FENCED') end
local seq = tonumber(ARGV[3])
local row = row_of(seq)
if not row or (row[@STATE] ~= 2 and row[@STATE] ~= 3) then return 0 end
count(WORDS[row[@STATE]], -1)
count('superseded', 1)
for _, name in ipairs({'dl', 'ex', 'e1'}) do zset(name, seq, false) end
row[@STATE], row[@REASON], row[@SUPER], row[@ENDED] = 4, ARGV[5], tonumber(ARGV[6]), now
zset('e0', seq, now)
touch(seq)
note_end(row, seq, '4')
if ARGV[4] ~= '' then call('HSET', P .. 'sup', seq, ARGV[4]) end
flush()
return noted
