-- ARGV: now, count. Reserves numbers for rows that are sealed before they are accepted. Answers the first.
local first = math.max(tonumber(call('HGET', P .. 'm', 'seq') or 0) + 1, floor(now * 1e6))
call('HSET', P .. 'm', 'seq', first + tonumber(ARGV[2]) - 1)
return first
