-- ARGV: now, bulk, whether chunks went before, whether the rows are sealed, of each row with an idempotency key {its place from 0, key, digest}, then
-- chunks as they are kept: rows, each with its payload behind its fields. Puts the chunks of a bulk aside, invisible. Answers of each row that is known
-- {place, seq, or the id where a spool gave it}; {'C', place}; {'B'}.
local bulk, asked, keys = ARGV[2], unpack_(ARGV[5]), {}
if call('HEXISTS', P .. 'stc', bulk) == 1 or (ARGV[3] == '1' and call('HEXISTS', P .. 'stg', bulk) == 0) then
  return redis.error_reply('GONE')  -- the chunks before were taken back meanwhile
end
local wrong = unfit(ARGV[4] == '1')
if wrong then return wrong end

for place, ask in ipairs(asked) do keys[place] = ask[2] end
local held, first = values('rv', keys), values('dd', keys)
local known, answer, reserved = {}, {}, {}
for place, ask in ipairs(asked) do
  if held[place] and held[place] ~= bulk then return {'B'} end
  if first[place] then
    if string.sub(first[place], 1, 12) ~= ask[3] then return {'C', ask[1]} end
    known[ask[1]] = true
    answer[#answer + 1] = {ask[1], told(tonumber(string.sub(first[place], 13)))}
  else
    reserved[#reserved + 1] = ask[2]
    reserved[#reserved + 1] = bulk
  end
end

local function without_known(chunks)
  local kept, place = {}, -1
  for _, chunk in ipairs(chunks) do
    local fresh = {}
    for _, new in ipairs(unpack_(chunk)) do
      place = place + 1
      if not known[place] then fresh[#fresh + 1] = new end
    end
    if fresh[1] then kept[#kept + 1] = pack(fresh) end
  end
  return kept
end

local chunks = {unpack(ARGV, 6)}
if answer[1] then chunks = without_known(chunks) end
each(reserved, 2000, function(...) call('HSET', P .. 'rv', ...) end)
if chunks[1] then call('RPUSH', P .. 'st:' .. bulk, unpack(chunks)) end
call('HSET', P .. 'stg', bulk, now)
return answer
