-- ARGV: now, set, below, most. Rows in the order of a set, the newest first: {seq, row, ...}.
local found = call('ZREVRANGEBYSCORE', P .. ARGV[2], '(' .. ARGV[3], '-inf', 'LIMIT', 0, ARGV[4])
if not found[1] then return {} end
local answer, blobs = {}, call('HMGET', P .. 'r', unpack(found))
for place, seq in ipairs(found) do
  answer[#answer + 1] = seq
  answer[#answer + 1] = blobs[place]
end
return answer
