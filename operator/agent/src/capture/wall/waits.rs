//! What does a thread wait for? The system call that it is in, and what the file is that it reads, as
//! `/proc/PID/task/TID/syscall` and `/proc/PID/fd` tell. Only the sort of thing, never its name or address.

use std::path::Path;

use fleetprof_profile::Wait;

use crate::proc::read_bounded;

/// Most bytes of a `syscall` file: nine numbers.
const MAX_BYTES: u64 = 512;

/// Where a thread waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// What it waits for.
    pub wait: Wait,
    /// Its stack pointer.
    pub sp: u64,
    /// Its instruction pointer.
    pub pc: u64,
}

/// What a `syscall` file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    /// It runs, or waits for a CPU.
    Running,
    /// It waits: its system call, stack pointer and instruction pointer. No call where it waits outside of
    /// one.
    Waiting {
        /// The call.
        call: Option<SystemCall>,
        /// Stack pointer.
        sp: u64,
        /// Instruction pointer.
        pc: u64,
    },
}

/// A system call: its number and its arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SystemCall {
    /// Its number on this architecture.
    pub number: i64,
    /// As many as there are registers for them; those that it does not have may be anything.
    pub arguments: [u64; 6],
}

/// Reads the text of a `syscall` file: `running`, `-1 SP PC`, or `NUMBER ARGUMENT×6 SP PC`.
#[must_use]
pub fn parse(text: &[u8]) -> Option<Doing> {
    let text = std::str::from_utf8(text).ok()?.trim();
    if text == "running" {
        return Some(Doing::Running);
    }
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    let hex = |word: &str| u64::from_str_radix(word.strip_prefix("0x")?, 16).ok();
    let number: i64 = words.first()?.parse().ok()?;
    match words.as_slice() {
        [_, sp, pc] => Some(Doing::Waiting { call: None, sp: hex(sp)?, pc: hex(pc)? }),
        [_, arguments @ .., sp, pc] => {
            let arguments: Option<Vec<u64>> = arguments.iter().map(|word| hex(word)).collect();
            let call = SystemCall { number, arguments: arguments?.try_into().ok()? };
            Some(Doing::Waiting { call: Some(call), sp: hex(sp)?, pc: hex(pc)? })
        }
        _ => None,
    }
}

/// What a thread does now; `None` when it is gone or may not be looked at.
#[must_use]
pub fn doing(pid: i32, tid: i32) -> Option<Doing> {
    parse(&read_bounded(format!("/proc/{pid}/task/{tid}/syscall"), MAX_BYTES).ok()?)
}

/// What a thread waits for now; `None` where it runs, is gone, or may not be looked at.
#[must_use]
pub fn waits_now(pid: i32, tid: i32) -> Option<Wait> {
    match doing(pid, tid)? {
        Doing::Running => None,
        Doing::Waiting { call, .. } => Some(wait_of(pid, call)),
    }
}

/// What a thread in this call waits for.
#[must_use]
pub fn wait_of(pid: i32, call: Option<SystemCall>) -> Wait {
    let Some(call) = call else { return Wait::Memory };
    let [first, ..] = call.arguments;
    match of_call(call.number) {
        Call::Waits(wait) => without_files(call).unwrap_or(wait),
        Call::OfFile => {
            let target = i32::try_from(first)
                .ok()
                .and_then(|fd| std::fs::read_link(format!("/proc/{pid}/fd/{fd}")).ok());
            target.map_or(Wait::Other, |target| of_file(&target))
        }
    }
}

/// What a call waits for: one thing, or what its first argument is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    Waits(Wait),
    OfFile,
}

/// Calls whose first argument is a file.
const OF_FILE: [i64; 19] = [
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_preadv2,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_pwritev2,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_recvmmsg,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_sendmmsg,
    libc::SYS_sendfile,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
];

/// `futex_waitv` and the newer futex calls have the same number on every architecture.
const FUTEX_WAITS: [i64; 3] = [449, 455, 456];

fn of_call(number: i64) -> Call {
    use libc::{
        SYS_accept, SYS_accept4, SYS_clock_nanosleep, SYS_connect, SYS_epoll_pwait, SYS_epoll_pwait2,
        SYS_fcntl, SYS_flock, SYS_futex, SYS_io_getevents, SYS_io_uring_enter, SYS_mq_timedreceive,
        SYS_mq_timedsend, SYS_msgrcv, SYS_msgsnd, SYS_nanosleep, SYS_ppoll, SYS_pselect6,
        SYS_restart_syscall, SYS_rt_sigsuspend, SYS_rt_sigtimedwait, SYS_semop, SYS_semtimedop, SYS_wait4,
        SYS_waitid,
    };
    if OF_FILE.contains(&number) {
        return Call::OfFile;
    }
    let wait = match number {
        n if n == SYS_futex || FUTEX_WAITS.contains(&n) => Wait::Futex,
        n if n == SYS_epoll_pwait || n == SYS_epoll_pwait2 => Wait::Epoll,
        n if n == SYS_ppoll => Wait::Poll,
        n if n == SYS_pselect6 => Wait::Select,
        // The kernel goes on with a sleep, or a poll, that a signal has interrupted.
        n if n == SYS_nanosleep || n == SYS_clock_nanosleep || n == SYS_restart_syscall => Wait::Sleep,
        n if n == SYS_accept || n == SYS_accept4 => Wait::Accept,
        n if n == SYS_connect => Wait::Connect,
        n if n == SYS_wait4 || n == SYS_waitid => Wait::Child,
        n if n == SYS_rt_sigtimedwait || n == SYS_rt_sigsuspend => Wait::Signal,
        n if [SYS_io_getevents, SYS_io_uring_enter].contains(&n) => Wait::Aio,
        n if n == SYS_flock || n == SYS_fcntl => Wait::FileLock,
        n if [SYS_semop, SYS_semtimedop, SYS_msgrcv, SYS_msgsnd, SYS_mq_timedreceive, SYS_mq_timedsend]
            .contains(&n) =>
        {
            Wait::Ipc
        }
        n => of_old_call(n),
    };
    Call::Waits(wait)
}

/// What a poll of no file waits for: so programs sleep, and so `pause` is done where it has no call of its
/// own.
fn without_files(call: SystemCall) -> Option<Wait> {
    let [first, second, third, _, fifth, _] = call.arguments;
    let (files, is_endless) = match call.number {
        libc::SYS_ppoll => (second, third == 0),
        libc::SYS_pselect6 => (first, fifth == 0),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_poll => (second, third & SIGN != 0),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_select => (first, fifth == 0),
        _ => return None,
    };
    (files == 0).then_some(if is_endless { Wait::Signal } else { Wait::Sleep })
}

/// The sign of an argument of 32 bits.
#[cfg(target_arch = "x86_64")]
const SIGN: u64 = 1 << 31;

/// Those of them that newer architectures leave out.
#[cfg(target_arch = "x86_64")]
fn of_old_call(number: i64) -> Wait {
    match number {
        libc::SYS_epoll_wait => Wait::Epoll,
        libc::SYS_poll => Wait::Poll,
        libc::SYS_select => Wait::Select,
        libc::SYS_pause => Wait::Signal,
        _ => Wait::Other,
    }
}

/// Those of them that newer architectures leave out: none here.
#[cfg(not(target_arch = "x86_64"))]
const fn of_old_call(_number: i64) -> Wait {
    Wait::Other
}

/// What a file is, by what its link in `/proc/PID/fd` says.
fn of_file(target: &Path) -> Wait {
    let target = target.to_string_lossy();
    match target.split_once(':') {
        _ if target.starts_with("/dev/") => Wait::Device,
        _ if target.starts_with('/') => Wait::File,
        Some(("socket", _)) => Wait::Socket,
        Some(("pipe", _)) => Wait::Pipe,
        Some(("anon_inode", _)) => Wait::Event,
        _ => Wait::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_syscall_file_is_read() {
        let waiting = |call, sp, pc| Some(Doing::Waiting { call, sp, pc });
        let futex = SystemCall { number: 202, arguments: [0x7f, 0x189, 0, 0, 0, 0] };
        let cases: [(&[u8], Option<Doing>); 12] = [
            (b"running\n", Some(Doing::Running)),
            (b"-1 0x7ffc10 0x401000\n", waiting(None, 0x7ff_c10, 0x401_000)),
            (b"202 0x7f 0x189 0x0 0x0 0x0 0x0 0x10 0x20\n", waiting(Some(futex), 0x10, 0x20)),
            (b"0 0x3 0x1 0x2 0x0 0x0 0x0 0x10\n", None),
            (b"0 0x3 0x1 0x2 0x0 0x0 0x0 0x0 0x10 0x20\n", None),
            (b"0 0x3 0x1 0x2\n", None),
            (b"0 3 0x1 0x2 0x0 0x0 0x0 0x10 0x20\n", None),
            (b"x 0x1 0x2\n", None),
            (b"", None),
            (b"\xff\xfe", None),
            (b"1 0x10000000000000000 0x2\n", None),
            (b"-1 0x0 0x0\n", waiting(None, 0, 0)),
        ];
        for (text, wanted) in cases {
            assert_eq!(parse(text), wanted, "{}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn calls_have_a_word() {
        let cases = [
            (libc::SYS_futex, Call::Waits(Wait::Futex)),
            (libc::SYS_epoll_pwait, Call::Waits(Wait::Epoll)),
            (libc::SYS_accept4, Call::Waits(Wait::Accept)),
            (libc::SYS_wait4, Call::Waits(Wait::Child)),
            (libc::SYS_clock_nanosleep, Call::Waits(Wait::Sleep)),
            (libc::SYS_recvfrom, Call::OfFile),
            (libc::SYS_read, Call::OfFile),
            (449, Call::Waits(Wait::Futex)),
            (i64::MAX, Call::Waits(Wait::Other)),
            (-7, Call::Waits(Wait::Other)),
        ];
        for (number, wanted) in cases {
            assert_eq!(of_call(number), wanted, "{number}");
        }
    }

    #[test]
    fn a_poll_of_no_file_is_a_sleep_or_a_pause() {
        let call = |number, arguments| wait_of(1, Some(SystemCall { number, arguments }));
        let cases = [
            (libc::SYS_ppoll, [0, 0, 0, 0, 8, 0], Wait::Signal),
            (libc::SYS_ppoll, [0, 0, 0x7ff0, 0, 8, 0], Wait::Sleep),
            (libc::SYS_ppoll, [0x7ff0, 1, 0, 0, 8, 0], Wait::Poll),
            (libc::SYS_pselect6, [0, 0, 0, 0, 0x7ff0, 0], Wait::Sleep),
            (libc::SYS_pselect6, [0, 0, 0, 0, 0, 0], Wait::Signal),
            (libc::SYS_pselect6, [4, 0x7ff0, 0, 0, 0, 0], Wait::Select),
            (libc::SYS_futex, [0, 0, 0, 0, 0, 0], Wait::Futex),
        ];
        for (number, arguments, wanted) in cases {
            assert_eq!(call(number, arguments), wanted, "{number} {arguments:?}");
        }
        #[cfg(target_arch = "x86_64")]
        for (number, arguments, wanted) in [
            (libc::SYS_poll, [0, 0, 0xffff_ffff, 0, 0, 0], Wait::Signal),
            (libc::SYS_poll, [0, 0, 1000, 0, 0, 0], Wait::Sleep),
            (libc::SYS_poll, [0x7ff0, 2, 0xffff_ffff, 0, 0, 0], Wait::Poll),
            (libc::SYS_select, [0, 0, 0, 0, 0x7ff0, 0], Wait::Sleep),
            (libc::SYS_pause, [0, 0, 0, 0, 0, 0], Wait::Signal),
        ] {
            assert_eq!(call(number, arguments), wanted, "{number} {arguments:?}");
        }
    }

    #[test]
    fn files_are_told_by_their_sort_alone() {
        let cases = [
            ("socket:[4711]", Wait::Socket),
            ("pipe:[12]", Wait::Pipe),
            ("anon_inode:[eventfd]", Wait::Event),
            ("/dev/pts/0", Wait::Device),
            ("/srv/secret.db", Wait::File),
            ("/srv/socket:[1]", Wait::File),
            ("net:[4026531840]", Wait::Other),
            ("", Wait::Other),
        ];
        for (target, wanted) in cases {
            assert_eq!(of_file(Path::new(target)), wanted, "{target}");
        }
    }

    #[test]
    fn a_parked_thread_waits_for_a_futex() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        let parked = std::thread::spawn(move || {
            tell.send(nix::unistd::gettid().as_raw()).unwrap();
            std::thread::park();
        });
        let tid = told.recv().unwrap();
        let by = std::time::Instant::now() + std::time::Duration::from_secs(30);
        let call = loop {
            if let Some(Doing::Waiting { call, sp, pc }) = doing(pid, tid) {
                assert!(sp > 0 && pc > 0);
                break call;
            }
            assert!(std::time::Instant::now() < by, "it does not wait");
            std::thread::sleep(std::time::Duration::from_millis(1));
        };
        assert_eq!(wait_of(pid, call), Wait::Futex);
        parked.thread().unpark();
        parked.join().unwrap();
        assert_eq!(doing(i32::MAX, 1), None);
    }
}
