-- ARGV: now, fence, number of the operation, action, most, reorder, verdict, blocks, and of resend: expiry, run, coalesce. Applies the operation to its next matches here.
-- op: turns to come, opm: all that is meant still, opw: what waits for a batch, ops: what its batch let go since, opp: the progress, opf: skipped ids.
-- Answers what ended, freed, whether operations go on, and how many receipts are due.
if fenced(ARGV[2]) then return redis.error_reply('FENCED') end
local number, action, most, reorder, verdict, blocks = ARGV[3], ARGV[4], tonumber(ARGV[5]), ARGV[6] == '1', ARGV[7], ARGV[8] == '1'
local turns, meant, waiting, settled, progress, failed = P .. 'op:' .. number, P .. 'opm:' .. number, P .. 'opw:' .. number,
  P .. 'ops:' .. number, P .. 'opp:' .. number, P .. 'opf:' .. number
local ending = action == 'drop' or action == 'expire' or action == 'forget'
local ended, released = {}, 0

local function give_up(batch)
  if batch[@B_STATE] == 1 or batch[@B_CONFIRM] == 1 then return false end
  for _, seq in ipairs(batch[@B_SEQS]) do
    if call('SISMEMBER', meant, seq) == 0 then return false end
  end
  return true
end

local function unfrozen(seq)
  if call('SISMEMBER', meant, seq) == 0 then return {} end
  local row = row_of(seq)
  if not row or frozen(seq) == 0 or not ending then return {seq} end
  local inside = frozen(seq)
  local batch = batch_of(inside)
  if give_up(batch) then
    drop_batch(inside, batch)
    released = math.max(released, let_go(inside))
    return batch[@B_SEQS]
  end
  call('HSET', waiting, seq, inside)
  local others = call('HGET', P .. 'aw', inside) or ''
  call('HSET', P .. 'aw', inside, others .. number .. ' ')
  return {}
end

local function stop(row, seq, state, reason, blocking)
  finish(row, seq, state, reason, blocking)
  local what = state .. reason
  ended[what] = (ended[what] or 0) + 1
end

local function overtaken(row, seq)  -- a newer callback of its key was delivered
  if row[@KH] == '' then return false end
  local after = '(' .. row[@KH] .. 'D' .. struct.pack('>I8', seq)
  return call('ZRANGEBYLEX', P .. 'f', after, '(' .. row[@KH] .. 'E', 'LIMIT', 0, 1)[1] ~= nil
end

local act = {}
function act.retry(row, seq)
  local state = row[@STATE]
  if state ~= 2 and state ~= 3 then return 'state' end
  if row[@DROPPED] == 1 or call('HEXISTS', P .. 'b', seq) == 0 then return 'no_payload' end
  if not reorder and overtaken(row, seq) then return 'overtaken' end
  count(WORDS[state], -1)
  for _, name in ipairs({'dl', 'ex', 'e1'}) do zset(name, seq, false) end
  if row[@KH] ~= '' then zset('f', ended_member(row, seq), false) end
  row[@SPENT], row[@FIRST], row[@LANE], row[@STATE], row[@REASON], row[@MESSAGE], row[@CODE] = 0, 0, 3, 0, '', '', false
  row[@ENDED], row[@DUE], row[@EXPAT] = 0, now, now + row[@EXPS]
  unblock(row, seq)
  enter(row, seq)
end
function act.drop(row, seq)
  if row[@STATE] == 2 then
    call('HDEL', P .. 'b', seq)
    count('bytes', -row[@BYTES])
    row[@BYTES], row[@DROPPED] = 0, 1
    zset('dl', seq, false)
    zset('dr', seq, seq)
    touch(seq)
    unblock(row, seq)
    return
  end
  if row[@STATE] ~= 0 then return 'state' end
  stop(row, seq, 2, 'dropped', false)
end
-- What it holds of a person goes; its state, its times and the hash of its key stay.
function act.forget(row, seq)
  if row[@STATE] == 0 then
    stop(row, seq, 2, 'forgotten', false)
  elseif row[@STATE] == 2 and row[@DROPPED] == 0 then
    row[@DROPPED] = 1
    zset('dl', seq, false)
    zset('dr', seq, seq)
    unblock(row, seq)
  end
  call('HDEL', P .. 'b', seq)
  count('bytes', -row[@BYTES])
  row[@BYTES], row[@KEY], row[@MESSAGE], row[@REF], row[@IKEY] = 0, false, '', false, false
  for _, id in ipairs(row[@ATTS]) do
    local blob = call('HGET', P .. 'at', id)
    local attempt = blob and unpack_(blob)
    if attempt and attempt[@A_ENDED] then
      attempt[@A_EXCERPT] = ''
      call('HSET', P .. 'at', id, pack(attempt))
    end
  end
  local told = call('HGET', P .. 'm', 'error')
  if told then
    told = unpack_(told)
    told[5] = ''
    call('HSET', P .. 'm', 'error', pack(told))
  end
  touch(seq)
end
function act.expire(row, seq)
  if row[@STATE] ~= 0 then return 'state' end
  stop(row, seq, 3, 'operator', false)
end
function act.resolve(row, seq)
  if row[@HELD] == 0 then return 'state' end
  if verdict == 'delivered' then
    finish(row, seq, 1, 'resolved', false)
  elseif verdict == 'retry' then
    requeue(row, seq, now, row[@LANE] == 1 and 2 or row[@LANE])
  else
    stop(row, seq, 2, 'resolved', blocks)
  end
end

-- A new callback with the same payload, once for a run of reconcile; it stands for one that was not delivered.
function act.resend(row, seq)
  local state, body = row[@STATE], call('HGET', P .. 'b', seq)
  if state == 0 or state == 4 then return 'state' end
  if not body then return 'no_payload' end
  if not reorder and overtaken(row, seq) then return 'overtaken' end
  local idem = 'reconcile/' .. ARGV[10] .. '/' .. string.format('%.0f', seq)
  if call('HEXISTS', P .. 'dd', idem) == 1 then return 'resent' end
  call('HSET', P .. 'dd', idem, '')  -- written whole with the row, below
  local expires = ARGV[9] == '' and row[@EXPS] or tonumber(ARGV[9])
  local newer = add({row[@KEY], row[@KH], row[@EVENT], 3, expires, idem, '------------', row[@CTYPE], row[@TRACE], row[@GROUP], row[@BYTES],
    false, '', row[@REF], 0}, body, nil, ARGV[11])
  if state == 1 then return end
  count(WORDS[state], -1)
  count('superseded', 1)
  for _, name in ipairs({'dl', 'ex', 'e1'}) do zset(name, seq, false) end
  zset('e0', seq, now)
  row[@STATE], row[@REASON], row[@SUPER], row[@ENDED] = 4, 'resent', newer, now
  touch(seq)
  note_end(row, seq, '4')
end

for _ = 1, math.min(most, call('LLEN', settled) + call('LLEN', turns)) do
  local turn = call('LPOP', settled)
  local waited = turn and true or false
  turn = tonumber(turn or call('LPOP', turns))
  for _, seq in ipairs(unfrozen(turn)) do
    call('SREM', meant, seq)
    call('HDEL', waiting, seq)
    local row, skipped = row_of(seq), nil
    if not row then
      skipped = 'gone'
    elseif waited and row[@STATE] ~= 0 and action ~= 'forget' then
      skipped = 'state'  -- also of what died: it keeps its payload, as what is dropped does
    else
      skipped = act[action](row, seq)
    end
    if skipped then
      call('HINCRBY', progress, 'skip:' .. skipped, 1)
      if row then
        call('RPUSH', failed, seq)
        call('LTRIM', failed, 0, 99)
      end
    else
      call('HINCRBY', progress, 'done', 1)
    end
  end
end
write_added()
flush()
local endings = {}
for what, many in pairs(ended) do endings[#endings + 1] = {tonumber(string.sub(what, 1, 1)), string.sub(what, 2), many} end
return {endings, freed, released, noted}
