-- Gives back what a call took. KEYS: [1] what is known of the counts; then the budgets. ARGV: [1] the run that serves, if it is known;
-- then for each: the window in microseconds, the amount, the time at which it was taken.
local run = run_of(ARGV[1])
local known = redis.call('HMGET', KEYS[1], 'run', 'since', 'born')
if known[1] ~= run then return 0 end

-- The first entry that is not older: the one that holds the call.
local function entry_of(key, budget, at)
  local from, to = budget.head, budget.tail
  while from < to do
    local middle = math.floor((from + to) / 2)
    if read_entry(redis.call('HGET', key, middle)) < at then from = middle + 1 else to = middle end
  end
  return from
end

for i = 2, #KEYS do
  local key, first = KEYS[i], 2 + (i - 2) * 3
  local window, amount, at = tonumber(ARGV[first]), read_amount(ARGV[first + 1]), tonumber(ARGV[first + 2])
  local budget = read_budget(key)
  local number = entry_of(key, budget, at)
  -- Counts that began later do not hold it.
  if now - at < window and at >= tonumber(known[2]) and at >= tonumber(known[3]) and number < budget.tail then
    local time, held = read_entry(redis.call('HGET', key, number))
    if at_most(amount, held) then
      redis.call('HSET', key, number, write_entry(time, subtract(held, amount)), 'sum', write_amount(subtract(budget.sum, amount)))
    end
  end
end
return 1
