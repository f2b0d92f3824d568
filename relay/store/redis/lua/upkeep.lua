-- Of each platform in KEYS when its first callback expires, when the first of what ended ended (delivered and superseded; dead and expired; attempts that
-- no row shows; slots of others), the first minute kept, how many bulks are on their way, how many receipts are due, and how many keys are being taken
-- back. Empty: there is none.
local answers = {}
for place = 1, #KEYS, 2 do
  P = KEYS[place]
  local answer = {}
  for at, set in ipairs({'x', 'e0', 'e1', 'loose', 'lc'}) do answer[at] = call('ZRANGE', P .. set, 0, 0, 'WITHSCORES')[2] or '' end
  answer[6] = call('HGET', P .. 'm', 'first_minute') or (call('HLEN', P .. 'min') > 0 and '0' or '')
  answer[7] = call('HLEN', P .. 'stg')
  answer[8] = call('ZCARD', P .. 'rc')
  answer[9] = call('HLEN', P .. 'ck')
  answers[#answers + 1] = answer
end
return answers
