//! Where do the samples of perf events lie, and how are they taken out? In rings that the kernel writes and
//! we read.

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::AsRawFd;

use perf_event_open::count::Counter;
use perf_event_open::sample::Sampler as Ring;
use perf_event_open::sample::record::Record;
use perf_event_open::sample::record::sample::{Abi, Sample};

use super::registers::Registers;

/// Pages of a ring as power of two: at most 256 KiB, half of what the kernel lets a user lock for each CPU,
/// so that two captures of one user fit; at least 32 KiB, one sample.
const RING_PAGES: std::ops::RangeInclusive<u8> = 3..=6;
/// A ring of one of many processes as power of two: 64 KiB.
const SHARED_PAGES: u8 = 4;
/// Pages of all rings together as power of two: 16 MiB.
const ALL_RING_PAGES: u8 = 12;
/// Samples that are held until they are unwound: 16 MiB.
const MAX_HELD: usize = 1024;
/// `PERF_EVENT_IOC_SET_OUTPUT`: `_IO('$', 5)` on every architecture that the agent is built for.
const SET_OUTPUT: libc::c_ulong = 0x2405;

/// A sample as the kernel took it: registers and the stack from the stack pointer on.
pub type Raw = (Registers, Vec<u8>);

/// The open events of a target and their rings.
#[derive(Default)]
pub struct Rings {
    counters: Vec<Counter>,
    rings: HashMap<u32, (usize, Ring)>,
    held: Vec<Raw>,
    sharers: usize,
    /// Threads that were sampled.
    pub sampled: HashSet<i32>,
    /// Samples that were given away.
    pub taken: u64,
    /// Samples that the kernel took and had no room for, or that hold no stack.
    pub lost: u64,
}

impl Rings {
    /// No rings yet; `sharers` processes are sampled at a time.
    pub fn for_sharers(sharers: usize) -> Self {
        Self { sharers: sharers.max(1), ..Self::default() }
    }

    /// Pages of the largest ring as power of two.
    pub fn most_pages(&self) -> u8 {
        if self.sharers > 1 { SHARED_PAGES } else { *RING_PAGES.end() }
    }

    /// Closes all events; what was read stays.
    pub fn close(&mut self) {
        self.rings.clear();
        self.counters.clear();
    }

    /// Events that are open.
    pub fn events(&self) -> usize {
        self.counters.len()
    }

    /// Starts an event that writes to the ring `key`; the first of a ring opens it. `rings` is how many there
    /// will be.
    pub fn attach(&mut self, key: u32, counter: Counter, rings: usize) -> io::Result<()> {
        let owner = self.rings.get(&key).and_then(|(n, _)| self.counters.get(*n));
        if let Some(owner) = owner {
            redirect(&counter, owner)?;
        } else {
            let ring = open_ring(&counter, rings.saturating_mul(self.sharers.max(1)), self.most_pages())?;
            self.rings.insert(key, (self.counters.len(), ring));
        }
        counter.enable()?;
        self.counters.push(counter);
        Ok(())
    }

    /// Takes out what the kernel has written, and holds it.
    pub fn read(&mut self) {
        let Self { rings, held, sampled, lost, .. } = self;
        for (_, ring) in rings.values() {
            for (_, record) in ring.iter().into_iter().flatten() {
                match record {
                    Record::Sample(sample) => {
                        sampled
                            .extend(sample.record_id.task.as_ref().and_then(|t| i32::try_from(t.tid).ok()));
                        match raw_of(*sample) {
                            Some(raw) if held.len() < MAX_HELD => held.push(raw),
                            _ => *lost += 1,
                        }
                    }
                    Record::LostRecords(records) => *lost += records.lost_records,
                    Record::LostSamples(samples) => *lost += samples.lost_samples,
                    _ => {}
                }
            }
        }
    }

    /// Gives away what was read.
    pub fn take(&mut self) -> Vec<Raw> {
        self.taken += self.held.len() as u64;
        std::mem::take(&mut self.held)
    }
}

fn raw_of(sample: Sample) -> Option<Raw> {
    let (values, abi) = sample.user_regs?;
    // A 32-bit program has other registers and tables.
    (abi == Abi::_64).then_some(())?;
    Some((Registers::from_perf(&values)?, sample.user_stack.unwrap_or_default()))
}

/// The ring of an event: smaller where there are many, or where the kernel lets the user lock less.
fn open_ring(counter: &Counter, rings: usize, most: u8) -> io::Result<Ring> {
    let share = ALL_RING_PAGES
        .saturating_sub(u8::try_from(rings.max(1).next_power_of_two().ilog2()).unwrap_or(u8::MAX));
    let least = *RING_PAGES.start();
    let mut refusal = io::Error::from(io::ErrorKind::OutOfMemory);
    for pages in (least..=share.clamp(least, most)).rev() {
        match counter.sampler(pages) {
            Ok(ring) => return Ok(ring),
            Err(e) => refusal = e,
        }
    }
    Err(refusal)
}

/// Sends the samples of an event to the ring of another one.
#[allow(unsafe_code)]
fn redirect(counter: &Counter, owner: &Counter) -> io::Result<()> {
    // SAFETY: both are open perf events; the request takes a file descriptor and no pointer.
    let result =
        unsafe { libc::ioctl(counter.file().as_raw_fd(), SET_OUTPUT as _, owner.file().as_raw_fd()) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
