-- ARGV: now, fence, attempt, batch, settlement. The settlement: ended_at, duration, outcome, status, reason, excerpt, ambiguous, code, accepted,
-- delivered, requeues, endings, held, ask, resend, split, blocks, numbers of new batches, gate. Answers freed and whether operations go on; false
-- for an attempt that is settled.
if fenced(ARGV[2]) then return redis.error_reply('FENCED') end
local attempt_id, number = tonumber(ARGV[3]), tonumber(ARGV[4])
local blob = call('HGET', P .. 'at', attempt_id)
local attempt = blob and unpack_(blob)
if not attempt or attempt[@A_ENDED] then return false end
local batch = batch_of(number)
local ended_at, duration, outcome, status, reason, excerpt, ambiguous, code, accepted, delivered, requeues, endings, held, ask, resend, split,
  blocks, numbers, gate = unpack(unpack_(ARGV[5]), 1, 19)

local named, members, many = {}, {}, 0
for _, seq in ipairs(batch[@B_SEQS]) do members[seq] = true end
local function name(seqs)
  for _, seq in ipairs(seqs) do
    if named[seq] or not members[seq] then many = math.huge end
    named[seq] = true
    many = many + 1
  end
end
name(delivered)
name(held)
for _, part in ipairs(split) do name(part) end
for _, again in ipairs(requeues) do name(again[1]) end
for _, ending in ipairs(endings) do name(ending[1]) end
if ask then name(ask[1]) end
if resend then name(batch[@B_SEQS]) end
if many ~= #batch[@B_SEQS] then return redis.error_reply('PARTS') end

attempt[@A_ENDED], attempt[@A_DURATION], attempt[@A_OUTCOME], attempt[@A_STATUS] = ended_at, duration, outcome, status
attempt[@A_REASON], attempt[@A_EXCERPT], attempt[@A_AMBIGUOUS] = reason, excerpt, ambiguous
call('HSET', P .. 'at', attempt_id, pack(attempt))
call('ZADD', P .. 'au', ended_at, attempt_id)
if accepted == 0 then call('HSET', P .. 'm', 'error', pack({ended_at, outcome, status, reason, excerpt, number})) end
call('HINCRBY', P .. 'm', 'in_flight', -#batch[@B_SEQS])
load(batch[@B_SEQS])
if ambiguous == 1 then
  for _, seq in ipairs(batch[@B_SEQS]) do
    rows[seq][@MAYBE] = 1
    touch(seq)
  end
end
forget_question(attempt_id, batch, ended_at)
if not resend or not batch[@B_SEQS][1] then drop_batch(number, batch) end
for _, seq in ipairs(delivered) do finish(rows[seq], seq, 1, reason, false) end
for _, ending in ipairs(endings) do
  local seqs, state, why, maybe, message, met = unpack(ending, 1, 6)
  for _, seq in ipairs(seqs) do
    local row = rows[seq]
    if maybe == 1 then row[@MAYBE] = 1 end
    if message ~= '' then row[@MESSAGE] = message end
    row[@CODE] = met
    finish(row, seq, state, why, blocks == 1 and state == 2)
  end
end
for _, again in ipairs(requeues) do
  local seqs, due, charge, why, maybe, message = unpack(again, 1, 6)
  for _, seq in ipairs(seqs) do
    local row = rows[seq]
    row[@SPENT], row[@REASON] = row[@SPENT] + charge, why
    if maybe == 1 then row[@MAYBE] = 1 end
    if message ~= '' then row[@MESSAGE] = message end
    requeue(row, seq, due, row[@LANE] == 1 and 2 or row[@LANE])
  end
end
for _, seq in ipairs(held) do
  local row = rows[seq]
  row[@REASON], row[@CODE], row[@FROZEN], row[@HELD] = reason, code, 0, 1
  zset('hd', seq, seq)
  zset('hs', seq, false)
  touch(seq)
end
if resend then
  local due, charge, why = unpack(resend, 1, 3)
  for _, seq in ipairs(batch[@B_SEQS]) do
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
  local own = freeze_batch(numbers[used], batch[@B_GROUP], part, batch[@B_ROOT], 1, 0)
  for _, seq in ipairs(part) do zset('x', seq, rows[seq][@EXPAT]) end
  wait_again(numbers[used], own, now)
  freed = freed + #part
end
if ask then
  local seqs, due, why = unpack(ask, 1, 3)
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
return {freed, released}
