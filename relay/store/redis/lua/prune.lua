-- ARGV: now, fence, before when delivered and superseded rows ended, the same of dead and expired ones, the same of attempts that no row shows,
-- the first minute to keep (0: leave them), most, and where a host keeps a history what it has copied: {{seq, digest of the row}, ...}. Then nothing else
-- that ended goes, and of these what is as it was. Answers how many went, the posts whose rows went, how many became claimable, and the rows that went. ``bk`` has, of each row that
-- ever came back from a history file, as what it left again: when it had ended.
if fenced(ARGV[2]) then return redis.error_reply('FENCED') end
local left, posts, gone, keys, shown, ended_of = tonumber(ARGV[7]), {}, {}, {}, {}, {}
local copied = ARGV[8] ~= '' and unpack_(ARGV[8])

local function aged_in(set, bound)
  if not copied then
    local aged = call('ZRANGEBYSCORE', P .. set, '-inf', bound, 'LIMIT', 0, left)
    for at, seq in ipairs(aged) do aged[at] = tonumber(seq) end
    return aged
  end
  local aged = {}
  for _, each_ in ipairs(copied) do
    local ended = call('ZSCORE', P .. set, each_[1])
    if ended and tonumber(ended) <= tonumber(bound) and redis.sha1hex(call('HGET', P .. 'r', each_[1]) or '') == each_[2] then
      aged[#aged + 1] = each_[1]
    end
  end
  return aged
end

for place, set in ipairs({'e0', 'e1'}) do
  local aged = aged_in(set, ARGV[2 + place])
  load(aged)
  for _, seq in ipairs(aged) do
    local row = rows[seq]
    left = left - 1
    zset(set, seq, false)
    if row then
      unblock(row, seq)
      for _, name in ipairs({'all', 'dl', 'ex', 'dr'}) do zset(name, seq, false) end
      if row[@KH] ~= '' then zset('f', ended_member(row, seq), false) end
      if row[@IDEM] ~= '' then keys[#keys + 1] = row[@IDEM] end
      if row[@ALIAS] ~= '' then call('HDEL', P .. 'al', row[@ALIAS]) end
      if row[@STATE] == 4 then call('HDEL', P .. 'sup', seq) end
      if row[@POST] ~= '' then posts[#posts + 1] = row[@POST] end
      for _, attempt in ipairs(row[@ATTS]) do add_to(shown, attempt, -1) end
      count('bytes', -row[@BYTES])
      ended_of[seq] = string.format('%.6f', row[@ENDED])
      rows[seq] = false
      gone[#gone + 1] = seq
    end
  end
end
if gone[1] and call('HLEN', P .. 'bk') > 0 then
  for place, back in ipairs(values('bk', gone)) do
    if back then call('HSET', P .. 'bk', gone[place], ended_of[gone[place]]) end
  end
end
each(gone, 2000, function(...)
  call('HDEL', P .. 'r', ...)
  call('HDEL', P .. 'b', ...)
end)
each(keys, 2000, function(...) call('HDEL', P .. 'dd', ...) end)
for attempt, change in pairs(shown) do  -- by how many rows it is shown
  local blob = call('HGET', P .. 'at', attempt)
  if blob then
    local facts = unpack_(blob)
    facts[@A_ROWS] = facts[@A_ROWS] + change
    call('HSET', P .. 'at', attempt, pack(facts))
    if facts[@A_ROWS] == 0 then zset('loose', attempt, facts[@A_ENDED] or now) end
  end
end
flush()
if left > 0 then
  local old = call('ZRANGEBYSCORE', P .. 'loose', '-inf', ARGV[5], 'LIMIT', 0, left)
  for _, attempt in ipairs(old) do
    local blob = call('HGET', P .. 'at', attempt)
    if blob then
      call('HDEL', P .. 'bm', unpack_(blob)[@A_BATCH])
      call('HDEL', P .. 'ba', unpack_(blob)[@A_BATCH])
    end
  end
  each(old, 2000, function(...)
    call('HDEL', P .. 'at', ...)
    call('ZREM', P .. 'au', ...)
    call('ZREM', P .. 'loose', ...)
  end)
  left = left - #old
end
if left > 0 then  -- slots of others that count nowhere any more
  local old = call('ZRANGEBYSCORE', P .. 'lc', '-inf', ARGV[5], 'LIMIT', 0, left)
  each(old, 2000, function(...)
    call('HDEL', P .. 'ln', ...)
    call('ZREM', P .. 'lc', ...)
  end)
  left = left - #old
end
local first = tonumber(ARGV[6])
if first > 0 then
  local kept = math.huge
  for _, set in ipairs({'min', 'mc'}) do
    for _, minute in ipairs(call('HKEYS', P .. set)) do
      if tonumber(minute) < first then call('HDEL', P .. set, minute) else kept = math.min(kept, tonumber(minute)) end
    end
  end
  if kept < math.huge then call('HSET', P .. 'm', 'first_minute', kept) else call('HDEL', P .. 'm', 'first_minute') end
end
return {tonumber(ARGV[7]) - left, posts, freed, gone}
