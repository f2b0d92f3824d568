-- What every script of a platform shares. KEYS[1] is "PREFIX:{PLATFORM}:", which all keys of the platform begin with; KEYS[2] is its lease.
-- An @ with a name stands for the place of a field (see fields.py). A script changes rows and sets in Lua tables; flush() writes them.
local P, LEASE = KEYS[1], KEYS[2]
local call, pack, unpack_, unpack_limit = redis.call, cmsgpack.pack, cmsgpack.unpack, cmsgpack.unpack_limit
local floor, concat = math.floor, table.concat
local now = tonumber(ARGV[1])
local rows, dirty, sets, totals, busied, lanes, promoted, frozen_in, thawed = {}, {}, {}, {}, {}, {}, {}, {}, {}
local freed, moved, noted, due_notes, tell, crossed = 0, 0, 0, {}, nil, nil
local WORDS = {[1] = 'delivered', [2] = 'dead', [3] = 'expired', [4] = 'superseded'}

local function fenced(token)
  return (call('HGET', LEASE, 'token') or '') ~= token
end

-- A platform is sealed from its first callback on; a host without the keys puts nothing beside it. given: whether the rows are sealed.
local function unfit(given)
  local sealed = call('HEXISTS', P .. 'm', 'sealed') == 1
  if given and not sealed then call('HSET', P .. 'm', 'sealed', 1) end
  return sealed and not given and redis.error_reply('PLAIN the store is sealed: give this host the key too, as privacy.encrypt.key')
end

local function each(list, size, act)  -- Lua passes some thousand arguments at most
  for first = 1, #list, size do
    act(unpack(list, first, math.min(first + size - 1, #list)))
  end
end

local function values(hash, fields)  -- what a hash has of these fields, in their order; false where it has none
  local found = {}
  each(fields, 2000, function(...)
    for _, value in ipairs(call('HMGET', P .. hash, ...)) do found[#found + 1] = value end
  end)
  return found
end

-- A row's fields go into its table all at once: one that grows field by field is laid out anew seven times. A row has more than 15, so its array begins
-- with DC and their number in two bytes.
local function all_of(_, ...) return {...} end

local function row_in(blob)
  local high, low = string.byte(blob, 2, 3)
  return all_of(unpack_limit(blob, high * 256 + low, 3))
end

local function load(seqs)
  local missing = {}
  for _, seq in ipairs(seqs) do
    if rows[seq] == nil then missing[#missing + 1] = seq end
  end
  for place, blob in ipairs(values('r', missing)) do rows[missing[place]] = blob and row_in(blob) or false end
end

local function row_of(seq)
  if rows[seq] == nil then load({seq}) end
  return rows[seq]
end

local function told(seq)  -- what its poster was told: the id that a spool gave out, or the seq, which the id follows from
  local row = row_of(seq)
  return row and row[@ALIAS] ~= '' and row[@ALIAS] or seq
end

local function touch(seq) dirty[seq] = true end

local function zset(key, member, score)  -- the last word counts: a score, or false to take it out
  local set = sets[key]
  if not set then
    set = {}
    sets[key] = set
  end
  set[member] = score
end

local function write_set(key, set)
  local add, gone = {}, {}
  for member, score in pairs(set) do
    if score then
      add[#add + 1] = score
      add[#add + 1] = member
    else
      gone[#gone + 1] = member
    end
  end
  if gone[1] and call('EXISTS', P .. key) == 1 then each(gone, 2000, function(...) call('ZREM', P .. key, ...) end) end
  each(add, 2000, function(...) call('ZADD', P .. key, ...) end)
  sets[key] = nil
end

local function count(word, change) totals[word] = (totals[word] or 0) + change end

local function add_to(map, field, change) map[field] = (map[field] or 0) + change end

local function keep_minute()  -- what the totals were before the first change of this minute
  local minute = floor(now / 60)
  if minute > tonumber(call('HGET', P .. 'm', 'minute') or 0) then
    local kept = call('HMGET', P .. 'm', 'accepted', 'delivered', 'dead', 'expired', 'superseded')
    for place = 1, 5 do kept[place] = tonumber(kept[place] or 0) end
    call('HSET', P .. 'min', minute, pack(kept))
    call('HSET', P .. 'm', 'minute', minute)
    call('HSETNX', P .. 'm', 'first_minute', minute)
  end
end

-- The line of a key in the set f: KH L PLACE SEQ of live rows, KH D SEQ of delivered ones, KH E SEQ of what ended otherwise.
local function live_member(row, seq)
  return row[@KH] .. 'L' .. struct.pack('>I8I8', row[@PLACE], seq)
end

local function ended_member(row, seq)
  return row[@KH] .. (row[@STATE] == 1 and 'D' or 'E') .. struct.pack('>I8', seq)
end

local function line_of(kh, most, first)
  local found = call('ZRANGEBYLEX', P .. 'f', '[' .. kh .. 'L', '(' .. kh .. 'M', 'LIMIT', first or 0, most)
  for place, member in ipairs(found) do found[place] = struct.unpack('>I8', member, #member - 7) end
  return found
end

-- The batch a row is frozen in, 0 without one. It stands in a hash of its own, so that a claim changes no row; what the attempt under way
-- changes in a row is written when it is settled.
local function frozen(seq)
  if not frozen_in[seq] then frozen_in[seq] = tonumber(call('HGET', P .. 'fz', seq) or 0) end
  return frozen_in[seq]
end

local function head_member(row, seq)
  local member = string.format('%.0f:%d:%s', seq, row[@BYTES], row[@KH])
  return row[@POINTS] and string.format('%s:%d', member, row[@POINTS]) or member
end

local function withdraw(row, seq)
  if row[@HEAD] > 0 then
    zset('h:' .. (row[@HEAD] - 1) .. ':' .. row[@GROUP], head_member(row, seq), false)
    row[@HEAD] = 0
    touch(seq)
    moved = moved + 1
  end
end

local function waiting_since(row) return math.min(row[@DUE], row[@EXPAT] - row[@EXPS]) end

local function offer(row, seq, lane)
  if row[@HEAD] ~= lane + 1 then withdraw(row, seq) end
  row[@HEAD] = lane + 1
  touch(seq)
  zset('h:' .. lane .. ':' .. row[@GROUP], head_member(row, seq), row[@DUE])
  -- Of a head without a group that was never sent, its place in the lane says since when it waits.
  if row[@GROUP] ~= '' or row[@FIRST] > 0 then zset('hs', seq, waiting_since(row)) end
  if row[@GROUP] ~= '' then zset('g', row[@GROUP], 0) end
  freed = freed + 1
end

local function lane_count(row, change)
  if row[@LANE] ~= 1 then add_to(lanes, row[@KH] .. row[@LANE], change) end
end

local function lanes_cross()  -- whether any key has callbacks of other lanes than the normal one
  if crossed == nil then crossed = call('HLEN', P .. 'kl') > 0 end
  return crossed
end

local function best_lane(row)
  if row[@LANE] == 0 or not lanes_cross() then return row[@LANE] end
  local kh, other, best = row[@KH], 0, nil
  for place, found in ipairs(call('HMGET', P .. 'kl', kh .. '0', kh .. '2', kh .. '3', kh .. '4')) do
    local many = tonumber(found or 0)
    other = other + many
    if many > 0 and not best then best = place == 1 and 0 or place end
  end
  if best == 0 or row[@LANE] == 1 then return best == 0 and 0 or 1 end
  if call('ZLEXCOUNT', P .. 'f', '[' .. kh .. 'L', '(' .. kh .. 'M') > other then return 1 end
  return best
end

local function promote(kh, why)
  local line = line_of(kh, 2)
  if why == 'entered' and rows[line[1]] == nil and not lanes_cross() then return end  -- an older one is the first, and the head
  for place, seq in ipairs(line) do
    local row = row_of(seq)
    if place == 2 then
      withdraw(row, seq)
    else
      local lane = best_lane(row)
      if row[@HEAD] ~= lane + 1 then offer(row, seq, lane) end
    end
  end
end

local function promote_all()  -- the first of each key that is neither under way, blocked, held back nor being taken back
  local khs, stopped, why = {}, {}, promoted
  for kh in pairs(promoted) do khs[#khs + 1] = kh end
  promoted, crossed = {}, nil
  for _, hash in ipairs(khs[1] and {'kb', 'kz', 'kp', 'ck'} or {}) do
    if call('HLEN', P .. hash) > 0 then
      for place, found in ipairs(values(hash, khs)) do
        if found then stopped[khs[place]] = true end
      end
    end
  end
  for _, kh in ipairs(khs) do
    if not stopped[kh] then promote(kh, why[kh]) end
  end
end

local function flush_counts(key, changes)  -- all in three commands: two for each field took longer than the rows
  local fields, kept, gone = {}, {}, {}
  for field, change in pairs(changes) do
    if change ~= 0 then fields[#fields + 1] = field end
  end
  for place, found in ipairs(values(key, fields)) do
    local field = fields[place]
    local left = tonumber(found or 0) + changes[field]
    if left == 0 then
      gone[#gone + 1] = field
    else
      kept[#kept + 1] = field
      kept[#kept + 1] = left
    end
  end
  each(kept, 2000, function(...) call('HSET', P .. key, ...) end)
  each(gone, 2000, function(...) call('HDEL', P .. key, ...) end)
  for field in pairs(changes) do changes[field] = nil end
end

local function write_lines()
  if sets['f'] then write_set('f', sets['f']) end
  flush_counts('kl', lanes)
  flush_counts('kb', busied)
  each(thawed, 2000, function(...) call('HDEL', P .. 'fz', ...) end)
  thawed = {}
end

local function write_totals()
  if next(totals) then
    keep_minute()
    for word, change in pairs(totals) do call('HINCRBY', P .. 'm', word, change) end
    totals = {}
  end
end

-- Receipts: what ended, or is held from now on, is noted in ``rc`` by number; a host queues the receipts from there. ``tell`` says which are wanted.
local function note_end(row, seq, word)
  if not tell then tell = call('HGET', P .. 'm', 'tell') or '' end
  if string.find(tell, word, 1, true) then
    due_notes[#due_notes + 1] = {seq, word, row[@ENDED], row[@REASON], row[@CODE], row[@ATTEMPTS], row[@MAYBE]}
  end
end

local function write_notes()
  local many = #due_notes
  if many == 0 then return end
  local last = call('HINCRBY', P .. 'm', 'noted', many)
  for place, note in ipairs(due_notes) do
    local row = rows[note[1]]
    if note[3] == 0 then note[3] = now end
    for _, field in ipairs({row[@KEY], row[@EVENT], row[@TRACE], row[@REF] or false, row[@IKEY] or false, row[@ALIAS] or ''}) do
      note[#note + 1] = field
    end
    local number = last - many + place
    call('ZADD', P .. 'rc', number, pack({number, note}))
  end
  noted, due_notes = noted + many, {}
end

local function flush()
  write_lines()
  write_notes()
  promote_all()
  for key, set in pairs(sets) do write_set(key, set) end
  local saved = {}
  for seq in pairs(dirty) do
    if rows[seq] then
      saved[#saved + 1] = seq
      saved[#saved + 1] = pack(rows[seq])
    end
  end
  dirty = {}
  each(saved, 2000, function(...) call('HSET', P .. 'r', ...) end)
  if moved > 0 then call('HINCRBY', P .. 'm', 'moved', moved) end  -- what a claim was shown may be wrong now
  moved = 0
  write_totals()
end

local function enter(row, seq)  -- a pending row takes its place
  touch(seq)
  zset('x', seq, row[@EXPAT])
  if row[@KH] == '' then return offer(row, seq, row[@LANE]) end
  zset('f', live_member(row, seq), 0)
  lane_count(row, 1)
  promoted[row[@KH]] = promoted[row[@KH]] or 'entered'
end

local function freeze(row, seq, number)  -- a frozen row goes on into another batch
  row[@BATCH] = number
  call('HSET', P .. 'fz', seq, number)
  frozen_in[seq] = number
  touch(seq)
end

local function attempted(row, seq, number, attempt_id, started_at)  -- what an attempt that is over changed in a row
  row[@ATTEMPTS], row[@BATCH], row[@HEAD] = row[@ATTEMPTS] + 1, number, 0
  if row[@FIRST] == 0 then row[@FIRST] = started_at end
  row[@ATTS][#row[@ATTS] + 1] = attempt_id
  frozen_in[seq] = number
  touch(seq)
end

local function thaw(seq)
  if frozen(seq) > 0 then
    thawed[#thawed + 1] = seq
    frozen_in[seq] = 0
  end
end

local function leave(row, seq)
  withdraw(row, seq)
  zset('hs', seq, false)
  zset('lt', seq, false)
  if row[@KH] ~= '' then
    zset('f', live_member(row, seq), false)
    lane_count(row, -1)
    if frozen(seq) > 0 or row[@HELD] == 1 then add_to(busied, row[@KH], -1) end
    promoted[row[@KH]] = true
  end
  if row[@HELD] == 1 then zset('hd', seq, false) end
  row[@HELD] = 0
  thaw(seq)
  touch(seq)
end

local function close(row, seq, state, reason, blocks)
  row[@STATE], row[@REASON], row[@ENDED] = state, reason, now
  if state == 1 then row[@MESSAGE], row[@CODE], row[@MAYBE] = '', false, 0 end
  zset('x', seq, false)
  zset((state == 1 or state == 4) and 'e0' or 'e1', seq, now)
  if state == 2 then zset('dl', seq, seq) elseif state == 3 then zset('ex', seq, seq) end
  if row[@KH] ~= '' then
    zset('f', ended_member(row, seq), 0)
    if blocks then
      row[@BLOCK] = 1
      call('HINCRBY', P .. 'kz', row[@KH], 1)
    end
  end
  touch(seq)
  note_end(row, seq, tostring(state))
  count(WORDS[state], 1)
end

local function finish(row, seq, state, reason, blocks)
  leave(row, seq)
  close(row, seq, state, reason, blocks)
end

local function unblock(row, seq)
  if row[@BLOCK] == 1 then
    row[@BLOCK] = 0
    local left = tonumber(call('HGET', P .. 'kz', row[@KH]) or 0)  -- none after the rule was taken back
    if left > 1 then call('HSET', P .. 'kz', row[@KH], left - 1) else call('HDEL', P .. 'kz', row[@KH]) end
    promoted[row[@KH]] = true
    touch(seq)
  end
end

local function requeue(row, seq, due, lane)
  leave(row, seq)
  row[@DUE], row[@LANE] = due, lane
  enter(row, seq)
  zset('hs', seq, waiting_since(row))
  if due > now then zset('lt', seq, due) end
end

-- Frozen batches. ``rs:GROUP`` holds those that wait for their re-send, ``rp:GROUP`` the parts of a split, which go first.
local function batch_of(number)
  local blob = call('HGET', P .. 'bt', number)
  return blob and unpack_(blob)
end

local function save_batch(number, batch) call('HSET', P .. 'bt', number, pack(batch)) end

local function queue_of(batch) return (batch[@B_PART] == 1 and 'rp:' or 'rs:') .. batch[@B_GROUP] end

local function wait_again(number, batch, due)
  batch[@B_EXPAT] = batch[@B_CONFIRM] == 1 and math.huge or 0  -- a read-back is asked whatever the time
  for _, seq in ipairs(batch[@B_SEQS]) do
    if row_of(seq)[@EXPAT] > batch[@B_EXPAT] then batch[@B_EXPAT] = rows[seq][@EXPAT] end
  end
  batch[@B_STATE], batch[@B_ATTEMPT], batch[@B_DUE] = 0, 0, due
  save_batch(number, batch)
  zset(queue_of(batch), number, due)
  zset('bw', number, due)
  if batch[@B_GROUP] ~= '' then zset('g', batch[@B_GROUP], 0) end
end

local function drop_batch(number, batch)
  call('HDEL', P .. 'bt', number)
  if batch[@B_ATTEMPTS] > 0 then call('HSET', P .. 'bm', number, pack(batch[@B_SEQS])) end  -- as long as an attempt is kept
  zset(queue_of(batch), number, false)
  zset('bw', number, false)
  zset('bs', number, false)
end

local function freeze_batch(number, group, seqs, root, part, confirm)
  local since = math.huge
  for _, seq in ipairs(seqs) do
    local row = row_of(seq)
    freeze(row, seq, number)
    since = math.min(since, waiting_since(row))
  end
  zset('bs', number, since)
  return {group, now, root, 0, 0, 0, now, 0, confirm, part, seqs}
end

local function let_go(number)  -- operations look again at what they left in this batch
  local waiting = call('HGET', P .. 'aw', number)
  if not waiting then return 0 end
  call('HDEL', P .. 'aw', number)
  for operation in string.gmatch(waiting, '%d+') do
    local found, at = call('HGETALL', P .. 'opw:' .. operation), nil
    for place = 1, #found, 2 do
      if tonumber(found[place + 1]) == tonumber(number) then
        call('HDEL', P .. 'opw:' .. operation, found[place])
        call('RPUSH', P .. 'ops:' .. operation, found[place])
      end
    end
  end
  return 1
end

local function forget_question(attempt_id, batch, at)  -- no callback shows it, so nothing else would let it go
  if not batch[@B_SEQS][1] then zset('loose', attempt_id, at) end
end
