//! How is memory of the target read? Many places in one system call, without stopping it; where a filter of system
//! calls refuses that one, place by place through the file of the memory.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::unix::fs::FileExt;
use std::rc::Rc;

use nix::errno::Errno;
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::Pid;

/// Most places of one system call (`IOV_MAX`).
const MAX_PLACES: usize = 1024;

/// A place in the target's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Where it begins.
    pub address: u64,
    /// Its bytes.
    pub len: usize,
}

impl Place {
    /// Whether it holds `len` bytes from `address` on, and where in it they begin.
    pub fn offset_of(&self, address: u64, len: usize) -> Option<usize> {
        let offset = usize::try_from(address.checked_sub(self.address)?).ok()?;
        (offset.checked_add(len)? <= self.len).then_some(offset)
    }
}

/// The memory of a process.
#[derive(Clone, Debug)]
pub enum Memory {
    /// By `process_vm_readv`.
    Call(Pid),
    /// By `/proc/PID/mem`.
    File(Rc<File>),
}

impl Memory {
    /// The memory of a process; `address` is one that can be read.
    ///
    /// # Errors
    /// The process is gone, or may not be read.
    pub fn of(pid: i32, address: u64) -> io::Result<Self> {
        let call = Self::Call(Pid::from_raw(pid));
        match call.word(address) {
            Err(e) if matches!(e.raw_os_error(), Some(libc::EPERM | libc::ENOSYS)) => Self::by_file(pid),
            other => other.map(|_| call),
        }
    }

    fn by_file(pid: i32) -> io::Result<Self> {
        File::open(format!("/proc/{pid}/mem")).map(Rc::new).map(Self::File)
    }

    /// Fills `into` from `address` on.
    ///
    /// # Errors
    /// Not all of it can be read.
    pub fn read(&self, address: u64, into: &mut [u8]) -> io::Result<()> {
        let wanted = Place { address, len: into.len() };
        let n = match self {
            Self::Call(pid) => process_vm_readv(*pid, &mut [IoSliceMut::new(into)], &[remote(&wanted)])?,
            Self::File(file) => file.read_at(into, address)?,
        };
        if n == wanted.len { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    /// The word at `address`.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn word(&self, address: u64) -> io::Result<u64> {
        let mut bytes = [0; 8];
        self.read(address, &mut bytes)?;
        Ok(u64::from_ne_bytes(bytes))
    }

    /// Reads places one after another into `into`, which is as long as all of them; says of each whether it
    /// was read.
    ///
    /// # Errors
    /// The process is gone, or may not be read.
    pub fn read_all(&self, places: &[Place], into: &mut [u8]) -> io::Result<Vec<bool>> {
        let Self::Call(pid) = self else {
            let mut rest = into;
            let one = |place: &Place| {
                let (part, left) = std::mem::take(&mut rest).split_at_mut_checked(place.len)?;
                rest = left;
                Some(self.read(place.address, part).is_ok())
            };
            return Ok(places.iter().map_while(one).collect());
        };
        let mut read = Vec::with_capacity(places.len());
        let mut rest = into;
        while let Some(left) = places.get(read.len()..).filter(|left| !left.is_empty()) {
            let left = left.get(..MAX_PLACES).unwrap_or(left);
            let remote: Vec<RemoteIoVec> = left.iter().map(remote).collect();
            let n = match process_vm_readv(*pid, &mut [IoSliceMut::new(rest)], &remote) {
                Err(Errno::EFAULT) => 0,
                other => other?,
            };
            let mut done = 0;
            for place in left {
                done += place.len;
                read.push(done <= n);
                // What follows one that cannot be read was not tried.
                if done > n {
                    break;
                }
            }
            rest = rest.get_mut(done..).unwrap_or_default();
        }
        Ok(read)
    }
}

fn remote(place: &Place) -> RemoteIoVec {
    RemoteIoVec { base: usize::try_from(place.address).unwrap_or(0), len: place.len }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_that_cannot_be_read_keep_no_other_from_being_read() {
        let (a, b) = ([1_u8, 2, 3], [4_u8, 5]);
        let me = std::process::id().cast_signed();
        let memory = [Memory::of(me, a.as_ptr() as u64).unwrap(), Memory::by_file(me).unwrap()];
        assert!(matches!(memory[0], Memory::Call(_)));
        for memory in memory {
            reads(&memory, a, b);
        }
        assert!(Memory::of(i32::MAX, 16).is_err());
    }

    fn reads(memory: &Memory, a: [u8; 3], b: [u8; 2]) {
        let place = |bytes: &[u8]| Place { address: bytes.as_ptr() as u64, len: bytes.len() };
        let places =
            [place(&a), Place { address: 8, len: 2 }, place(&b), Place { address: u64::MAX, len: 1 }];
        let mut into = [0; 8];
        assert_eq!(memory.read_all(&places, &mut into).unwrap(), [true, false, true, false]);
        assert_eq!((&into[..3], &into[5..7]), (&[1, 2, 3][..], &[4, 5][..]));
        let many = vec![place(&b); 3000];
        let mut into = vec![0; 6000];
        assert_eq!(memory.read_all(&many, &mut into).unwrap(), vec![true; 3000]);
        assert!(into.chunks(2).all(|pair| pair == [4, 5]));
        assert_eq!(memory.word([7_u64].as_ptr() as u64).unwrap(), 7);
        assert!(memory.word(16).is_err());
    }

    #[test]
    fn a_place_knows_what_it_holds() {
        let place = Place { address: 100, len: 10 };
        let cases =
            [(100, 10, Some(0)), (104, 6, Some(4)), (104, 7, None), (99, 1, None), (u64::MAX, 1, None)];
        for (address, len, wanted) in cases {
            assert_eq!(place.offset_of(address, len), wanted, "{address} {len}");
        }
    }
}
