//! Which methods allocate memory?

use std::collections::HashMap;

use super::{Limits, Place};
use crate::builder::{Frame, ProfileBuilder};
use crate::kind::ProfileKind;
use crate::proto::Profile;

/// The frame for code whose method is not known.
const UNNAMED: &str = "[anon]";
/// The frame for allocations of the runtime itself.
const RUNTIME: &str = "[.NET runtime]";
/// Says in a profile what its counts are worth.
const COUNTS: &str = "The runtime reports about one allocation in 100 KB. alloc_space is the bytes since the \
                      report before; alloc_objects estimates objects by the size of the one reported.";

/// Sums of allocations by stack.
#[derive(Debug)]
pub struct Allocations {
    sums: HashMap<Box<[u64]>, [u64; 2]>,
    most: usize,
}

impl Allocations {
    /// No allocations.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { sums: HashMap::new(), most: limits.stacks }
    }

    /// Adds what [`Event::Allocation`](super::Event::Allocation) says. Stacks beyond the limit are one.
    pub fn add(&mut self, bytes: u64, object: u64, stack: &[u64]) {
        let objects = bytes.checked_div(object).unwrap_or(1).max(1);
        let is_full = self.sums.len() >= self.most && !self.sums.contains_key(stack);
        let sum = self.sums.entry(if is_full { Box::default() } else { stack.into() }).or_default();
        for (total, value) in sum.iter_mut().zip([objects, bytes]) {
            *total = total.saturating_add(value);
        }
    }

    /// Makes a profile of what was added since the last one; it began at `start_nanos` since 1970. What is at
    /// an address is asked of `place`.
    #[must_use]
    pub fn take(&mut self, place: &dyn Fn(u64) -> Option<Place>, start_nanos: i64) -> Profile {
        let mut builder = ProfileBuilder::new(ProfileKind::Alloc, 1, start_nanos);
        let mut sums: Vec<_> = self.sums.drain().collect();
        sums.sort_unstable();
        for (stack, values) in sums {
            let unnamed = || Place::named(UNNAMED.into());
            let places: Vec<Place> = stack
                .iter()
                .map(|address| place(address.saturating_sub(1)).unwrap_or_else(unnamed))
                .collect();
            let mut frames: Vec<Frame<'_>> = places.iter().map(Place::frame).collect();
            if frames.is_empty() {
                frames.push(Frame::named(RUNTIME, "", 0));
            }
            // Values are right in number and sign.
            let _added = builder.add(&frames, &values.map(|v| i64::try_from(v).unwrap_or(i64::MAX)), &[]);
        }
        builder.finish(0, &[COUNTS])
    }
}
