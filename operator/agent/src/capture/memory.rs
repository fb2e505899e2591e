//! What is in the memory of a process? Reads of it without stopping it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Memory that can be read.
pub trait Memory {
    /// Fills the buffer from an address; false where that is not possible.
    fn read(&self, address: u64, buffer: &mut [u8]) -> bool;

    /// The word at an address.
    fn word(&self, address: u64) -> Option<u64> {
        let mut bytes = [0; 8];
        self.read(address, &mut bytes).then(|| u64::from_le_bytes(bytes))
    }

    /// The half word at an address.
    fn half(&self, address: u64) -> Option<u32> {
        let mut bytes = [0; 4];
        self.read(address, &mut bytes).then(|| u32::from_le_bytes(bytes))
    }
}

/// That of a process.
pub struct ProcessMemory(File);

impl ProcessMemory {
    /// Opens it.
    ///
    /// # Errors
    /// The process is gone, or may not be looked at.
    pub fn open(pid: i32) -> io::Result<Self> {
        File::open(format!("/proc/{pid}/mem")).map(Self)
    }
}

impl Memory for ProcessMemory {
    fn read(&self, address: u64, buffer: &mut [u8]) -> bool {
        self.0.read_exact_at(buffer, address).is_ok()
    }
}
