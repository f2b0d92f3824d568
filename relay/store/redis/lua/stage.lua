-- ARGV: now, bulk, whether chunks went before, rows, payload of each. Puts a chunk of a bulk aside, invisible. Answers per row 0, or of what is known
-- under its key the seq, or the id where a spool gave it; {'C', index}; {'B'}.
local bulk, fresh, answer, reserved = ARGV[2], {}, {}, {}
if call('HEXISTS', P .. 'stc', bulk) == 1 or (ARGV[3] == '1' and call('HEXISTS', P .. 'stg', bulk) == 0) then
  return redis.error_reply('GONE')  -- the chunks before were taken back meanwhile
end
local given = unpack_(ARGV[4])
local wrong = unfit(given[1])
if wrong then return wrong end
for place, new in ipairs(given) do
  local idem, known = new[6], false
  if idem ~= '' then
    local other = call('HGET', P .. 'rv', idem)
    if other and other ~= bulk then return {'B'} end
    known = call('HGET', P .. 'dd', idem)
    if known and string.sub(known, 1, 12) ~= new[7] then return {'C', place - 1} end
  end
  answer[place] = known and told(tonumber(string.sub(known, 13))) or 0
  if not known then
    new[23] = ARGV[4 + place]
    fresh[#fresh + 1] = new
    if idem ~= '' then
      reserved[#reserved + 1] = idem
      reserved[#reserved + 1] = bulk
    end
  end
end
each(reserved, 2000, function(...) call('HSET', P .. 'rv', ...) end)
if fresh[1] then call('RPUSH', P .. 'st:' .. bulk, pack(fresh)) end
call('HSET', P .. 'stg', bulk, now)
return answer
