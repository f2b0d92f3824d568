-- ARGV: now, fence, most. Ends up to so many callbacks that are over their time. Answers how many ended, whether more are due, when the next is,
-- freed, whether operations go on, and how many receipts are due.
-- What is frozen or held is set aside (score inf) until it is put back; a batch that waits with nothing left in time ends whole.
if fenced(ARGV[2]) then return redis.error_reply('FENCED') end
local most = tonumber(ARGV[3])
local late, ended, released = call('ZRANGEBYSCORE', P .. 'x', '-inf', now, 'LIMIT', 0, most), 0, 0
for place, seq in ipairs(late) do late[place] = tonumber(seq) end
load(late)
for _, seq in ipairs(late) do
  local row = rows[seq]
  if row[@STATE] ~= 0 then
    zset('x', seq, false)
  elseif row[@HELD] == 1 then
    zset('x', seq, math.huge)
  elseif frozen(seq) > 0 then
    local number = frozen(seq)
    local batch = batch_of(number)
    if batch[@B_STATE] == 0 and batch[@B_EXPAT] <= now then
      drop_batch(number, batch)
      load(batch[@B_SEQS])
      for _, member in ipairs(batch[@B_SEQS]) do
        finish(rows[member], member, 3, 'expired', false)
        ended = ended + 1
      end
      released = math.max(released, let_go(number))
    else
      zset('x', seq, math.huge)
    end
  else
    finish(row, seq, 3, 'expired', false)
    ended = ended + 1
  end
end
flush()
local coming = call('ZRANGEBYSCORE', P .. 'x', '(' .. ARGV[1], '+inf', 'WITHSCORES', 'LIMIT', 0, 1)[2] or 'inf'
return {ended, #late == most and 1 or 0, coming, freed, released, noted}
