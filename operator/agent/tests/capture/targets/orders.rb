# A service that waits: each order asks a third party by HTTP, then computes. Its pool has nothing to do, and one
# thread waits for a lock that another one holds. Argument: the port of the third party.
require "net/http"

def pay(port)
  Net::HTTP.get("127.0.0.1", "/", port) # the wait
end

def guilty
  x = 0
  300_000.times { |i| x = (x + i * i) % 1_000_003 }
  x
end

def order(port)
  pay(port)
  guilty
end

def holds(lock)
  lock.synchronize { sleep }
end

def wants(lock)
  lock.synchronize { raise "it was free" }
end

queue, lock = Queue.new, Mutex.new
3.times { Thread.new { queue.pop } }
Thread.new { holds(lock) }
sleep 0.1 until lock.locked?
Thread.new { wants(lock) }
loop { order(ARGV[0].to_i) }
