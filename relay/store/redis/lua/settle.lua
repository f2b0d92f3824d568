-- ARGV: now, fence, attempt, settlement, 1 for its last part. The settlement: ended_at, duration, outcome, status, reason, excerpt,
-- ambiguous, code, accepted, delivered, requeues, endings, held, ask, resend, split, blocks, numbers of new batches, gate, purpose, bytes as sent (0: not known), the excerpt again for the last error. A long one comes
-- in parts, each with some of its rows. The last one ends the attempt; until then the whole lies in ``si``, for a restart to go on with.
-- Answers freed, whether operations go on, and how many receipts are due; false for an attempt that is settled.
if fenced(ARGV[2]) then return redis.error_reply('FENCED') end
local attempt_id = tonumber(ARGV[3])
local blob = call('HGET', P .. 'at', attempt_id)
local attempt = blob and unpack_(blob)
if not attempt or attempt[@A_ENDED] then return false end
local number = attempt[@A_BATCH]
local ended_at, duration, outcome, status, reason, excerpt, ambiguous, code, accepted, delivered, requeues, endings, held, ask, resend, split,
  blocks, numbers, gate, purpose, wire, told_error = unpack(unpack_(ARGV[4]), 1, 22)


local function of_batch(seqs)  -- those that no earlier part of this settlement has settled
  local mine = {}
  load(seqs)
  if not seqs[1] then return mine end
  local inside = values('fz', seqs)
  for place, seq in ipairs(seqs) do
    if tonumber(inside[place] or 0) == number and rows[seq] then
      mine[#mine + 1] = seq
      attempted(rows[seq], seq, number, attempt_id, attempt[@A_STARTED])
      if ambiguous == 1 then rows[seq][@MAYBE] = 1 end
    end
  end
  return mine
end

for _, seq in ipairs(of_batch(delivered)) do finish(rows[seq], seq, 1, reason, false) end
for _, ending in ipairs(endings) do
  local seqs, state, why, maybe, message, met = unpack(ending, 1, 6)
  for _, seq in ipairs(of_batch(seqs)) do
    local row = rows[seq]
    if maybe == 1 then row[@MAYBE] = 1 end
    if message ~= '' then row[@MESSAGE] = message end
    row[@CODE] = met
    finish(row, seq, state, why, blocks == 1 and state == 2)
  end
end
for _, again in ipairs(requeues) do
  local seqs, due, charge, why, maybe, message = unpack(again, 1, 6)
  for _, seq in ipairs(of_batch(seqs)) do
    local row = rows[seq]
    row[@SPENT], row[@REASON] = row[@SPENT] + charge, why
    if maybe == 1 then row[@MAYBE] = 1 end
    if message ~= '' then row[@MESSAGE] = message end
    requeue(row, seq, due, row[@LANE] == 1 and 2 or row[@LANE])
  end
end
for _, seq in ipairs(of_batch(held)) do
  local row = rows[seq]
  thaw(seq)
  row[@REASON], row[@CODE], row[@HELD] = reason, code, 1
  zset('hd', seq, seq)
  zset('hs', seq, false)
  touch(seq)
  note_end(row, seq, 'h')
end
if ARGV[5] ~= '1' then  -- a part: the last one ends the attempt
  flush()
  return {freed, 0, noted}
end

local batch = batch_of(number)
attempt[@A_ENDED], attempt[@A_DURATION], attempt[@A_OUTCOME], attempt[@A_STATUS] = ended_at, duration, outcome, status
attempt[@A_REASON], attempt[@A_EXCERPT], attempt[@A_AMBIGUOUS] = reason, excerpt, ambiguous
attempt[@A_PURPOSE] = purpose
if (wire or 0) > 0 then attempt[@A_BYTES] = wire end
call('HSET', P .. 'at', attempt_id, pack(attempt))
call('HDEL', P .. 'si', attempt_id)
call('ZADD', P .. 'au', ended_at, attempt_id)
if accepted == 0 then call('HSET', P .. 'm', 'error', pack({ended_at, outcome, status, reason, told_error or excerpt, number})) end
call('HINCRBY', P .. 'm', 'in_flight', -#batch[@B_SEQS])
forget_question(attempt_id, batch, ended_at)
if not resend or not batch[@B_SEQS][1] then drop_batch(number, batch) end
if resend then
  local due, charge, why = unpack(resend, 1, 3)
  for _, seq in ipairs(of_batch(batch[@B_SEQS])) do
    local row = rows[seq]
    row[@SPENT], row[@REASON] = row[@SPENT] + charge, why
    zset('x', seq, row[@EXPAT])
    touch(seq)
  end
  if batch[@B_SEQS][1] then wait_again(number, batch, due) end
end
local used = 0
for _, part in ipairs(split) do
  used = used + 1
  part = of_batch(part)
  if part[1] then  -- else a failover lost them
    local own = freeze_batch(numbers[used], batch[@B_GROUP], part, batch[@B_ROOT], 1, 0)
    for _, seq in ipairs(part) do zset('x', seq, rows[seq][@EXPAT]) end
    wait_again(numbers[used], own, now)
    freed = freed + #part
  end
end
if ask then
  local seqs, due, why = unpack(ask, 1, 3)
  seqs = of_batch(seqs)
  for _, seq in ipairs(seqs) do
    used = used + 1
    rows[seq][@REASON] = why
    wait_again(numbers[used], freeze_batch(numbers[used], batch[@B_GROUP], {seq}, batch[@B_ROOT], 1, 1), due)
  end
  freed = freed + #seqs
end
if gate then
  call('HSET', P .. 'gt', '', gate[1])
  for _, stop in ipairs(gate[2]) do
    if stop[2] then call('HSET', P .. 'gt', 'g' .. stop[1], stop[2]) else call('HDEL', P .. 'gt', 'g' .. stop[1]) end
  end
end
local released = let_go(number)
flush()
return {freed, released, noted}
