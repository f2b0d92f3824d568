-- ARGV: now, fence, 1 for unused ones, platform, quota, numbers. Lets lent slots of these limits count from now, or no more. Answers {number, group,
-- from when it would have counted} of each; what is no such slot, or was given back before, is passed over.
if fenced(ARGV[2]) then return redis.error_reply('FENCED') end
local answer = {}
for place = 6, #ARGV do
  local number = ARGV[place]
  local blob = call('HGET', P .. 'ln', number)
  local lent = blob and unpack_(blob)
  if lent and lent[@L_PLATFORM] == ARGV[4] and lent[@L_QUOTA] == ARGV[5] and lent[@L_DONE] == 0 then
    answer[#answer + 1] = {number, lent[@L_GROUP], string.format('%.17g', lent[@L_FROM])}
    if ARGV[3] == '1' then
      call('HDEL', P .. 'ln', number)
      call('ZREM', P .. 'lc', number)
    else
      lent[@L_FROM], lent[@L_DONE] = now, 1
      call('HSET', P .. 'ln', number, pack(lent))
      call('ZADD', P .. 'lc', ARGV[1], number)
    end
  end
end
return answer
