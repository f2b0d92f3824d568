-- The leases of a beat, one after the other. Each is looked at, renewed, taken or released, and answered as it is then.
--
-- KEYS   the leases, each a hash: token epoch identity renewed host process successor
-- ARGV   the host's name, its process, then six for each lease:
--        what is wanted, our identity, expected epoch, expected identity, expected renewals, successor
--
-- A take whose answer was lost finds its own identity and counts as a renewal. `token` is what every other script
-- compares; it is empty while the lease is free.

local name, process = ARGV[1], ARGV[2]
local found = {}
for place, key in ipairs(KEYS) do
  local at = 3 + (place - 1) * 6
  local wanted, identity, epoch, holder, count, successor = unpack(ARGV, at, at + 5)
  local lease = redis.call('HMGET', key, 'epoch', 'identity', 'renewed', 'host', 'process', 'successor')
  for field = 1, 6 do lease[field] = lease[field] or '' end
  if lease[1] == '' then lease[1] = '0' end
  if lease[3] == '' then lease[3] = '0' end
  local ours = identity ~= '' and lease[2] == identity
  local as_expected = lease[1] == epoch and lease[2] == holder
  if ours and (wanted == 'renew' or wanted == 'take' or wanted == 'free') then
    lease[3] = tostring(redis.call('HINCRBY', key, 'renewed', 1))
  elseif ours and wanted == 'release' then
    lease = {lease[1], '', '0', lease[4], lease[5], successor}
    redis.call('HSET', key, 'token', '', 'identity', '', 'renewed', 0, 'successor', successor)
  elseif (wanted == 'free' and lease[2] == '' and lease[1] == epoch)
      or (wanted == 'take' and as_expected and lease[3] == count) then
    lease = {string.format('%d', tonumber(lease[1]) + 1), identity, '0', name, process, ''}
    redis.call('HSET', key, 'token', lease[1] .. '.' .. identity, 'epoch', lease[1], 'identity', identity,
      'renewed', 0, 'host', name, 'process', process, 'successor', '')
  end
  found[place] = lease
end
return found
