-- ARGV: now, after, most. The next groups that have something, in order of their names: {group, head_at, resend_at, ...}, and the last one looked
-- at. Groups without anything are taken off the list. The group '' stands before all others.
local after, most = ARGV[2], tonumber(ARGV[3])
local names, answer = {}, {}
if after == '-' then
  names[1] = ''
  for _, name in ipairs(call('ZRANGEBYLEX', P .. 'g', '-', '+', 'LIMIT', 0, most)) do names[#names + 1] = name end
else
  names = call('ZRANGEBYLEX', P .. 'g', '(' .. after, '+', 'LIMIT', 0, most)
end
for _, name in ipairs(names) do
  local head_at, resend_at, any = math.huge, math.huge, false
  for lane = 0, 4 do
    local first = call('ZRANGE', P .. 'h:' .. lane .. ':' .. name, 0, 0, 'WITHSCORES')[2]
    if first then
      any = true
      head_at = math.min(head_at, tonumber(first))
    end
  end
  for _, queue in ipairs({'rp:', 'rs:'}) do
    local found = call('ZRANGE', P .. queue .. name, 0, 99, 'WITHSCORES')
    if found[1] then any = true end
    for place = 1, #found, 2 do
      if batch_of(found[place])[@B_EXPAT] > now then
        resend_at = math.min(resend_at, tonumber(found[place + 1]))
        break
      end
    end
  end
  if head_at < math.huge or resend_at < math.huge then
    answer[#answer + 1] = {name, string.format('%.17g', head_at), string.format('%.17g', resend_at)}
  elseif not any and name ~= '' then
    call('ZREM', P .. 'g', name)
  end
end
return {answer, #names >= most and names[#names] or false}
