-- ARGV: now, platform, numbers, rows, payload of each. Queues the receipts of a platform's notes, in the order of their numbers; what was queued
-- before is passed over. Answers freed.
local queued, numbers = tonumber(call('HGET', P .. 'rcq', ARGV[2]) or 0), unpack_(ARGV[3])
local given = unpack_(ARGV[4])
local wrong = unfit(given[1][22])
if wrong then return wrong end
for place, new in ipairs(given) do
  if numbers[place] > queued then
    add(new, ARGV[4 + place], nil, '')
    queued = numbers[place]
  end
end
call('HSET', P .. 'rcq', ARGV[2], queued)
write_added()
flush()
return freed
