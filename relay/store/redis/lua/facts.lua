-- What a platform has, does and waits for.
local m = call('HMGET', P .. 'm', 'accepted', 'in_flight', 'staged', 'error')
local oldest = call('ZRANGE', P .. 'hs', 0, 0, 'WITHSCORES')[2] or ''
return {m[1] or '0', m[2] or '0', call('ZCARD', P .. 'x') + tonumber(m[3] or 0), call('ZCARD', P .. 'hd'), call('ZCARD', P .. 'dl'), oldest, m[4]}
