//! How is one thread stopped for the time of a sample? Seize, interrupt, read, detach: between samples it is
//! not traced.
//!
//! A traced thread stops for every signal it gets, so it is traced for microseconds only, and a signal that
//! arrives meanwhile is passed on. The kernel lets go of what a tracing *thread* held when that thread ends:
//! so the tracer has a thread of its own, and where a target does not stop in time the tracer ends and a new
//! one takes its place.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::registers::{Registers, was_waiting};

/// Bytes of stack that are copied while the thread is stopped.
pub const STACK_BYTES: usize = 32 * 1024;
/// How long a thread may take to stop. One that waits for its CPU quota takes up to 100 ms.
const STOP_TIMEOUT: Duration = Duration::from_millis(120);

/// What came of an attempt to sample a thread.
pub enum Attempt {
    /// It waited in a system call: what it has used belongs to where it runs next.
    Waiting,
    /// Registers, the stack from the stack pointer on, and the time from asking the thread to stop until it
    /// ran again.
    Sample(Registers, Vec<u8>, Duration),
    /// The thread has ended.
    Gone,
    /// It did not stop in time.
    Stuck,
    /// The kernel refused.
    Refused(io::Error),
}

/// A thread that traces.
pub struct Tracer {
    pid: i32,
    /// Whether a thread that waits in a system call is sampled as well.
    waiting_too: bool,
    link: Option<(Sender<i32>, Receiver<Attempt>)>,
}

impl Tracer {
    /// A tracer for threads of a process.
    pub fn new(pid: i32) -> Self {
        Self { pid, waiting_too: false, link: None }
    }

    /// The same, for threads that may stop where they waited: one that was woken and waits for a CPU.
    pub fn of_woken(pid: i32) -> Self {
        Self { waiting_too: true, ..Self::new(pid) }
    }

    /// Samples one thread.
    pub fn sample(&mut self, tid: i32) -> Attempt {
        if self.link.is_none() {
            match start(self.pid, self.waiting_too) {
                Ok(link) => self.link = Some(link),
                Err(e) => return Attempt::Refused(e),
            }
        }
        let answer = self.link.as_ref().and_then(|(ask, answer)| {
            ask.send(tid).ok()?;
            answer.recv().ok()
        });
        let attempt = answer.unwrap_or(Attempt::Stuck);
        if matches!(attempt, Attempt::Stuck) {
            self.link = None;
        }
        attempt
    }
}

/// Whether the kernel lets us trace a thread. It is seized, which does not stop it, and let go.
pub fn probe(tid: i32) -> io::Result<()> {
    let prober = std::thread::spawn(move || seize(tid));
    prober.join().unwrap_or_else(|_| Err(io::Error::other("the probe crashed")))
}

fn start(pid: i32, waiting_too: bool) -> io::Result<(Sender<i32>, Receiver<Attempt>)> {
    let memory = File::open(format!("/proc/{pid}/mem"))?;
    let mut children = SigSet::empty();
    children.add(Signal::SIGCHLD);
    let stops = SignalFd::with_flags(&children, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
    let (ask, asked) = channel::<i32>();
    let (answer, answered) = channel();
    let work = move || {
        for tid in asked {
            let attempt = sample(tid, &memory, &stops, waiting_too);
            let stuck = matches!(attempt, Attempt::Stuck);
            // Ending this thread is what lets go of a thread that does not stop.
            if answer.send(attempt).is_err() || stuck {
                return;
            }
        }
    };
    std::thread::Builder::new().name("tracer".into()).spawn(work)?;
    Ok((ask, answered))
}

fn sample(tid: i32, memory: &File, stops: &SignalFd, waiting_too: bool) -> Attempt {
    let asked = Instant::now();
    if let Err(e) = seize(tid).and_then(|()| request(libc::PTRACE_INTERRUPT, tid, 0)) {
        return if e.raw_os_error() == Some(libc::ESRCH) { Attempt::Gone } else { Attempt::Refused(e) };
    }
    let signal = match wait_for_stop(tid, stops) {
        Stop::At { signal } => signal,
        Stop::Gone => return Attempt::Gone,
        Stop::Late => return Attempt::Stuck,
    };
    let read = registers(tid, memory).map(|(registers, waiting)| {
        if waiting && !waiting_too {
            return None;
        }
        let mut stack = vec![0; STACK_BYTES];
        let n = memory.read_at(&mut stack, registers.sp).unwrap_or(0);
        stack.truncate(n);
        Some((registers, stack))
    });
    let detached = request(libc::PTRACE_DETACH, tid, signal);
    match (read, detached) {
        (Ok(Some((registers, stack))), Ok(())) => Attempt::Sample(registers, stack, asked.elapsed()),
        (Ok(None), Ok(())) => Attempt::Waiting,
        // Killed while it was stopped.
        _ => Attempt::Gone,
    }
}

enum Stop {
    /// Stopped; the signal that it was about to get, or 0.
    At {
        signal: i32,
    },
    Gone,
    Late,
}

fn wait_for_stop(tid: i32, stops: &SignalFd) -> Stop {
    let deadline = Instant::now() + STOP_TIMEOUT;
    loop {
        let mut status = 0;
        // SAFETY: `status` is a valid place for the result; WNOHANG never blocks.
        let result = unsafe { libc::waitpid(tid, &raw mut status, libc::__WALL | libc::WNOHANG) };
        if result == tid {
            return stop_of(status);
        }
        if result == -1 {
            return Stop::Gone;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Stop::Late;
        }
        let timeout = PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::ZERO);
        let _woken = poll(&mut [PollFd::new(stops.as_fd(), PollFlags::POLLIN)], timeout);
        while let Ok(Some(_)) = stops.read_signal() {}
    }
}

/// What a wait status says. Status bits 16 and up hold the event: an interrupt's stop is one, a signal's is
/// none.
fn stop_of(status: i32) -> Stop {
    if !libc::WIFSTOPPED(status) {
        return Stop::Gone;
    }
    let interrupted = status >> 16 != 0;
    Stop::At { signal: if interrupted { 0 } else { libc::WSTOPSIG(status) } }
}

fn seize(tid: i32) -> io::Result<()> {
    request(libc::PTRACE_SEIZE, tid, 0)
}

fn request(what: libc::c_uint, tid: i32, data: i32) -> io::Result<()> {
    let no_address = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: these requests take no address, and their data is a number in the place of a pointer.
    let result = unsafe { libc::ptrace(what, tid, no_address, data as usize as *mut libc::c_void) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The registers, and whether the thread was waiting in a system call.
fn registers(tid: i32, memory: &File) -> io::Result<(Registers, bool)> {
    let mut regs = std::mem::MaybeUninit::<libc::user_regs_struct>::zeroed();
    let mut part =
        libc::iovec { iov_base: regs.as_mut_ptr().cast(), iov_len: size_of::<libc::user_regs_struct>() };
    // SAFETY: the vector describes the memory of `regs`, which outlives the call.
    let result = unsafe { libc::ptrace(libc::PTRACE_GETREGSET, tid, libc::NT_PRSTATUS, &raw mut part) };
    if result == -1 {
        return Err(io::Error::last_os_error());
    }
    if part.iov_len != size_of::<libc::user_regs_struct>() {
        return Err(io::Error::other("a 32-bit thread"));
    }
    // SAFETY: zeroed memory is a valid value of this plain struct, and the kernel has filled it.
    let regs = unsafe { regs.assume_init_ref() };
    let word = |at| {
        let mut bytes = [0; 4];
        memory.read_exact_at(&mut bytes, at).ok().map(|()| u32::from_ne_bytes(bytes))
    };
    Ok((Registers::from_user(regs), was_waiting(regs, word)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_that_stopped_the_thread_is_passed_on() {
        let stopped = |event: i32, signal: i32| event << 16 | signal << 8 | 0x7f;
        assert!(matches!(stop_of(stopped(128, libc::SIGTRAP)), Stop::At { signal: 0 }));
        assert!(matches!(stop_of(stopped(0, libc::SIGUSR1)), Stop::At { signal: libc::SIGUSR1 }));
        assert!(matches!(stop_of(stopped(0, 40)), Stop::At { signal: 40 }));
        assert!(matches!(stop_of(0), Stop::Gone));
        assert!(matches!(stop_of(9), Stop::Gone));
    }
}
