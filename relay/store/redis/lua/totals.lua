-- The durable totals, and what is pending counted from the queue itself and from accepted bulks not yet placed.
local found = call('HMGET', P .. 'm', 'accepted', 'delivered', 'dead', 'expired', 'superseded', 'staged')
found[6] = call('ZCARD', P .. 'x') + tonumber(found[6] or 0)
return found
