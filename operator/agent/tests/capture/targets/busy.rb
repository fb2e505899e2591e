# A target with one guilty method: nine tenths of its CPU time. One thread sleeps.
#   busy.rb spin | threads | forks | sleep
def guilty(n)
  x = 0
  while n > 0 do x += n * n; n -= 1 end
  x
end # of the guilty method

def innocent(n)
  x = 0
  while n > 0 do x += n * n; n -= 1 end
  x
end

def sleeper
  loop { sleep 0.05 }
end

def work
  loop do
    guilty(90_000)
    innocent(10_000)
  end
end

Thread.new { sleeper }
case ARGV[0]
when "threads" then [Thread.new { work }, Thread.new { work }].each(&:join)
when "forks" then 2.times { fork { work } } && Process.waitall
when "sleep" then sleeper
else work
end
