-- Of each platform in KEYS its durable totals, and what is pending counted from the queue itself and from accepted bulks not yet placed.
local answers = {}
for place = 1, #KEYS, 2 do
  P = KEYS[place]
  local found = call('HMGET', P .. 'm', 'accepted', 'delivered', 'dead', 'expired', 'superseded', 'staged')
  found[6] = call('ZCARD', P .. 'x') + tonumber(found[6] or 0)
  answers[#answers + 1] = found
end
return answers
