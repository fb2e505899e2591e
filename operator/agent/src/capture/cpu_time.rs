//! How much CPU time did each thread of a target use since it was last sampled?
//!
//! A sample that is weighed by this stays true when samples come late or not at all: a thread that waits for
//! its CPU quota is runnable but uses nothing, so it must not be counted by wall clock.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use nix::time::{ClockId, clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;

use super::schedule::saturating_nanos;
use crate::proc;

/// Nanoseconds of a clock tick: `USER_HZ` is 100 on every architecture that the agent is built for.
pub const TICK_NANOS: u64 = 10_000_000;

/// Periods that a sample may stand for, and the time that it may in any case.
const MOST_PERIODS: u32 = 10;
const MOST_TIME: Duration = Duration::from_millis(100);

/// What a sample is worth at most of the CPU time that its thread used since the last one. A sample does not
/// tell what a thread did for long before it: the rest is missing in the profile, and is said to be.
#[must_use]
pub fn most_worth(nanos: u64, period: Duration) -> u64 {
    nanos.min(saturating_nanos((period * MOST_PERIODS).max(MOST_TIME)))
}

/// CPU time that this process has used.
pub fn own_cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

/// Numbers of processes are below this, from `include/linux/threads.h`. Those of a clock hold fewer bits.
const PID_LIMIT: i32 = 4 << 20;

/// CPU time that a process has used; `None` where it has ended.
pub fn cpu_time_of(pid: i32) -> Option<Duration> {
    if !(1..=PID_LIMIT).contains(&pid) {
        return None;
    }
    let clock = clock_getcpuclockid(Pid::from_raw(pid)).ok()?;
    clock_gettime(clock).ok().map(Duration::from)
}

/// The open files of one thread and what was counted of its CPU time.
struct Thread {
    stat: File,
    schedstat: Option<File>,
    counted: u64,
}

impl Thread {
    fn open(pid: i32, tid: i32) -> io::Result<Self> {
        let stat = File::open(format!("/proc/{pid}/task/{tid}/stat"))?;
        let schedstat = File::open(format!("/proc/{pid}/task/{tid}/schedstat")).ok();
        Ok(Self { stat, schedstat, counted: 0 })
    }

    fn read(file: &File) -> Option<([u8; 1024], usize)> {
        let mut buffer = [0; 1024];
        let n = file.read_at(&mut buffer, 0).ok()?;
        (n > 0).then_some((buffer, n))
    }

    fn stat(&self) -> Option<proc::Stat> {
        let (buffer, n) = Self::read(&self.stat)?;
        proc::parse_stat(&buffer[..n])
    }

    /// CPU time in nanoseconds: exact where the kernel keeps it, else in clock ticks.
    fn cpu(&self) -> Option<u64> {
        let Some(file) = &self.schedstat else {
            let stat = self.stat()?;
            return Some(stat.user_ticks.saturating_add(stat.system_ticks).saturating_mul(TICK_NANOS));
        };
        let (buffer, n) = Self::read(file)?;
        proc::parse_schedstat(&buffer[..n]).map(|counted| counted.ran)
    }
}

/// The threads of one target.
pub struct ThreadTimes {
    pid: i32,
    threads: HashMap<i32, Thread>,
}

impl ThreadTimes {
    /// Starts to count: what the threads used before does not belong to the capture.
    pub fn start(pid: i32) -> io::Result<Self> {
        let mut times = Self { pid, threads: HashMap::new() };
        times.refresh()?;
        for thread in times.threads.values_mut() {
            thread.counted = thread.cpu().unwrap_or(0);
        }
        Ok(times)
    }

    /// Finds threads that are new and forgets those that are gone. All that a new one used is still to count.
    pub fn refresh(&mut self) -> io::Result<()> {
        let mut kept = HashMap::new();
        for tid in proc::threads(self.pid)? {
            let known = self.threads.remove(&tid).filter(|t| t.stat().is_some());
            if let Some(thread) = known.or_else(|| Thread::open(self.pid, tid).ok()) {
                kept.insert(tid, thread);
            }
        }
        self.threads = kept;
        Ok(())
    }

    /// The threads that are known.
    pub fn ids(&self) -> Vec<i32> {
        self.threads.keys().copied().collect()
    }

    /// Whether a thread is known.
    pub fn knows(&self, tid: i32) -> bool {
        self.threads.contains_key(&tid)
    }

    /// Whether a thread runs or waits for a CPU.
    pub fn runnable(&self, tid: i32) -> bool {
        self.threads.get(&tid).and_then(Thread::stat).is_some_and(|s| s.state == b'R')
    }

    /// CPU time that a thread used and that is not counted yet, in nanoseconds.
    pub fn uncounted(&self, tid: i32) -> u64 {
        let thread = self.threads.get(&tid);
        thread.and_then(|t| Some(t.cpu()?.saturating_sub(t.counted))).unwrap_or(0)
    }

    /// Counts CPU time of a thread as sampled.
    pub fn count(&mut self, tid: i32, nanos: u64) {
        if let Some(thread) = self.threads.get_mut(&tid) {
            thread.counted = thread.counted.saturating_add(nanos);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_stands_for_a_while_and_not_for_ever() {
        let ms = |n: u64| n * 1_000_000;
        let cases = [
            (99, 9, 9),
            (99, 60, 60),
            (99, 2000, 101),
            (1000, 2000, 100),
            (1, 2000, 2000),
            (1, 20_000, 10_000),
        ];
        for (hz, used, worth) in cases {
            assert_eq!(
                most_worth(ms(used), Duration::from_secs(1) / hz) / ms(1),
                worth,
                "{used} ms at {hz} Hz"
            );
        }
    }

    #[test]
    fn the_cpu_time_of_a_process_is_read_by_its_number() {
        let me = i32::try_from(std::process::id()).unwrap();
        let before = own_cpu_time();
        let mine = cpu_time_of(me).unwrap();
        assert!(before <= mine && mine <= own_cpu_time());
        for nobody in [0, -1, PID_LIMIT, i32::MAX] {
            assert_eq!(cpu_time_of(nobody), None, "{nobody}");
        }
    }

    #[test]
    fn a_busy_thread_uses_time_and_a_sleeping_one_none() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let sleeper = std::thread::spawn(std::thread::park);
        let spin = std::thread::spawn(move || {
            let me = nix::unistd::gettid().as_raw();
            let mut times = ThreadTimes::start(pid).unwrap();
            let start = std::time::Instant::now();
            while start.elapsed().as_millis() < 200 {
                std::hint::spin_loop();
            }
            assert!(times.runnable(me));
            let used = times.uncounted(me);
            times.count(me, used);
            let again = times.uncounted(me);
            let others: u64 =
                times.ids().into_iter().filter(|t| *t != me && !times.runnable(*t)).count() as u64;
            (used, again, others)
        });
        let (used, again, others) = spin.join().unwrap();
        sleeper.thread().unpark();
        sleeper.join().unwrap();
        assert!((10_000_000..400_000_000).contains(&used), "{used}");
        assert!(again < used, "{again}");
        assert!(others > 0);
    }
}
