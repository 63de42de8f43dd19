-- For wrk: posts the files named after `--`, one after the other, each as the field `image` of a multipart form.
-- When done it prints one line that begins with `measured ` and goes on in JSON: durations in microseconds.

local requests, place = {}, 0
local boundary = "----------------menagerie"

local function form(path)
  local file = assert(io.open(path, "rb"))
  local picture = file:read("*a")
  file:close()
  return table.concat({
    "--", boundary, "\r\n",
    'Content-Disposition: form-data; name="image"; filename="picture.jpg"\r\n',
    "Content-Type: image/jpeg\r\n\r\n",
    picture, "\r\n--", boundary, "--\r\n",
  })
end

function init(args)
  local headers = { ["Content-Type"] = "multipart/form-data; boundary=" .. boundary }
  for _, path in ipairs(args) do
    table.insert(requests, wrk.format("POST", nil, headers, form(path)))
  end
end

function request()
  place = place % #requests + 1
  return requests[place]
end

function done(summary, latency)
  local wrong = summary.errors
  print(string.format(
    'measured {"requests": %d, "duration": %d, "status": %d, "socket": %d, "p50": %d, "p99": %d}',
    summary.requests, summary.duration, wrong.status, wrong.connect + wrong.read + wrong.write + wrong.timeout,
    latency:percentile(50), latency:percentile(99)
  ))
end
