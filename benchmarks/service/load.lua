-- Requests for wrk. Arguments: a file of requests, and for each connection the mean of the seconds
-- between two requests (0: none). With more than 0 the answers are told by status and time.

local ffi = require("ffi")
ffi.cdef("typedef struct { long s; long ns; } moment; int clock_gettime(int, moment *);")
local moment = ffi.new("moment")

local threads = {}

local function microseconds()
  ffi.C.clock_gettime(1, moment)
  return tonumber(moment.s) * 1000000 + math.floor(tonumber(moment.ns) / 1000)
end

function setup(thread)
  table.insert(threads, thread)
end

function init(args)
  local asked = dofile(args[1])
  local pause = tonumber(args[2])
  local timed = args[3] == "timed"
  local next, ready = 0, {}
  -- The service gives a request's id back, and so the moment when it was sent.
  for number, one in ipairs(asked) do
    local headers = one.headers
    if timed then headers["X-Request-ID"] = "@" end
    local whole = wrk.format(one.method, one.path, headers, one.body)
    local at = timed and whole:find("X-Request-ID: @", 1, true)
    ready[number] = at and { whole:sub(1, at + 13), whole:sub(at + 15) } or whole
  end
  counts = {}

  function request()
    next = next % #ready + 1
    local one = ready[next]
    return timed and one[1] .. string.format("%.0f", microseconds()) .. one[2] or one
  end

  if timed then
    function response(status, headers)
      local tenths = math.floor((microseconds() - tonumber(headers["x-request-id"])) / 100)
      local name = status .. " " .. tenths
      counts[name] = (counts[name] or 0) + 1
    end
  end

  if pause > 0 then
    -- Requests of many who know nothing of each other.
    function delay()
      return math.floor(-math.log(1 - math.random()) * pause * 1000)
    end
  end
end

function done(summary, latency)
  local errors = summary.errors
  local broken = errors.connect + errors.read + errors.write + errors.timeout
  print(string.format(
    "total %d %.0f %d %d %.0f %.0f", summary.requests, summary.duration, errors.status, broken,
    latency:percentile(50), latency:percentile(99)))
  for _, thread in ipairs(threads) do
    for name, count in pairs(thread:get("counts")) do
      print("count " .. name .. " " .. count)
    end
  end
end
