-- ARGV: now, KH, below, most. Rows of one key below a number, of each kind (live, delivered, ended else) the newest: {floor, seq, row, ...}. What is
-- below the floor is not complete and comes with the next part; a floor of 0 says that this is all. Live rows stand by place, which is their number, but
-- for one that took an older one's place (coalesce): that is among the first 128 of its line, so those that are not below the floor come with each part.
local kh, below, most = ARGV[2], struct.pack('>I8', ARGV[3] == '+inf' and 2^53 or tonumber(ARGV[3])), tonumber(ARGV[4])
local seqs, floor_at = {}, 0
for _, kind in ipairs({'L', 'D', 'E'}) do
  local found = call('ZREVRANGEBYLEX', P .. 'f', '(' .. kh .. kind .. below, '[' .. kh .. kind, 'LIMIT', 0, most)
  for place, member in ipairs(found) do
    seqs[#seqs + 1] = struct.unpack('>I8', member, #member - 7)
    if place == most then floor_at = math.max(floor_at, (struct.unpack('>I8', member, #kh + 2))) end
  end
end
for _, seq in ipairs(floor_at > 0 and line_of(kh, 128) or {}) do
  if seq >= floor_at then seqs[#seqs + 1] = seq end
end
local answer = {string.format('%.0f', floor_at)}
for _, seq in ipairs(seqs) do
  answer[#answer + 1] = string.format('%.0f', seq)
  answer[#answer + 1] = call('HGET', P .. 'r', seq)
end
return answer
