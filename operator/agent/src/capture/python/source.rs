//! What reads an interpreter? fleetprof's own reader where it knows the interpreter, else py-spy.

use std::time::Instant;

use anyhow::bail;
use py_spy::PythonSpy;
use py_spy::config::{LineNo, LockingStrategy};

use super::reader::{Reader, is_free_threaded};

/// Why an interpreter without the global lock is refused.
const FREE_THREADED: &str = "CPython without the global interpreter lock (free-threaded) is not supported; run \
     the program with a build that has the lock to see its functions and lines";

/// What reads the interpreter of one process.
pub enum Source {
    /// fleetprof's own reader.
    Reader {
        /// The reader.
        reader: Box<Reader>,
        /// The threads with Python code.
        threads: Vec<PythonThread>,
        /// When new threads are looked for.
        next_look: Instant,
    },
    /// py-spy.
    Spy(Box<PythonSpy>),
}

/// A thread with Python code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PythonThread {
    /// The system's id, here.
    pub outer: i32,
    /// The system's id in the thread's own pid namespace.
    pub inner: i32,
}

impl Source {
    /// Finds the interpreter of a process, which may just be starting: so many attempts. Gives back its version,
    /// such as `3.11.7`, as well.
    ///
    /// # Errors
    /// There is none, it may not be read, or it is one without the global lock.
    pub fn attach(pid: i32, attempts: u64) -> anyhow::Result<(String, Self)> {
        let config = py_spy::Config {
            blocking: LockingStrategy::NonBlocking,
            lineno: LineNo::LastInstruction,
            collect_thread_names: false,
            full_filenames: true,
            ..py_spy::Config::default()
        };
        let refuse_free_threaded = || if is_free_threaded(pid) { bail!(FREE_THREADED) } else { Ok(()) };
        refuse_free_threaded()?;
        let spy = PythonSpy::retry_new(pid, &config, attempts);
        // One that was just starting had not loaded its library yet.
        refuse_free_threaded()?;
        let spy = spy?;
        let version = format!("{}.{}.{}", spy.version.major, spy.version.minor, spy.version.patch);
        Ok((version, Self::of(spy)))
    }

    fn of(spy: PythonSpy) -> Self {
        let own = (spy.version.major == 3)
            .then(|| Reader::open(spy.pid, spy.version.minor, spy.addresses.interpreter_address as u64));
        match own.flatten() {
            Some(reader) => {
                Self::Reader { reader: Box::new(reader), threads: Vec::new(), next_look: Instant::now() }
            }
            None => Self::Spy(Box::new(spy)),
        }
    }

    /// Its name: `cpython`, `py-spy`.
    pub fn method(&self) -> &'static str {
        match self {
            Self::Reader { .. } => "cpython",
            Self::Spy(_) => "py-spy",
        }
    }

    /// The threads with Python code, as far as they are known between two turns.
    pub fn threads(&self) -> &[PythonThread] {
        match self {
            Self::Reader { threads, .. } => threads,
            Self::Spy(_) => &[],
        }
    }

    /// Is told that the numbers of frames begin again.
    pub fn forget_numbers(&mut self) {
        if let Self::Reader { reader, .. } = self {
            reader.forget_numbers();
        }
    }
}

/// Threads by their ids in their own pid namespace, as far as their ids here are found.
pub fn resolved(inner: &[i32], mut resolve: impl FnMut(u64) -> Option<i32>) -> Vec<PythonThread> {
    let known = inner.iter().filter_map(|inner| {
        let outer = resolve(u64::try_from(*inner).ok()?)?;
        Some(PythonThread { outer, inner: *inner })
    });
    known.collect()
}
