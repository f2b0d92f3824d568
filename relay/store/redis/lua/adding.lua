-- Puts accepted rows into the platform; shared by accept and by what was staged.
local last = tonumber(call('HGET', P .. 'm', 'seq') or 0)
local bodies, keys = {}, {}

-- coalesce: '' for none, '1', or the seconds of quiet and the most of them: '5.0 30.0'.
local function add(new, body, given, coalesce, stands_for)
  local seq = given or new[22]
  if not seq then
    last = math.max(last + 1, floor(now * 1e6))
    seq = last
  end
  local key, kh, event, lane, expires, idem, digest, ctype, trace, group, bytes, reason, post, ref, delay = unpack(new, 1, 15)
  local came = now - (new[17] or 0)  -- a post that waited in a spool came before
  local row = {key, kh, event, lane, lane, group, ctype, trace, idem, post, bytes, came, expires, came + delay + expires, came + delay, seq,
    0, 0, 0, 0, 0, 0, 0, 0, 0, '', '', false, 0, {}, 0, 0, ref, 0, new[16] or '', new[20] or false, new[21] or false, new[22] and 1 or 0}
  rows[seq] = row
  zset('all', seq, seq)
  bodies[#bodies + 1] = seq
  bodies[#bodies + 1] = body
  if idem ~= '' then
    keys[#keys + 1] = idem
    keys[#keys + 1] = digest .. string.format('%.0f', seq)
  end
  if not given then count('accepted', 1) end
  count('bytes', bytes)
  if stands_for then
    row[@SUPER] = stands_for
    close(row, seq, 4, 'repeated', false)
    return seq
  end
  if reason then
    close(row, seq, 2, reason, false)
    return seq
  end
  if coalesce ~= '' and kh ~= '' then
    write_lines()
    local place, since = nil, now
    for _, older in ipairs(line_of(kh, 128)) do
      local old = row_of(older)
      if frozen(older) == 0 and old[@HELD] == 0 then
        if not place then
          place = old
          row[@PLACE], row[@DUE] = old[@PLACE], delay > 0 and row[@DUE] or math.min(now, old[@DUE])
        end
        local first = old[@SINCE] or 0
        since = math.min(since, first > 0 and first or old[@ACC])
        row[@LANE] = math.min(row[@LANE], old[@LANE])
        old[@SUPER] = seq
        finish(old, older, 4, 'coalesced', false)
      end
    end
    local quiet, most = string.match(coalesce, '^(%S+) (%S+)$')
    if quiet then  -- it waits until its key was quiet, at most so long from the first that it stands for
      row[@SINCE] = since
      row[@DUE] = math.max(math.min(now + tonumber(quiet), since + tonumber(most)), now + delay)
    end
  end
  enter(row, seq)
  return seq
end

local function write_added()
  each(bodies, 2000, function(...) call('HSET', P .. 'b', ...) end)
  each(keys, 2000, function(...) call('HSET', P .. 'dd', ...) end)
  call('HSET', P .. 'm', 'seq', last)
end
