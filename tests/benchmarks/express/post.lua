-- wrk posts jobs, as many in a request as BATCH says, each to an address of its own.
local batch = tonumber(os.getenv("BATCH"))
local head = { ["Content-Type"] = "application/json" }
local number = 0

local function job()
  number = number + 1
  return '{"kind":"send-welcome-email","payload":{"userEmail":"ada' .. number .. '@example.com","userName":"Ada"}}'
end

function request()
  if batch == 1 then
    return wrk.format("POST", nil, head, job())
  end
  local jobs = {}
  for i = 1, batch do
    jobs[i] = job()
  end
  return wrk.format("POST", nil, head, '{"jobs":[' .. table.concat(jobs, ",") .. ']}')
end

function done(summary, latency)
  local failed = summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.timeout
  io.write(string.format('{"requests": %d, "us": %d, "p50_us": %d, "p99_us": %d, "failed": %d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), failed))
end
