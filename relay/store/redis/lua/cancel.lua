-- ARGV: now, seq. Ends a callback that is in no frozen batch. Answers why not ('' when it did), freed, the seq or the spool's id, and how many receipts
-- are due.
local seq = tonumber(ARGV[2])
local row = row_of(seq)
if not row then return {'unknown', 0, {}, 0} end
if row[@STATE] ~= 0 then return {'final', 0, {}, 0} end
if frozen(seq) > 0 then return {'in_flight', 0, {}, 0} end
finish(row, seq, 4, 'cancelled', false)
local answer = {told(seq)}
flush()
return {'', freed, answer, noted}
