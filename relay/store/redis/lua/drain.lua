-- ARGV: now, coalesce, rows, payload of each. Takes in rows that were answered 202 by a host's spool: each once, known by its alias, the id that
-- was given out there. One whose idempotency key was accepted elsewhere meanwhile ends superseded by that first one; with another body, dead.
local mine, seqs = {}, {}
for place, new in ipairs(unpack_(ARGV[3])) do
  local alias, idem, digest, first, conflict = new[16], new[6], new[7], new[18], new[19]
  local seq = call('HGET', P .. 'al', alias)
  local maybe = conflict == 'maybe'  -- this host had sent it and saw no answer: what lies here under its key is itself
  if maybe then conflict = false end
  if not seq then
    if idem ~= '' and call('HEXISTS', P .. 'rv', idem) == 1 then return {'B'} end
    local known = idem ~= '' and (mine[idem] or call('HGET', P .. 'dd', idem))
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
  end
  if not seq then
    local known = idem ~= '' and (mine[idem] or call('HGET', P .. 'dd', idem))
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
  seqs[place] = tonumber(seq)
end
write_added()
flush()
return {freed, seqs}
