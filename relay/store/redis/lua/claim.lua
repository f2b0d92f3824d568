-- ARGV: now, fence, attempt, number, group, 1 for a fresh batch, its seqs, 1 for a probe. 2: a question, an empty
-- batch. Any other batch is frozen already.
-- Records the attempt and answers the batch and its items; of an attempt that is recorded it answers the same again.
if fenced(ARGV[2]) then return redis.error_reply('FENCED') end
local attempt, number, group, fresh, empty = tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5], ARGV[6] == '1', ARGV[6] == '2'
local recorded = call('HGET', P .. 'at', attempt)
local batch = batch_of(number)
if recorded and not (batch and batch[@B_ATTEMPT] == attempt) then return redis.error_reply('GONE') end
if not recorded then
  if empty then
    batch = freeze_batch(number, group, {}, number, 0, 1)
  elseif fresh then
    local wanted, seqs = unpack_(ARGV[7]), {}
    load(wanted)
    for _, seq in ipairs(wanted) do
      local row = rows[seq]
      if row and row[@STATE] == 0 and row[@HEAD] > 0 then
        if row[@EXPAT] > now then
          seqs[#seqs + 1] = seq
        else
          withdraw(row, seq)  -- it is left to expire and never sent
        end
      end
    end
    if not seqs[1] then
      flush()
      return false
    end
    batch = freeze_batch(number, group, seqs, number, 0, 0)
  elseif not batch or batch[@B_STATE] == 1 then
    return false
  end
  load(batch[@B_SEQS])
  batch[@B_ATTEMPTS], batch[@B_STATE], batch[@B_ATTEMPT] = batch[@B_ATTEMPTS] + 1, 1, attempt
  zset(queue_of(batch), number, false)
  zset('bw', number, false)
end
local items, replayed, sent_before = {}, 1, true
for place, seq in ipairs(batch[@B_SEQS]) do
  local row = row_of(seq)
  local again = recorded and 1 or 0
  items[place] = {seq, row[@KEY], row[@EVENT], row[@CTYPE], row[@ACC], row[@EXPAT], row[@ATTEMPTS] - again, row[@SPENT],
    (recorded and row[@ATTEMPTS] == 1) and 0 or row[@FIRST], row[@MAYBE]}
  if row[@LANE] ~= 3 then replayed = 0 end
  if row[@ATTEMPTS] - again == 0 then sent_before = false end
  if not recorded then
    row[@ATTEMPTS] = row[@ATTEMPTS] + 1
    if row[@FIRST] == 0 then row[@FIRST] = now end
    row[@ATTS][#row[@ATTS] + 1] = attempt
    touch(seq)
  end
end
local purpose = 0
if batch[@B_CONFIRM] == 1 then
  purpose = 4
elseif ARGV[8] == '1' then
  purpose = 3
elseif replayed == 1 then
  purpose = 2
elseif batch[@B_ATTEMPTS] > 1 or sent_before then
  purpose = 1
end
if not recorded then
  save_batch(number, batch)
  call('HSET', P .. 'at', attempt, pack({number, batch[@B_ATTEMPTS], batch[@B_GROUP], now, false, 0, '', false, '', '', 0, #items, purpose}))
  call('ZADD', P .. 'au', '+inf', attempt)
  call('HINCRBY', P .. 'm', 'in_flight', #items)
  call('HSET', P .. 'm', 'number', math.max(attempt, number, tonumber(call('HGET', P .. 'm', 'number') or 0)))
  flush()
end
return pack({batch[@B_ATTEMPTS], batch[@B_CREATED], batch[@B_ROOT], batch[@B_CONFIRM], replayed, items})
