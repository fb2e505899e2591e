//! What does a thread, or a goroutine, wait for? Only the sort of thing, never its name or address: a destination
//! may keep a series for each value of a label.

/// What a thread waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Wait {
    /// A lock, a condition variable, or the end of a thread, as the kernel sees it.
    Futex,
    /// Any of the files of an epoll instance.
    Epoll,
    /// Any of some files, by `poll`.
    Poll,
    /// Any of some files, by `select`.
    Select,
    /// Time to pass.
    Sleep,
    /// A client that connects.
    Accept,
    /// A server that it connects to.
    Connect,
    /// Data of a socket, or room in it.
    Socket,
    /// Data of a pipe, or room in it.
    Pipe,
    /// A file on disk or a network volume.
    File,
    /// A device, such as a terminal.
    Device,
    /// An eventfd, a timerfd, a signalfd or the like.
    Event,
    /// The end of another process.
    Child,
    /// A signal.
    Signal,
    /// Asynchronous I/O, such as of an io_uring.
    Aio,
    /// A file lock.
    FileLock,
    /// A semaphore or message queue of System V or POSIX.
    Ipc,
    /// Memory that the kernel has to bring, or another thing outside of system calls.
    Memory,
    /// A lock of the language: a mutex, a monitor.
    Lock,
    /// What another thread says or does: a condition variable, a monitor's `wait`, the end of a group of tasks.
    Condition,
    /// A value of a channel, or room in it.
    Channel,
    /// What a task of the language awaits, where nothing tells more of it.
    Future,
    /// Something else, such as another system call or code in C.
    Other,
}

impl Wait {
    /// Every value.
    pub const ALL: [Self; 23] = [
        Self::Futex,
        Self::Epoll,
        Self::Poll,
        Self::Select,
        Self::Sleep,
        Self::Accept,
        Self::Connect,
        Self::Socket,
        Self::Pipe,
        Self::File,
        Self::Device,
        Self::Event,
        Self::Child,
        Self::Signal,
        Self::Aio,
        Self::FileLock,
        Self::Ipc,
        Self::Memory,
        Self::Lock,
        Self::Condition,
        Self::Channel,
        Self::Future,
        Self::Other,
    ];

    /// The value of the label `waits_for`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Futex => "futex",
            Self::Epoll => "epoll",
            Self::Poll => "poll",
            Self::Select => "select",
            Self::Sleep => "sleep",
            Self::Accept => "accept",
            Self::Connect => "connect",
            Self::Socket => "socket",
            Self::Pipe => "pipe",
            Self::File => "file",
            Self::Device => "device",
            Self::Event => "event",
            Self::Child => "child",
            Self::Signal => "signal",
            Self::Aio => "aio",
            Self::FileLock => "file-lock",
            Self::Ipc => "ipc",
            Self::Memory => "memory",
            Self::Lock => "lock",
            Self::Condition => "condition",
            Self::Channel => "channel",
            Self::Future => "future",
            Self::Other => "other",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_of_the_label_is_one_word() {
        let mut names: Vec<&str> = Wait::ALL.iter().map(|wait| wait.name()).collect();
        assert!(names.iter().all(|name| name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-')));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Wait::ALL.len());
    }
}
