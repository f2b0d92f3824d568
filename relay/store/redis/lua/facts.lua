-- Of each platform in KEYS what it has, does and waits for.
local answers = {}
for place = 1, #KEYS, 2 do
  P = KEYS[place]
  local m = call('HMGET', P .. 'm', 'accepted', 'in_flight', 'staged', 'error')
  local oldest = call('ZRANGE', P .. 'hs', 0, 0, 'WITHSCORES')[2] or ''
  local frozen_since = call('ZRANGE', P .. 'bs', 0, 0, 'WITHSCORES')[2]
  if frozen_since and (oldest == '' or tonumber(frozen_since) < tonumber(oldest)) then oldest = frozen_since end
  for lane = 0, 4 do
    local first = call('ZRANGE', P .. 'h:' .. lane .. ':', 0, 0, 'WITHSCORES')[2]
    if first and (oldest == '' or tonumber(first) < tonumber(oldest)) then oldest = first end
  end
  answers[#answers + 1] = {m[1] or '0', m[2] or '0', call('ZCARD', P .. 'x') + tonumber(m[3] or 0), call('ZCARD', P .. 'hd'), call('ZCARD', P .. 'dl'), oldest, call('HLEN', P .. 'kp'), m[4]}
end
return answers
