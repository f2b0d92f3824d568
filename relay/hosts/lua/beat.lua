-- A whole beat in one script, where all keys lie on one server: an idle host then sends one command in 3 s.
--
-- `hosts` and `leases` stand before this, each as a function of its keys and arguments.
--
-- KEYS   the two of hosts.lua, then those of leases.lua
-- ARGV   the seven of hosts.lua, then those of leases.lua

local lease_keys, lease_words = {}, {}
for place = 3, #KEYS do lease_keys[#lease_keys + 1] = KEYS[place] end
for place = 8, #ARGV do lease_words[#lease_words + 1] = ARGV[place] end
return {hosts({KEYS[1], KEYS[2]}, ARGV), leases(lease_keys, lease_words)}
