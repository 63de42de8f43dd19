-- For wrk: `-- TYPE FILE...` posts the files as they are, one after the other, as bodies of that content type.
-- When done it prints one line that begins with `measured ` and goes on in JSON: durations in microseconds; `refused`
-- are the answers 503 that say when to come again, which are among those of `status` as well.

local requests, threads, place = {}, {}, 0
refused = 0  -- a global: read from outside the thread when it is done

function setup(thread)
  table.insert(threads, thread)
end

function init(args)
  local headers = { ["Content-Type"] = args[1] }
  for at = 2, #args do
    local file = assert(io.open(args[at], "rb"))
    table.insert(requests, wrk.format("POST", nil, headers, file:read("*a")))
    file:close()
  end
end

function request()
  place = place % #requests + 1
  return requests[place]
end

function response(status, headers)
  if status ~= 503 then return end
  for name in pairs(headers) do
    if name:lower() == "retry-after" then refused = refused + 1 end
  end
end

function done(summary, latency)
  local wrong, politely = summary.errors, 0
  for _, thread in ipairs(threads) do politely = politely + thread:get("refused") end
  print(string.format(
    'measured {"requests": %d, "duration": %d, "status": %d, "refused": %d, "socket": %d, "p50": %d, "p99": %d}',
    summary.requests, summary.duration, wrong.status, politely,
    wrong.connect + wrong.read + wrong.write + wrong.timeout, latency:percentile(50), latency:percentile(99)
  ))
end
