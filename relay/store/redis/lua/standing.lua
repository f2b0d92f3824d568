-- Of each platform in KEYS its durable totals, and what it has, does and waits for. Pending is counted from the queue itself and from accepted bulks
-- not yet placed. A platform with nothing to do costs four calls, so an idle host asks for hundreds at once.
local answers = {}
for place = 1, #KEYS, 2 do
  P = KEYS[place]
  local answer = call('HMGET', P .. 'm', 'accepted', 'delivered', 'dead', 'expired', 'superseded', 'in_flight', 'error', 'staged')
  local queued, oldest = call('ZCARD', P .. 'x'), ''
  if queued > 0 then
    local found = {call('ZRANGE', P .. 'hs', 0, 0, 'WITHSCORES')[2] or false, call('ZRANGE', P .. 'bs', 0, 0, 'WITHSCORES')[2] or false}
    for lane = 0, 4 do found[lane + 3] = call('ZRANGE', P .. 'h:' .. lane .. ':', 0, 0, 'WITHSCORES')[2] or false end
    for _, first in ipairs(found) do
      if first and (oldest == '' or tonumber(first) < tonumber(oldest)) then oldest = first end
    end
  end
  answer[8] = queued + tonumber(answer[8] or 0)
  answer[9], answer[10], answer[11] = queued > 0 and call('ZCARD', P .. 'hd') or 0, call('ZCARD', P .. 'dl'), call('HLEN', P .. 'kp')
  answer[12] = oldest
  answers[#answers + 1] = answer
end
return answers
