-- An account's rate limit: never more requests in any minute than its provider allows, from all workers.
--
-- In one call, all of it optional: note the answers to requests that were reserved, give the rest of them back, pause the
-- account, and reserve more. The value of KEYS[1] is numbers with blanks between them:
--
--   left          how many requests the provider last said are left, less those answered since, and with those that it
--                 had counted and that are a minute old by now
--   left_until    when that is certainly out of date
--   paused_until  when the account may be used again after a 429
--   and for each second, oldest first: the second, the requests answered in it, the requests reserved in it
--
-- Anything else counts as empty.
--
-- Why it holds: a request reaches the provider between its reservation and its answer. Once it is answered it counts from
-- that second on, for a minute and all of the second. Until then it counts with its reservation, which lasts as long as a
-- job may hold one, and as its last request may take, and that minute: also if the job is killed and never says.

local window = 61
-- A reservation may be given back soon: a job reads for four seconds.
local soon = 5

local now = tonumber(ARGV[1])           -- the time; empty: Redis's own, the same for every worker
local per_minute = tonumber(ARGV[2])
local own_second = tonumber(ARGV[3])    -- the second of the reservation to be settled
local own_reserved = tonumber(ARGV[4])  -- and how many it reserved; 0 if there is none
local remaining = tonumber(ARGV[5])     -- what the last answer says is left; empty: nothing
local pause = tonumber(ARGV[6])         -- for how many seconds a 429 stops the account; 0: there was none
local wanted = tonumber(ARGV[7])        -- how many requests to reserve
local held = tonumber(ARGV[8])          -- from a reservation until the answer to its last request, in seconds, at most
local kept = tonumber(ARGV[9])          -- how many requests the caller leaves free for those that matter more
local first_age = 10                    -- the rest: for each answer, in order, how many seconds ago it came

if not now then
  local time = redis.call('TIME')
  now = tonumber(time[1]) + tonumber(time[2]) / 1000000
end

local left, left_until, paused_until = 0, 0, 0
local answered, reserved = {}, {}
local was_set_back = false              -- Redis's clock, since this was written

local function add(counts, second, number)
  counts[second] = (counts[second] or 0) + number
end

local stored = redis.call('GET', KEYS[1]) or ''
if string.match(stored, '^[%d%. -]+$') then
  local numbers, readable = {}, true
  for word in string.gmatch(stored, '%S+') do
    local number = tonumber(word)
    readable = readable and number ~= nil
    numbers[#numbers + 1] = number
  end
  if readable and #numbers % 3 == 0 then
    left, left_until, paused_until = numbers[1], numbers[2], numbers[3]
    if left_until > now + window + 1 then left_until, was_set_back = now + window, true end
    for i = 4, #numbers, 3 do
      -- A second that is yet to come was counted before Redis's clock was set back: it may be of this moment.
      local second = numbers[i]
      if second > now then second, was_set_back = math.floor(now), true end
      if second + window > now then
        add(answered, second, numbers[i + 1])
      else
        -- Whether its minute slides or begins anew, the provider does not count it any more. Without this, a busy account
        -- is left with what remained when the provider was last believed, for a whole minute.
        left = math.min(left + numbers[i + 1], per_minute)
      end
      if second + held + window > now then add(reserved, second, numbers[i + 2]) end
    end
  end
end

-- Settle.
if own_reserved > 0 and reserved[own_second] then
  reserved[own_second] = math.max(reserved[own_second] - own_reserved, 0)
end
local known_since = left_until - window
local is_known = left_until > now
local last_answer = now
for i = first_age, #ARGV do
  last_answer = now - tonumber(ARGV[i])
  add(answered, math.floor(last_answer), 1)
  if last_answer >= known_since then left = left - 1 end
end
if remaining and (not is_known or remaining < left) then
  -- A lower number is used: it includes other apps of the same user, what a restarted Redis forgot, and what other jobs
  -- have not settled yet, which is not to be subtracted again. A higher one may not include our requests that are on
  -- their way.
  left, left_until, is_known = remaining, last_answer + window, last_answer + window > now
end
if pause > 0 then paused_until = math.max(paused_until, now + pause) end

-- Sum up.
local total_answered, total_reserved, seconds, seen = 0, 0, {}, {}
for second, number in pairs(answered) do
  total_answered = total_answered + number
  if number > 0 then seen[second] = true end
end
for second, number in pairs(reserved) do
  total_reserved = total_reserved + number
  if number > 0 then seen[second] = true end
end
for second in pairs(seen) do seconds[#seconds + 1] = second end
table.sort(seconds)

-- Reserve. What the caller keeps free is for others: for requests that cannot wait, which are counted when they are
-- answered, and, if the caller is a sync, for an application's calls.
local room = math.max(per_minute - kept, 1)

local function when_room()
  local counted = total_answered
  for _, second in ipairs(seconds) do
    counted = counted - (answered[second] or 0)
    if counted < room then return second + window end
  end
end

-- What is left by the provider's word grows when what it had counted is a minute old, or its word is out of date.
local function when_left()
  local more = left
  for _, second in ipairs(seconds) do
    more = more + (answered[second] or 0)
    if more > 0 then return math.min(second + window, left_until) end
  end
  return left_until
end

local granted, wait = 0, 0
if wanted > 0 and paused_until > now then
  wait = paused_until - now
elseif wanted > 0 then
  local free = room - total_answered - total_reserved
  if is_known then free = math.min(free, left - total_reserved) end
  granted = math.max(math.min(wanted, free), 0)
  if granted > 0 then
    local second = math.floor(now)
    if not seen[second] then seconds[#seconds + 1] = second end
    add(reserved, second, granted)
  else
    if total_answered >= room then wait = when_room() - now end
    if is_known and left <= 0 then wait = math.max(wait, when_left() - now) end
    if wait == 0 then wait = soon end
  end
end

if granted > 0 or own_reserved > 0 or pause > 0 or #ARGV >= first_age or was_set_back then
  local words = { string.format('%.0f %.3f %.3f', left, left_until, paused_until) }
  for _, second in ipairs(seconds) do
    words[#words + 1] = string.format('%.0f %.0f %.0f', second, answered[second] or 0, reserved[second] or 0)
  end
  local life = math.ceil(held + window + math.max(paused_until - now, 0)) + 1
  redis.call('SET', KEYS[1], table.concat(words, ' '), 'EX', string.format('%.0f', life))
end
return { granted, math.floor(now), math.ceil(wait * 1000) }
