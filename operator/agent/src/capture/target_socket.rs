//! How does the agent connect to a Unix socket of a target, so that it is the target that answers?

use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};

/// A connection to a process that listens at a path. Each read, each write and the connection itself wait at
/// most for `step`.
///
/// # Errors
/// Nobody listens there, or another process does: containers that share a volume may have processes of the
/// same number, and what lies at the path may be a link.
pub fn connect(path: &Path, pid: i32, step: Duration) -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // A connection waits for a place in the queue as long as a write may take.
    socket.set_write_timeout(Some(step))?;
    socket.set_read_timeout(Some(step))?;
    socket.connect(&SockAddr::unix(path)?)?;
    match peer(&socket) {
        Some(found) if found == pid => Ok(socket),
        _ => Err(io::Error::other("another process listens there")),
    }
}

/// Whether a read or a write may be tried again.
#[must_use]
pub const fn is_passing(kind: io::ErrorKind) -> bool {
    matches!(kind, io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
}

/// The process at the other end, as this one knows it.
#[allow(unsafe_code)]
fn peer(socket: &Socket) -> Option<i32> {
    let mut found = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut size = libc::socklen_t::try_from(size_of::<libc::ucred>()).ok()?;
    let (level, option) = (libc::SOL_SOCKET, libc::SO_PEERCRED);
    // SAFETY: both pointers are to live variables, and the size is that of the first.
    let code = unsafe {
        libc::getsockopt(socket.as_raw_fd(), level, option, (&raw mut found).cast(), &raw mut size)
    };
    (code == 0).then_some(found.pid)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn only_the_process_that_is_meant_is_talked_to() {
        let path = std::env::temp_dir().join(format!("fleetprof-socket-{}", std::process::id()));
        let _listener = UnixListener::bind(&path).unwrap();
        let me = i32::try_from(std::process::id()).unwrap();
        let (mine, other) =
            (connect(&path, me, Duration::from_secs(1)), connect(&path, 1, Duration::from_secs(1)));
        std::fs::remove_file(&path).unwrap();
        assert!(mine.is_ok(), "{mine:?}");
        assert!(other.unwrap_err().to_string().contains("another process"));
        assert!(connect(&path, me, Duration::from_secs(1)).is_err(), "nobody listens there any more");
    }
}
