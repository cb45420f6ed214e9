-- Amounts: a whole number of units, and 18 decimals in two groups of nine, since a Lua number holds 53 bits exactly. As text
-- "5", or "5.250000000.000000000". No amount and no sum of a counter is over 2^53 units, for no `max` is.
local function read_amount(text)
  local whole = tonumber(text)
  if whole then return { whole, 0, 0 } end
  local w, a, b = string.match(text, '^(%d+)%.(%d+)%.(%d+)$')
  return { tonumber(w), tonumber(a), tonumber(b) }
end

local function write_amount(n)
  if n[2] == 0 and n[3] == 0 then return string.format('%.0f', n[1]) end
  return string.format('%.0f.%09.0f.%09.0f', n[1], n[2], n[3])
end

local function add(x, y)
  local w, a, b = x[1] + y[1], x[2] + y[2], x[3] + y[3]
  if b >= 1e9 then a, b = a + 1, b - 1e9 end
  if a >= 1e9 then w, a = w + 1, a - 1e9 end
  return { w, a, b }
end

-- x - y, where y is not more.
local function subtract(x, y)
  local w, a, b = x[1] - y[1], x[2] - y[2], x[3] - y[3]
  if b < 0 then a, b = a - 1, b + 1e9 end
  if a < 0 then w, a = w - 1, a + 1e9 end
  return { w, a, b }
end

local function at_most(x, y)
  if x[1] ~= y[1] then return x[1] < y[1] end
  if x[2] ~= y[2] then return x[2] < y[2] end
  return x[3] <= y[3]
end

-- A budget is a hash: the entries by number from `head` up to `tail`, each the time of its last call and an amount; their `sum`; and
-- `last`, the time of the latest. Times are microseconds. Calls of one entry leave the window together.
local function read_entry(text)
  local blank = string.find(text, ' ', 1, true)
  return tonumber(string.sub(text, 1, blank - 1)), read_amount(string.sub(text, blank + 1))
end

local function write_entry(time, amount)
  return string.format('%.0f', time) .. ' ' .. write_amount(amount)
end

local function read_budget(key)
  local found = redis.call('HMGET', key, 'head', 'tail', 'sum', 'last')
  if not found[1] then return { head = 0, tail = 0, sum = { 0, 0, 0 }, last = 0 } end
  return { head = tonumber(found[1]), tail = tonumber(found[2]), sum = read_amount(found[3]), last = tonumber(found[4]) }
end

local clock = redis.call('TIME')
local now = clock[1] * 1e6 + clock[2]
-- Who serves this data: another process after a restart and after a failover. To whom that was told on this very connection need not
-- ask for it again: it takes longer than all the rest of a small script.
local function run_of(told)
  if told ~= '' then return told end
  return string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
end
