-- What does wrk send, and what does it tell? One AdmissionReview again and again; figures as NAME=VALUE.
local file = assert(io.open(os.getenv("REVIEW"), "r"))
wrk.method = "POST"
wrk.body = file:read("*a")
wrk.headers["Content-Type"] = "application/json"
file:close()

function done(summary, latency, requests)
  local errors = summary.errors
  print(string.format("REQUESTS=%d", summary.requests))
  print(string.format("RATE=%.0f", summary.requests / (summary.duration / 1e6)))
  print(string.format("P50=%.3f", latency:percentile(50) / 1000))
  print(string.format("P99=%.3f", latency:percentile(99) / 1000))
  print(string.format("ERRORS=%d", errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
