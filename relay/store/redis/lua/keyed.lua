-- ARGV: now, KH, below, most. Rows of one key: {seq, row, ...}, the newest of what ended first; of what is live up to a thousand.
local kh, below, most = ARGV[2], struct.pack('>I8', ARGV[3] == '+inf' and 2^53 or tonumber(ARGV[3])), ARGV[4]
local members = call('ZRANGEBYLEX', P .. 'f', '[' .. kh .. 'L', '(' .. kh .. 'M', 'LIMIT', 0, 1000)
for _, kind in ipairs({'D', 'E'}) do
  local found = call('ZREVRANGEBYLEX', P .. 'f', '(' .. kh .. kind .. below, '[' .. kh .. kind, 'LIMIT', 0, most)
  for _, member in ipairs(found) do members[#members + 1] = member end
end
local answer = {}
for _, member in ipairs(members) do
  local seq = struct.unpack('>I8', member, #member - 7)
  answer[#answer + 1] = string.format('%.0f', seq)
  answer[#answer + 1] = call('HGET', P .. 'r', seq)
end
return answer
