-- ARGV: now, fence, most. Makes what waits for its retry time due now. Answers how many callbacks that were here, and whether there may be more.
if fenced(ARGV[2]) then return redis.error_reply('FENCED') end
local brought = 0
local late = call('ZRANGEBYSCORE', P .. 'lt', '(' .. ARGV[1], '+inf', 'LIMIT', 0, ARGV[3])
for _, member in ipairs(late) do
  local seq = tonumber(member)
  local row = row_of(seq)
  zset('lt', seq, false)
  if row[@STATE] == 0 and frozen(seq) == 0 and row[@HELD] == 0 and row[@EXPAT] > now then
    row[@DUE] = now
    touch(seq)
    if row[@HEAD] > 0 then offer(row, seq, row[@HEAD] - 1) end
    brought = brought + 1
  end
end
freed = brought
local batches = call('ZRANGEBYSCORE', P .. 'bw', '(' .. ARGV[1], '+inf', 'LIMIT', 0, ARGV[3])
for _, number in ipairs(batches) do
  local batch = batch_of(number)
  if batch[@B_EXPAT] > now then
    wait_again(tonumber(number), batch, now)
    brought, freed = brought + #batch[@B_SEQS], freed + #batch[@B_SEQS]
  else
    zset('bw', tonumber(number), false)
  end
end
flush()
return {brought, #late + #batches, freed}
