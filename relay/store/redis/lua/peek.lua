-- ARGV: now, group, most. Answers per lane what is due as {member, due, ...}, the frozen batch to send next or 0, when the first frozen batch is
-- due, when the first callback is due later, and whether other groups have anything.
local group, most = ARGV[2], tonumber(ARGV[3])
local answer, later = {}, {}
for lane = 0, 4 do
  local key = P .. 'h:' .. lane .. ':' .. group
  answer[lane + 1] = call('ZRANGEBYSCORE', key, '-inf', now, 'WITHSCORES', 'LIMIT', 0, most)
  later[#later + 1] = call('ZRANGEBYSCORE', key, '(' .. ARGV[1], '+inf', 'WITHSCORES', 'LIMIT', 0, 1)[2] or ''
end
local resend, resend_at = 0, ''
for _, queue in ipairs({'rp:', 'rs:'}) do
  local found = call('ZRANGE', P .. queue .. group, 0, 99, 'WITHSCORES')
  for place = 1, #found, 2 do
    local batch = batch_of(found[place])
    if batch[@B_EXPAT] > now then
      local due = tonumber(found[place + 1])
      if resend == 0 and due <= now then resend = tonumber(found[place]) end
      if resend_at == '' or due < tonumber(resend_at) then resend_at = found[place + 1] end
      break
    end
  end
end
local others = call('ZCARD', P .. 'g')
answer[6], answer[7], answer[8], answer[9], answer[10] = resend, resend_at, later, others, call('HGET', P .. 'm', 'moved') or ''
return answer
