-- ARGV: now, coalesce, posts, payload of each row. A post is a list of rows, accepted all or none. Answers freed, for each post its seqs (negative: known
-- before, or the id where a spool gave it), {'C', index} for another body under a known key, or {'B'} where a key is being staged elsewhere; and how
-- many receipts are due. Or {'N'}: a number that rows were sealed for, on a guess (negative), is not above all others.
local coalesce, posts = ARGV[2], unpack_(ARGV[3])
local wrong = unfit(posts[1][1][22])
if wrong then return wrong end
local guessed = last
for _, post in ipairs(posts) do
  for _, new in ipairs(post) do
    if new[22] and new[22] < 0 then
      new[22] = -new[22]
      if new[22] <= last then return {'N'} end
      guessed = math.max(guessed, new[22])
    end
  end
end
last = guessed
local staging = call('HLEN', P .. 'rv') > 0
local accepted, answers, body, asked = {}, {}, 3, {}
for _, post in ipairs(posts) do
  for _, new in ipairs(post) do
    if new[6] ~= '' then asked[#asked + 1] = new[6] end
  end
end
for place, found in ipairs(values('dd', asked)) do accepted[asked[place]] = found end

for index, post in ipairs(posts) do
  local known, answer, mine, bodies_at = {}, nil, {}, body
  body = body + #post
  for place, new in ipairs(post) do
    local idem, digest = new[6], new[7]
    if idem ~= '' then
      local found = accepted[idem]
      local earlier = found or mine[idem]
      if staging and call('HEXISTS', P .. 'rv', idem) == 1 then
        answer = {'B'}
      elseif earlier and string.sub(earlier, 1, 12) ~= digest then
        answer = {'C', place - 1}
      end
      if answer then break end
      if found then known[place] = tonumber(string.sub(found, 13)) else mine[idem] = digest end
    end
  end
  if not answer then
    answer = {}
    local seqs = {}
    for place, new in ipairs(post) do
      local idem = new[6]
      if known[place] then
        local id = told(known[place])
        answer[place] = type(id) == 'number' and -id or id
      elseif seqs[idem] then
        answer[place] = -seqs[idem]
      else
        answer[place] = add(new, ARGV[bodies_at + place], nil, coalesce)
        if idem ~= '' then
          seqs[idem] = answer[place]
          accepted[idem] = new[7] .. string.format('%.0f', answer[place])
        end
      end
    end
  end
  answers[index] = answer
end
write_added()
flush()
return {freed, answers, noted}
