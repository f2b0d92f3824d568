-- ARGV: now, KH, most, 1 to begin ('' to go on). Ends all that is pending of a key, or nothing of it when some is in a frozen batch. Many take several
-- steps: from the first one on the key stands in ``ck`` with the last seq that is meant, and nothing of it can be claimed until the last step.
-- Answers as cancel.lua, and whether there is more; 'gone' where there is nothing to go on with.
local kh, most = ARGV[2], tonumber(ARGV[3])

local function in_flight()  -- ``kb`` counts what is frozen or held
  local busy, first = tonumber(call('HGET', P .. 'kb', kh) or 0), 0
  while busy > 0 do
    local line = line_of(kh, most, first)
    if not line[1] then return false end
    load(line)
    for _, seq in ipairs(line) do
      if frozen(seq) > 0 then return true end
      if rows[seq][@HELD] == 1 then busy = busy - 1 end
    end
    first = first + most
  end
  return false
end

local kept = call('HGET', P .. 'ck', kh)
local last = kept and unpack_(kept)[1]
if not last then
  if ARGV[4] ~= '1' then return {'gone', 0, {}, 0, 0} end
  if in_flight() then return {'in_flight', 0, {}, 0, 0} end
  last = 2^53
end
local answer, more = {}, 0
local line = line_of(kh, most + 1)
load(line)
for _, seq in ipairs(line) do
  if seq <= last and frozen(seq) == 0 then
    if #answer == most then
      more = 1
      break
    end
    finish(rows[seq], seq, 4, 'cancelled', false)
    answer[#answer + 1] = told(seq)
  end
end
if more == 0 then
  if kept then call('HDEL', P .. 'ck', kh) end
  promoted[kh] = true
elseif not kept then
  call('HSET', P .. 'ck', kh, pack({tonumber(call('HGET', P .. 'm', 'seq') or 0), now}))
end
flush()
return {'', freed, answer, noted, more}
