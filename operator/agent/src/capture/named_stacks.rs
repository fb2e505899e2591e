//! How are the stacks of an interpreter kept until the slice is written? Frames have numbers, so that equal
//! stacks are equal short lists.

use std::collections::HashMap;
use std::hash::Hash;

use fleetprof_profile::Frame;

use super::protocol::bounded;

/// Deepest stack that is kept; the profile cuts further.
pub const MAX_DEPTH: usize = 1024;
/// Different stacks of one slice that are kept; later ones go to one that says so.
const MAX_STACKS: usize = 50_000;
/// Different frames of one slice that are kept.
const MAX_FRAMES: usize = 100_000;
/// Most bytes of a name, and of the path of a file.
const MAX_NAME: usize = 512;
const MAX_PATH: usize = 1024;
/// The frame for stacks and frames beyond these bounds.
const TRUNCATED: &str = "[truncated]";

/// Function, file and line of a frame; the line is 0 where it is not known.
pub type FrameKey = (String, String, u32);

/// The number of a frame.
pub type FrameId = u32;

/// The frames of one slice.
#[derive(Debug, Default)]
pub struct Frames {
    numbers: HashMap<FrameKey, FrameId>,
}

impl Frames {
    /// The number of a frame. Names come from a target: they are cut, and hold no control characters.
    pub fn number(&mut self, name: &str, file: &str, line: u32) -> FrameId {
        let key = (clean(name, MAX_NAME), clean(file, MAX_PATH), line);
        let known = self.numbers.get(&key).copied();
        match known {
            Some(number) => number,
            None if self.numbers.len() >= MAX_FRAMES => self.add((TRUNCATED.to_owned(), String::new(), 0)),
            None => self.add(key),
        }
    }

    fn add(&mut self, key: FrameKey) -> FrameId {
        let next = FrameId::try_from(self.numbers.len()).unwrap_or(FrameId::MAX);
        *self.numbers.entry(key).or_insert(next)
    }

    /// The frames by their numbers; others in their place where `other` gives some for their names.
    pub fn renamed(self, other: &dyn Fn(&str) -> Option<FrameKey>) -> Vec<FrameKey> {
        let mut all: Vec<(FrameId, FrameKey)> = self.numbers.into_iter().map(|(key, n)| (n, key)).collect();
        all.sort_unstable_by_key(|(n, _)| *n);
        let key = |old: FrameKey| {
            let new = other(&old.0);
            new.map_or(old, |(name, file, line)| (clean(&name, MAX_NAME), clean(&file, MAX_PATH), line))
        };
        all.into_iter().map(|(_, old)| key(old)).collect()
    }

    /// The frames by their numbers.
    pub fn by_number(&self) -> Vec<&FrameKey> {
        let mut all: Vec<(FrameId, &FrameKey)> = self.numbers.iter().map(|(key, n)| (*n, key)).collect();
        all.sort_unstable_by_key(|(n, _)| *n);
        all.into_iter().map(|(_, key)| key).collect()
    }
}

fn clean(text: &str, most: usize) -> String {
    let shown: String = text.chars().take(most).filter(|c| !c.is_control()).collect();
    bounded(shown, most)
}

/// A frame of the profile.
///
/// Viewers take `<main>` and `<class:Order>` for C++ templates and cut them, unless the linker's name differs:
/// the file is used instead.
pub fn frame_of((name, file, line): &FrameKey) -> Frame<'_> {
    let mut frame = Frame::named(name, file, i64::from(*line));
    if name.contains('<') {
        frame.system_name = file;
    }
    frame
}

/// Samples and nanoseconds of a stack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weight {
    /// Samples.
    pub samples: u64,
    /// Nanoseconds.
    pub nanos: u64,
}

impl Weight {
    /// Adds one sample.
    pub fn add(&mut self, nanos: u64) {
        self.add_many(Self { samples: 1, nanos });
    }

    /// Adds several.
    pub fn add_many(&mut self, more: Self) {
        self.samples = self.samples.saturating_add(more.samples);
        self.nanos = self.nanos.saturating_add(more.nanos);
    }
}

/// The stacks since the last slice, told apart by a `K` as well.
#[derive(Debug)]
pub struct Stacks<K = ()>(HashMap<(K, Vec<FrameId>), Weight>);

impl<K> Default for Stacks<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Copy + Ord + Hash> Stacks<K> {
    /// Adds a sample of a stack, leaf first, that is worth so much time.
    pub fn add(&mut self, key: K, stack: Vec<FrameId>, nanos: u64, frames: &mut Frames) {
        self.add_many(key, stack, Weight { samples: 1, nanos }, frames);
    }

    /// Adds several samples of a stack, leaf first.
    pub fn add_many(&mut self, key: K, mut stack: Vec<FrameId>, weight: Weight, frames: &mut Frames) {
        stack.truncate(MAX_DEPTH);
        let mut key = (key, stack);
        if self.0.len() >= MAX_STACKS && !self.0.contains_key(&key) {
            key.1 = vec![frames.number(TRUNCATED, "", 0)];
        }
        self.0.entry(key).or_default().add_many(weight);
    }

    /// Forgets all samples, and gives them back in order.
    pub fn take(&mut self) -> Vec<((K, Vec<FrameId>), Weight)> {
        let mut all: Vec<_> = std::mem::take(&mut self.0).into_iter().collect();
        all.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        all
    }
}

/// What to say where many reads of an interpreter failed.
pub fn torn_note(failed: u64, turns: u64) -> Option<String> {
    (failed * 10 > turns).then(|| {
        format!(
            "{failed} of {turns} reads of the interpreter failed because it kept running; the hottest code may be \
             underrepresented"
        )
    })
}

/// The frames of a stack.
pub fn resolve<'a>(stack: &[FrameId], names: &[&'a FrameKey]) -> Vec<Frame<'a>> {
    let frame = |n: &FrameId| names.get(usize::try_from(*n).ok()?).map(|key| frame_of(key));
    stack.iter().filter_map(frame).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_stacks_are_one_and_their_time_adds_up() {
        let (mut frames, mut stacks) = (Frames::default(), Stacks::default());
        for nanos in [3, 4] {
            let stack =
                vec![frames.number("price", "orders.php", 7), frames.number("<main>", "orders.php", 90)];
            stacks.add((), stack, nanos, &mut frames);
        }
        let leaf = frames.number("price", "orders.php", 8);
        stacks.add((), vec![leaf], 5, &mut frames);
        let weights: Vec<_> = stacks.take().into_iter().map(|(_, weight)| weight).collect();
        let weight = |samples, nanos| Weight { samples, nanos };
        assert_eq!(weights, [weight(2, 7), weight(1, 5)]);
        assert_eq!(stacks.take(), [], "nothing is left");
    }

    #[test]
    fn names_of_a_target_are_bounded_and_so_is_their_number() {
        let mut frames = Frames::default();
        frames.number(&"ä".repeat(9999), "a\u{1b}[31m\n.php", 1);
        let (name, file, _) = frames.by_number()[0].clone();
        assert!(name.len() <= MAX_NAME && file == "a[31m.php", "{file}");
        for line in 0..=u32::try_from(MAX_FRAMES).unwrap() {
            frames.number("f", "f.php", line);
        }
        assert_eq!(frames.number("g", "g.php", 1), frames.number("h", "h.php", 2));
        assert_eq!(frames.numbers.len(), MAX_FRAMES + 1);
        let mut stacks = Stacks::default();
        (1..60_000_u32).for_each(|n| stacks.add((), vec![n], 1, &mut frames));
        assert_eq!(stacks.take().len(), MAX_STACKS + 1);
    }
}
