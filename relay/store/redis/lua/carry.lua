-- ARGV: now, rows, payload of each ('': deleted). Puts rows in that were copied from another store; one that is there already is left as it is. A row is
-- {seq, row, the batch it is frozen in or 0, digest of its idempotency key or '', id of what stands for it or ''}. One that comes back from a history file
-- has two more: its attempts as {{id, attempt, when it ended}, ...}, and as what time its end counts for pruning. It is passed over
-- where it came back before and left as another than this. Answers how many were put in.
local given = unpack_(ARGV[2])
local fresh = {}

local function show(attempts)  -- those that went are kept again, as long as a row shows them
  for _, each_ in ipairs(attempts) do
    local id, given_facts = each_[1], each_[2]
    local blob = call('HGET', P .. 'at', id)
    local facts = blob and unpack_(blob) or given_facts
    if facts[@A_BATCH] == given_facts[@A_BATCH] then
      facts[@A_ROWS] = (blob and facts[@A_ROWS] or 0) + 1
      call('HSET', P .. 'at', id, pack(facts))
      call('ZADD', P .. 'au', each_[3], id)
      zset('loose', id, false)
    end
  end
end

local function take(seq, row, inside, digest, newer, body, attempts, counts)
  rows[seq] = row
  fresh[#fresh + 1] = seq
  touch(seq)
  zset('all', seq, seq)
  if body ~= '' then call('HSET', P .. 'b', seq, string.sub(body, 2)) end
  if row[@ALIAS] ~= '' then call('HSET', P .. 'al', row[@ALIAS], seq) end
  if digest ~= '' then call('HSET', P .. 'dd', row[@IDEM], digest .. string.format('%.0f', seq)) end
  if newer ~= '' then call('HSET', P .. 'sup', seq, newer) end
  if attempts then
    show(attempts)
  else
    for _, attempt in ipairs(row[@ATTS]) do call('HINCRBY', P .. 'shows', attempt, 1) end
  end
  call('HINCRBY', P .. 'm', 'bytes', row[@BYTES])
  local kh, state = row[@KH], row[@STATE]
  if state == 0 then
    local stands = inside > 0 or row[@HELD] == 1
    if inside > 0 then
      call('HSET', P .. 'fz', seq, inside)
      frozen_in[seq] = inside
    end
    zset('x', seq, row[@EXPAT])
    if row[@HELD] == 1 then zset('hd', seq, seq) end
    if kh ~= '' then
      zset('f', live_member(row, seq), 0)
      lane_count(row, 1)
      if stands then add_to(busied, kh, 1) end
      promoted[kh] = true
    elseif not stands then
      offer(row, seq, row[@LANE])
    end
    if not stands and row[@FIRST] > 0 then
      zset('hs', seq, waiting_since(row))
      if row[@DUE] > now then zset('lt', seq, row[@DUE]) end
    end
    return
  end
  zset((state == 1 or state == 4) and 'e0' or 'e1', seq, counts or row[@ENDED])
  if row[@DROPPED] == 1 then
    zset('dr', seq, seq)
  elseif state == 2 then
    zset('dl', seq, seq)
  elseif state == 3 then
    zset('ex', seq, seq)
  end
  if kh ~= '' then
    zset('f', ended_member(row, seq), 0)
    if row[@BLOCK] == 1 then
      call('HINCRBY', P .. 'kz', kh, 1)
      promoted[kh] = true
    end
  end
end

local function is_old(new)  -- what a history file has is not how it left the server last
  if not new[6] then return false end
  local left = call('HGET', P .. 'bk', new[1])
  if left and left ~= string.format('%.6f', new[2][@ENDED]) then return true end
  call('HSET', P .. 'bk', new[1], '')
  return false
end

for place, new in ipairs(given) do
  if not row_of(new[1]) and not is_old(new) then take(new[1], new[2], new[3], new[4], new[5], ARGV[2 + place], new[6], new[7]) end
end
flush()
return #fresh
