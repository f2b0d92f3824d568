-- ARGV: now, fence, silent_s, most, last. Ends attempts of a former owner that have no answer, those numbered up to last: each holds its slot as if
-- answered when it must be over, and its batch goes again no earlier. Answers whether there may be more, whether operations go on, and how many attempts
-- that were, with how many callbacks.
if fenced(ARGV[2]) then return redis.error_reply('FENCED') end
local silent_s = tonumber(ARGV[3])
local most, last, open = tonumber(ARGV[4]), tonumber(ARGV[5]), {}
for _, attempt_id in ipairs(call('ZRANGEBYSCORE', P .. 'au', '+inf', '+inf')) do
  if tonumber(attempt_id) <= last and #open < most then open[#open + 1] = attempt_id end
end
local released, callbacks = 0, 0
for _, attempt_id in ipairs(open) do
  local attempt = unpack_(call('HGET', P .. 'at', attempt_id))
  local over = math.max(now, attempt[@A_STARTED] + silent_s)
  attempt[@A_ENDED], attempt[@A_OUTCOME], attempt[@A_AMBIGUOUS] = over, 'crash', 1
  call('HSET', P .. 'at', attempt_id, pack(attempt))
  call('ZADD', P .. 'au', over, attempt_id)
  call('HSET', P .. 'm', 'error', pack({over, 'crash', false, '', ''}))
  local number = attempt[@A_BATCH]
  local batch = batch_of(number)
  call('HINCRBY', P .. 'm', 'in_flight', -#batch[@B_SEQS])
  callbacks = callbacks + #batch[@B_SEQS]
  load(batch[@B_SEQS])
  for _, seq in ipairs(batch[@B_SEQS]) do
    attempted(rows[seq], seq, number, tonumber(attempt_id), attempt[@A_STARTED])
    rows[seq][@MAYBE] = 1
    zset('x', seq, rows[seq][@EXPAT])
    touch(seq)
  end
  forget_question(tonumber(attempt_id), batch, over)
  if batch[@B_SEQS][1] then wait_again(number, batch, over) else drop_batch(number, batch) end
  released = math.max(released, let_go(number))
end
flush()
return {#open == most and 1 or 0, released, #open, callbacks}
