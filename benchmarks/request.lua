-- wrk script: wrk -s request.lua URL -- METHOD BODY_BYTES keep|close [vary]
-- Twelve fields as a browser sends them (Host included), and a result line that a program can read.
function init(args)
   wrk.method = args[1]
   wrk.headers = {
      ["Host"] = "www.example.com",
      ["User-Agent"] = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
      ["Accept"] = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
      ["Accept-Language"] = "en-GB,en;q=0.7,de;q=0.3",
      ["Accept-Encoding"] = "gzip, deflate, br, zstd",
      ["Referer"] = "https://www.example.com/catalogue/shoes?page=3",
      ["Cookie"] = "session=eyJhbGciOiJIUzI1NiJ9.c2Vzc2lvbi0xMjM0NTY3ODkw; theme=dark; consent=yes",
      ["Upgrade-Insecure-Requests"] = "1",
      ["Sec-Fetch-Dest"] = "document",
      ["Sec-Fetch-Mode"] = "navigate",
      ["Sec-Fetch-Site"] = "same-origin",
      ["Connection"] = args[3] == "close" and "close" or "keep-alive",
   }
   local size = tonumber(args[2])
   if size > 0 then
      wrk.headers["Content-Type"] = "application/octet-stream"
      wrk.body = string.rep("x", size)
   end
   if args[4] == "vary" then
      local made, count = {}, 0
      for number = 1, 10000 do made[number] = wrk.format(nil, "/" .. number) end
      request = function()
         count = count % 10000 + 1
         return made[count]
      end
   end
end

function done(summary, latency, requests)
   local e = summary.errors
   io.write(string.format(
      'RESULT {"requests": %d, "microseconds": %d, "bytes": %d, "p50_us": %d, "p99_us": %d, ' ..
      '"errors": {"connect": %d, "read": %d, "write": %d, "status": %d, "timeout": %d}}\n',
      summary.requests, summary.duration, summary.bytes, latency:percentile(50), latency:percentile(99),
      e.connect, e.read, e.write, e.status, e.timeout))
end
