-- What a beat says to all hosts: the heart of this one, and perhaps another topology. Answers both as they are then.
--
-- KEYS   hosts (a hash: name -> process, then what the host says of itself, then when on the server's clock)
--        topology (a hash: generation, digest, by)
-- ARGV   the host's name, its process, the process it replaces,
--        'look' | 'beat' | 'leave', the heart (JSON),
--        the generation to replace or '', the digest to put in force
--
-- A host that was not heard for a day is forgotten.
-- A heart is written over one's own, over that of the process it replaces, or where there is none; never over another's.

local name, process, replaces, saying, heart, generation, digest = unpack(ARGV, 1, 7)
local clock = redis.call('TIME')
local now = tonumber(clock[1]) + tonumber(clock[2]) / 1e6
local held = redis.call('HGET', KEYS[1], name)
local holder = held and string.match(held, '^[^\n]*')
if not holder or holder == process or holder == replaces then
  if saying == 'leave' then
    redis.call('HDEL', KEYS[1], name)
  elseif saying == 'beat' then
    redis.call('HSET', KEYS[1], name, process .. '\n' .. heart .. '\n' .. string.format('%.6f', now))
  end
end
local topology = redis.call('HMGET', KEYS[2], 'generation', 'digest', 'by')
if generation ~= '' and (topology[1] or '0') == generation then
  topology = {string.format('%d', tonumber(generation) + 1), digest, name}
  redis.call('HSET', KEYS[2], 'generation', topology[1], 'digest', digest, 'by', name)
end
local listed = {}
local hosts = redis.call('HGETALL', KEYS[1])
for place = 1, #hosts, 2 do
  local rest, at = string.match(hosts[place + 1], '^[^\n]*\n(.*)\n([^\n]*)$')
  if now - tonumber(at) > 86400 then
    redis.call('HDEL', KEYS[1], hosts[place])
  else
    listed[#listed + 1] = {rest, string.format('%.3f', now - tonumber(at))}
  end
end
return {topology[1] or '0', topology[2] or '', topology[3] or '', string.format('%.6f', now), listed}
