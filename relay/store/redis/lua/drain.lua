-- ARGV: now, coalesce, rows, payload of each. Takes in rows that were answered 202 by a host's spool: each once, known by its alias, the id that
-- was given out there. One whose idempotency key was accepted elsewhere meanwhile ends superseded by that first one; with another body, dead.
-- Answers freed and the seqs; {'B'}, with nothing done, where a bulk that is not in the queue yet holds one of the keys.
local given = unpack_(ARGV[3])
local wrong = unfit(given[1][22])
if wrong then return wrong end

local function known_under(idem)
  return idem ~= '' and call('HGET', P .. 'dd', idem)
end

for _, new in ipairs(given) do
  local idem, first, maybe = new[6], new[18], new[19] == 'maybe'
  if call('HEXISTS', P .. 'al', new[16]) == 0 then
    if idem ~= '' and call('HEXISTS', P .. 'rv', idem) == 1 then return {'B'} end
    if maybe and first and not known_under(idem) and not row_of(tonumber(first)) and call('HLEN', P .. 'stg') > 0 then return {'B'} end
  end
end

local mine, seqs = {}, {}
for place, new in ipairs(given) do
  local alias, idem, digest, first, conflict = new[16], new[6], new[7], new[18], new[19]
  local seq = call('HGET', P .. 'al', alias)
  local maybe = conflict == 'maybe'  -- this host had sent it and saw no answer: what lies here under its key is itself
  if maybe then conflict = false end
  if not seq then
    local known = mine[idem] or known_under(idem)
    conflict = conflict or (known and string.sub(known, 1, 12) ~= digest)
    if maybe and not conflict and (known or first) then
      seq = known and string.sub(known, 13) or string.format('%.0f', first)
      call('HSET', P .. 'al', alias, seq)
      local row = row_of(tonumber(seq))
      if row and row[@ALIAS] == '' then  -- nobody was told another id
        row[@ALIAS] = alias
        touch(tonumber(seq))
      end
    end
    if not seq then
      if known or first or conflict then new[6] = '' end
      if conflict then new[12] = 'idempotency_conflict' end
      local stands_for = not conflict and (known and tonumber(string.sub(known, 13)) or first and 0) or nil
      seq = add(new, ARGV[3 + place], nil, ARGV[2], stands_for)
      if stands_for == 0 then
        rows[seq][@SUPER] = seq  -- elsewhere: ``sup`` has its id
        call('HSET', P .. 'sup', seq, first)
      end
      if new[6] ~= '' then mine[idem] = digest .. string.format('%.0f', seq) end
      call('HSET', P .. 'al', alias, string.format('%.0f', seq))
    end
  end
  seqs[place] = tonumber(seq)
end
write_added()
flush()
return {freed, seqs, noted}
