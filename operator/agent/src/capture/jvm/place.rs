//! Where do files go that a Java process and this worker both see? Into the process's own `/tmp`.
//!
//! The process may put whatever it likes there, symbolic links above all. So the directory is opened step by step
//! from the root of the process, no link is followed, and the agent makes its files, it never opens what is there.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, unlinkat};

use crate::capture::protocol::{Failure, FailureReason};
use crate::proc::{self, Owner};

/// The `/tmp` of a process.
#[derive(Debug)]
pub struct Place {
    directory: OwnedFd,
    owner: Owner,
    /// The process's id, as the process itself knows it.
    pub inner: i32,
}

impl Place {
    /// The `/tmp` of a process.
    ///
    /// # Errors
    /// The process is gone, may not be looked at, or has no such directory.
    pub fn open(pid: i32) -> Result<Self, Failure> {
        let gone = |e: io::Error| {
            Failure::new(
                FailureReason::NoSuchProcess,
                format!("failed to read the status of process {pid} ({e})"),
            )
        };
        let owner = proc::owner(pid).map_err(gone)?;
        let inner = proc::inner_tid(pid, pid).unwrap_or(pid);
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let root = PathBuf::from(format!("/proc/{pid}/root"));
        let directory = open(&root, flags, Mode::empty())
            .and_then(|root| openat(&root, "tmp", flags | OFlag::O_NOFOLLOW, Mode::empty()));
        let directory = directory.map_err(|errno| refused(pid, errno))?;
        Ok(Self { directory, owner, inner })
    }

    /// A path of this process to a file there, whatever `/tmp` is called meanwhile.
    pub fn path(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{name}", self.directory.as_raw_fd()))
    }

    /// Makes a file that only the user of the process can read. It is removed when the result is dropped.
    ///
    /// # Errors
    /// The directory is read-only or full.
    pub fn make(&self, name: &str) -> Result<Made<'_>, Failure> {
        self.remove(name);
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let made = openat(&self.directory, name, flags, Mode::S_IRUSR | Mode::S_IWUSR);
        let file = made.map(File::from).map_err(|errno| unwritable(errno.desc()))?;
        let made = Made { place: self, name: name.to_owned(), file };
        if Uid::effective().is_root() && self.owner.uid != 0 {
            let (uid, gid) = (Uid::from_raw(self.owner.uid), Gid::from_raw(self.owner.gid));
            fchown(&made.file, Some(uid), Some(gid)).map_err(|errno| unwritable(errno.desc()))?;
        }
        Ok(made)
    }

    /// Removes a file where it is there: one that a worker left that was killed.
    pub fn remove(&self, name: &str) {
        let _absent = unlinkat(&self.directory, name, UnlinkatFlags::NoRemoveDir);
    }

    /// At most so many bytes of a file there.
    ///
    /// # Errors
    /// It cannot be read, or is not a file.
    pub fn read(&self, name: &str, most: u64) -> io::Result<Vec<u8>> {
        proc::read_bounded(self.path(name), most)
    }
}

/// A file in the `/tmp` of a process.
pub struct Made<'p> {
    place: &'p Place,
    name: String,
    file: File,
}

impl Made<'_> {
    /// The file, to write to it.
    pub fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// What the process has written to it.
    ///
    /// # Errors
    /// More than so many bytes, or the system's.
    pub fn content(&mut self, most: u64) -> io::Result<Vec<u8>> {
        if self.file.metadata()?.len() > most {
            return Err(io::Error::other(format!("it has more than {most} bytes")));
        }
        let mut bytes = Vec::new();
        self.file.seek(SeekFrom::Start(0))?;
        (&self.file).take(most).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

impl Drop for Made<'_> {
    fn drop(&mut self) {
        self.place.remove(&self.name);
    }
}

fn refused(pid: i32, errno: Errno) -> Failure {
    match errno {
        Errno::EACCES | Errno::EPERM => {
            let text = format!(
                "no permission to look into /tmp of Java process {pid}; run the agent as the target's user and \
                 group (securityContext.runAsUser, runAsGroup)"
            );
            Failure::new(FailureReason::PermissionDenied, text)
        }
        _ => {
            let text = format!(
                "Java process {pid} has no usable directory /tmp ({}), through which Java takes commands; mount an \
                 emptyDir at /tmp",
                errno.desc()
            );
            Failure::new(FailureReason::UnsupportedRuntime, text)
        }
    }
}

fn unwritable(why: &str) -> Failure {
    let text = format!(
        "no file can be made in /tmp of the Java process ({why}), through which Java takes commands; mount an \
         emptyDir at /tmp"
    );
    Failure::new(FailureReason::UnsupportedRuntime, text)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn here() -> Place {
        Place::open(i32::try_from(std::process::id()).unwrap()).unwrap()
    }

    #[test]
    fn a_file_is_made_new_read_and_removed() {
        let place = here();
        let name = format!(".fleetprof-test-{}", std::process::id());
        let shown = PathBuf::from("/tmp").join(&name);
        std::os::unix::fs::symlink("/etc/passwd", &shown).unwrap();
        let mut made = place.make(&name).unwrap();
        made.file().write_all(b"hello").unwrap();
        assert_eq!(std::fs::read(&shown).unwrap(), b"hello", "the link was replaced, not followed");
        std::fs::write(&shown, b"written by the process").unwrap();
        assert_eq!(made.content(100).unwrap(), b"written by the process");
        assert!(made.content(5).is_err());
        drop(made);
        assert!(std::fs::symlink_metadata(&shown).is_err());
    }

    #[test]
    fn a_process_that_is_gone_is_said_so() {
        assert_eq!(Place::open(i32::MAX).unwrap_err().reason, FailureReason::NoSuchProcess);
    }

    #[test]
    fn an_obstacle_says_what_helps() {
        assert_eq!(refused(7, Errno::EACCES).reason, FailureReason::PermissionDenied);
        for failure in [refused(7, Errno::ELOOP), unwritable("read-only file system")] {
            assert_eq!(failure.reason, FailureReason::UnsupportedRuntime);
            assert!(failure.message.contains("mount an emptyDir at /tmp"), "{failure}");
        }
    }
}
