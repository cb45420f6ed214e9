-- Said on each new connection, before anything is taken. KEYS: [1] what is known of the counts. ARGV: [1] the run that this sidecar
-- counted with before, or nothing. Answer: the run that serves now.
--
-- Where `since` is not 0, calls before that moment may have been counted and forgotten: another process has the data now, or it is
-- gone and somebody remembers it. Where there is no data and the first who comes remembers none, those who do have some seconds to
-- object: `born`.
local run = run_of('')
local memory = redis.call('INFO', 'memory')
if string.match(memory, 'maxmemory:(%d+)') ~= '0' and string.match(memory, 'maxmemory_policy:(%S+)') ~= 'noeviction' then
  return redis.error_reply('EVICTS maxmemory-policy must be noeviction, or counts would be forgotten')
end
local known = redis.call('HMGET', KEYS[1], 'run', 'since')
local remembered = ARGV[1]
if known[1] ~= run then
  local forgotten = known[1] or remembered ~= ''
  redis.call('HSET', KEYS[1], 'run', run, 'since', forgotten and string.format('%.0f', now) or '0', 'born', string.format('%.0f', now))
elseif known[2] == '0' and remembered ~= '' and remembered ~= run then
  redis.call('HSET', KEYS[1], 'since', string.format('%.0f', now))
end
return run
