-- ARGV: now, seq ('' for a key), KH. Ends what is in no frozen batch, all or nothing. Answers why not ('' when it did), freed, the seqs or spools' ids,
-- and how many receipts are due.
local found = {}
if ARGV[2] ~= '' then
  local row = row_of(tonumber(ARGV[2]))
  if not row then return {'unknown', 0, {}, 0} end
  if row[@STATE] ~= 0 then return {'final', 0, {}, 0} end
  found = {tonumber(ARGV[2])}
else
  found = line_of(ARGV[3], 10000)
  load(found)
end
for _, seq in ipairs(found) do
  if frozen(seq) > 0 then return {'in_flight', 0, {}, 0} end
end
local answer = {}
for place, seq in ipairs(found) do
  finish(row_of(seq), seq, 4, 'cancelled', false)
  answer[place] = told(seq)
end
flush()
return {'', freed, answer, noted}
