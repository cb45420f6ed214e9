-- Asks all counters of a call, and takes from them or from none.
-- KEYS: [1] what is known of the counts; then a budget for each counter.
-- ARGV: [1] the run that serves, if it is known; [2] microseconds for those who remember to object; then for each counter: the window in
--   microseconds, the amount, the most, the number of its group, whether to take, whether forgotten calls matter.
-- Of group 0 all must have room, or nothing is taken; any other group takes if all of its own have.
-- Answer: for each counter its state and a number. 0: it has room; 1: taken, at this time; 2: full, for so many seconds, or
--   -1 for ever; 3: not known for so many seconds.
local MOST_ENTRIES = 1000
local PARTS = 100

local run = run_of(ARGV[1])
local known = redis.call('HMGET', KEYS[1], 'run', 'since', 'born')
if known[1] ~= run then return redis.error_reply('ANEW the counts are served by another process than before') end
local since, born = tonumber(known[2]), tonumber(known[3])

local function seconds(microseconds) return math.ceil(microseconds / 1e6) end

-- Forgets what has left the window.
local function expire(key, budget, window)
  local gone = {}
  while budget.head < budget.tail do
    local time, amount = read_entry(redis.call('HGET', key, budget.head))
    if now - time < window then break end
    budget.sum = subtract(budget.sum, amount)
    gone[#gone + 1] = budget.head
    budget.head = budget.head + 1
  end
  if #gone == 0 then return end
  redis.call('HDEL', key, unpack(gone))
  redis.call('HSET', key, 'head', budget.head, 'sum', write_amount(budget.sum))
end

-- When so much of the oldest has left the window.
local function last_of_oldest(key, budget, excess)
  for number = budget.head, budget.tail - 1 do
    local time, amount = read_entry(redis.call('HGET', key, number))
    if at_most(excess, amount) then return time end
    excess = subtract(excess, amount)
  end
end

-- Makes one entry of those in the same hundredth of the window.
local function join(key, budget, window)
  local numbers = {}
  for number = budget.head, budget.tail - 1 do numbers[#numbers + 1] = number end
  local part = window / PARTS
  local times, amounts = {}, {}
  for _, text in ipairs(redis.call('HMGET', key, unpack(numbers))) do
    local time, amount = read_entry(text)
    if #times > 0 and math.floor(times[#times] / part) == math.floor(time / part) then
      times[#times] = time
      amounts[#times] = add(amounts[#times], amount)
    else
      times[#times + 1] = time
      amounts[#times] = amount
    end
  end
  redis.call('DEL', key)
  for i, time in ipairs(times) do redis.call('HSET', key, i - 1, write_entry(time, amounts[i])) end
  budget.head, budget.tail = 0, #times
end

local function push(key, budget, window, amount)
  if budget.tail - budget.head >= MOST_ENTRIES then join(key, budget, window) end
  local number, entry = budget.tail, nil
  if budget.head < budget.tail and budget.last >= now then
    -- The same moment, or the clock went back: time stands still for this budget.
    number = budget.tail - 1
    local time, before = read_entry(redis.call('HGET', key, number))
    entry = write_entry(time, add(before, amount))
  else
    entry = write_entry(now, amount)
    budget.tail, budget.last = budget.tail + 1, now
  end
  budget.sum = add(budget.sum, amount)
  redis.call('HSET', key, number, entry, 'head', budget.head, 'tail', budget.tail, 'sum', write_amount(budget.sum),
    'last', string.format('%.0f', budget.last))
  redis.call('PEXPIRE', key, math.ceil((budget.last - now + window) / 1000) + 1)
end

local counters, full = {}, {}
for i = 2, #KEYS do
  local first = 3 + (i - 2) * 6
  local counter = {
    key = KEYS[i], window = tonumber(ARGV[first]), amount = read_amount(ARGV[first + 1]), max = read_amount(ARGV[first + 2]),
    group = ARGV[first + 3], state = 0, number = 0,
  }
  local budget = read_budget(counter.key)
  counter.budget = budget
  expire(counter.key, budget, counter.window)
  local counts = at_most({ 0, 0, 1 }, counter.amount)
  counter.takes = counts and ARGV[first + 4] == '1'
  if counts then
    if not at_most(counter.amount, counter.max) then
      counter.state, counter.number = 2, -1
    else
      local spare = subtract(counter.max, counter.amount)
      local unknown = ARGV[first + 5] == '1' and math.max(born + ARGV[2] - now, since > 0 and since + counter.window - now or 0) or 0
      if not at_most(budget.sum, spare) then
        local last = last_of_oldest(counter.key, budget, subtract(budget.sum, spare))
        counter.state, counter.number = 2, seconds(math.max(last + counter.window - now, unknown))
      elseif unknown > 0 then
        counter.state, counter.number = 3, seconds(unknown)
      end
    end
  end
  full[counter.group] = full[counter.group] or counter.state ~= 0
  counters[#counters + 1] = counter
end

local answer = {}
for _, counter in ipairs(counters) do
  if counter.takes and not full['0'] and not full[counter.group] then
    push(counter.key, counter.budget, counter.window, counter.amount)
    counter.state, counter.number = 1, counter.budget.last
  end
  answer[#answer + 1] = counter.state
  answer[#answer + 1] = counter.number
end
return answer
