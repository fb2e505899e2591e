//! Which frames do Python stacks hold? Each has a number, so that equal stacks are equal short lists.

use std::collections::HashMap;

use fleetprof_profile::Frame;
use py_spy::StackTrace;

/// Deepest stack that is kept; the profile cuts further.
pub const MAX_DEPTH: usize = 1024;
/// Different stacks of one slice that are kept; later ones go to one that says so.
pub const MAX_STACKS: usize = 50_000;
/// The frame for stacks beyond [`MAX_STACKS`].
pub const TRUNCATED: &str = "[truncated]";

/// Function, file and line of a frame.
pub type FrameKey = (String, String, i32);

/// Samples and nanoseconds of a stack.
#[derive(Clone, Copy, Default)]
pub struct Weight {
    /// Samples.
    pub samples: u64,
    /// Nanoseconds.
    pub nanos: u64,
}

impl Weight {
    /// Adds one sample.
    pub fn add(&mut self, nanos: u64) {
        self.samples += 1;
        self.nanos = self.nanos.saturating_add(nanos);
    }
}

/// The frames since the last slice by their numbers.
#[derive(Default)]
pub struct FrameNumbers(HashMap<FrameKey, u32>);

impl FrameNumbers {
    /// The stack of a thread in numbers, leaf first.
    pub fn stack(&mut self, trace: &StackTrace) -> Vec<u32> {
        trace.frames.iter().take(MAX_DEPTH).map(|f| self.frame(&f.name, &f.filename, f.line)).collect()
    }

    /// The number of a frame.
    pub fn frame(&mut self, name: &str, file: &str, line: i32) -> u32 {
        let next = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        *self.0.entry((name.to_owned(), file.to_owned(), line)).or_insert(next)
    }

    /// Forgets all numbers, and gives back their frames in order.
    pub fn take(&mut self) -> Vec<FrameKey> {
        let mut frames: Vec<(FrameKey, u32)> = std::mem::take(&mut self.0).into_iter().collect();
        frames.sort_unstable_by_key(|(_, number)| *number);
        frames.into_iter().map(|(key, _)| key).collect()
    }
}

/// The stacks that were sampled since the last slice.
#[derive(Default)]
pub struct Stacks(HashMap<Vec<u32>, Weight>);

impl Stacks {
    /// Adds a sample.
    pub fn add(&mut self, mut stack: Vec<u32>, nanos: u64, frames: &mut FrameNumbers) {
        if self.0.len() >= MAX_STACKS && !self.0.contains_key(&stack) {
            stack = vec![frames.frame(TRUNCATED, "", 0)];
        }
        self.0.entry(stack).or_default().add(nanos);
    }

    /// Forgets all samples, and gives them back in order.
    pub fn take(&mut self) -> Vec<(Vec<u32>, Weight)> {
        let mut stacks: Vec<_> = self.0.drain().collect();
        stacks.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        stacks
    }
}

/// The frames of a stack of numbers.
pub fn frames_of<'f>(stack: &[u32], frames: &'f [FrameKey]) -> Vec<Frame<'f>> {
    stack.iter().filter_map(|number| frames.get(*number as usize)).map(frame_of).collect()
}

/// A frame of the profile.
///
/// Viewers take `<module>` and `<lambda>` for C++ templates and cut them, unless the linker's name differs:
/// the file is used instead.
fn frame_of((name, file, line): &FrameKey) -> Frame<'_> {
    let mut frame = Frame::named(name, file, i64::from((*line).max(0)));
    if name.contains('<') {
        frame.system_name = file;
    }
    frame
}
