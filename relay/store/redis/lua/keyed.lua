-- ARGV: now, KH, below, most. Rows of one key below a number, of each kind (live, delivered, ended else) the newest: {floor, seq, row, ...}. What is
-- below the floor is not complete and comes with the next part; a floor of 0 says that this is all.
local kh, below, most = ARGV[2], struct.pack('>I8', ARGV[3] == '+inf' and 2^53 or tonumber(ARGV[3])), tonumber(ARGV[4])
local seqs, floor_at = {}, 0
for _, kind in ipairs({'L', 'D', 'E'}) do
  local found = call('ZREVRANGEBYLEX', P .. 'f', '(' .. kh .. kind .. below, '[' .. kh .. kind, 'LIMIT', 0, most)
  for place, member in ipairs(found) do
    local seq = struct.unpack('>I8', member, #member - 7)
    seqs[#seqs + 1] = seq
    if place == most then floor_at = math.max(floor_at, seq) end
  end
end
local answer = {string.format('%.0f', floor_at)}
for _, seq in ipairs(seqs) do
  answer[#answer + 1] = string.format('%.0f', seq)
  answer[#answer + 1] = call('HGET', P .. 'r', seq)
end
return answer
