//! Where does a .NET process listen for diagnostic commands? At a Unix socket in its directory for temporary
//! files.
//!
//! `dotnet-diagnostic-PID-START-socket` in `TMPDIR`, else in `/tmp`: the id as the process itself knows it,
//! and field 22 of its `stat`. Only its own user may connect. The process makes it at its start, or never.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileTypeExt;
use std::path::PathBuf;
use std::time::Duration;

use socket2::Socket;

use crate::capture::native::open_below_root;
use crate::capture::target_socket::connect;
use crate::proc::{self, read_bounded};

/// Most bytes of an environment in which settings are looked for.
const MAX_ENVIRONMENT: u64 = 1 << 20;
/// Longest path of a directory.
const MAX_PATH: usize = 1024;
/// Settings with which .NET opens no socket.
const SWITCHES: [&str; 4] = [
    "DOTNET_EnableDiagnostics",
    "COMPlus_EnableDiagnostics",
    "DOTNET_EnableDiagnostics_IPC",
    "COMPlus_EnableDiagnostics_IPC",
];

/// The socket of a process.
#[derive(Debug)]
pub struct Listener {
    pid: i32,
    directory: File,
    name: String,
}

/// Why a process has no socket, or none that can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Absent {
    /// It was told not to open one.
    Disabled,
    /// There is none.
    Missing,
    /// The kernel does not let this user look for it.
    Refused,
}

impl Absent {
    /// A sentence on it, and what helps.
    #[must_use]
    pub const fn sentence(&self) -> &'static str {
        match self {
            Self::Disabled => {
                "the .NET process has no diagnostics socket because DOTNET_EnableDiagnostics is 0; remove that \
                 setting and restart it"
            }
            Self::Missing => {
                "the .NET process has no diagnostics socket in its directory for temporary files: mount an \
                 emptyDir at /tmp where its file system is read-only, set DOTNET_EnableDiagnostics to 1, and \
                 restart it"
            }
            Self::Refused => {
                "no permission to use the diagnostics socket of the .NET process; run the agent as the target's \
                 user and group (securityContext.runAsUser, runAsGroup)"
            }
        }
    }
}

impl Listener {
    /// The socket of a process. Does nothing to the process.
    ///
    /// # Errors
    /// There is none.
    pub fn find(pid: i32) -> Result<Self, Absent> {
        let environment = read_bounded(format!("/proc/{pid}/environ"), MAX_ENVIRONMENT).unwrap_or_default();
        if SWITCHES.iter().any(|switch| setting(&environment, switch) == Some(b"0")) {
            return Err(Absent::Disabled);
        }
        let found = |e: io::Error| match e.kind() {
            io::ErrorKind::PermissionDenied => Absent::Refused,
            _ => Absent::Missing,
        };
        let inner = proc::inner_tid(pid, pid).unwrap_or(pid);
        let start = proc::start_ticks(pid).map_err(found)?;
        let directory = open_below_root(pid, &directory(&environment)).map_err(found)?;
        let listener = Self { pid, directory, name: format!("dotnet-diagnostic-{inner}-{start}-socket") };
        let meta = std::fs::symlink_metadata(listener.path()).map_err(found)?;
        if meta.file_type().is_socket() { Ok(listener) } else { Err(Absent::Missing) }
    }

    /// A socket of this process.
    #[cfg(test)]
    pub fn of_this_process(directory: &std::path::Path, name: String) -> Self {
        let pid = i32::try_from(std::process::id()).unwrap();
        Self { pid, directory: File::open(directory).unwrap(), name }
    }

    /// The process.
    pub const fn pid(&self) -> i32 {
        self.pid
    }

    /// A path of this process to the socket.
    fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{}", self.directory.as_raw_fd(), self.name))
    }

    /// A connection, whose reads and writes wait at most for `step`. Each command has one of its own.
    ///
    /// # Errors
    /// A killed process leaves its socket behind, and another user may not connect.
    pub fn connect(&self, step: Duration) -> io::Result<Socket> {
        connect(&self.path(), self.pid, step)
    }
}

/// The directory for temporary files, by an environment.
fn directory(environment: &[u8]) -> String {
    let named = setting(environment, "TMPDIR").and_then(|path| std::str::from_utf8(path).ok());
    let named = named.filter(|path| path.starts_with('/') && path.len() <= MAX_PATH);
    named.unwrap_or("/tmp").to_owned()
}

/// The value of a variable in the text of an `environ` file.
fn setting<'e>(environment: &'e [u8], name: &str) -> Option<&'e [u8]> {
    let mut variables = environment.split(|byte| *byte == 0);
    variables.find_map(|variable| variable.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_is_that_of_the_environment() {
        for (environment, wanted) in [
            (b"HOME=/root\0TMPDIR=/data/tmp\0".as_slice(), "/data/tmp"),
            (b"XTMPDIR=/x\0TMPDIR_=/y", "/tmp"),
            (b"TMPDIR=tmp", "/tmp"),
            (b"TMPDIR=\xff", "/tmp"),
            (b"", "/tmp"),
        ] {
            assert_eq!(directory(environment), wanted);
        }
        let long = [b"TMPDIR=/".as_slice(), &[b'x'; MAX_PATH]].concat();
        assert_eq!(directory(&long), "/tmp");
    }

    #[test]
    fn a_process_without_a_socket_says_what_helps() {
        let me = i32::try_from(std::process::id()).unwrap();
        assert_eq!(Listener::find(me).unwrap_err(), Absent::Missing);
        for absent in [Absent::Disabled, Absent::Missing, Absent::Refused] {
            assert!(absent.sentence().contains("DOTNET_EnableDiagnostics") != (absent == Absent::Refused));
        }
    }
}
