//! What are the stacks as folded text, which flame graph tools read?

use std::collections::BTreeMap;

use crate::basis::Side;
use crate::proto::Profile;
use crate::text::printable;
use crate::tree::{CallTree, TreeLimits};

/// The frame that stands for what was pruned below a function.
pub const PRUNED: &str = "[pruned]";

/// The text would be longer than its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the folded stacks would have more than {0} bytes")]
pub struct TooLong(pub usize);

impl CallTree {
    /// One line a stack, root first, frames parted by `;`, then a space and the value; sorted. A `;` in a
    /// name becomes `:`, a control character `\u{fffd}`. What was pruned below a function is a frame
    /// [`PRUNED`].
    ///
    /// # Errors
    /// The text would have more than `most` bytes.
    pub fn fold(&self, most: usize) -> Result<String, TooLong> {
        let mut lines: BTreeMap<String, i64> = BTreeMap::new();
        let (mut way, mut ends, mut bytes) = (String::new(), vec![0_usize], 0_usize);
        for row in &self.rows {
            if row.depth > 0 {
                ends.truncate(row.depth as usize);
                way.truncate(ends.last().copied().unwrap_or(0));
                if !way.is_empty() {
                    way.push(';');
                }
                way.push_str(&printable(self.name(row)).replace(';', ":"));
                ends.push(way.len());
            }
            let counted = row.counted[Side::After as usize];
            let pruned = if way.is_empty() { PRUNED.to_owned() } else { format!("{way};{PRUNED}") };
            for (line, value) in [(way.as_str(), counted.own), (&pruned, counted.pruned)] {
                if value == 0 {
                    continue;
                }
                // A value has up to 20 digits.
                bytes += line.len() + 22;
                if bytes > most {
                    return Err(TooLong(most));
                }
                let sum = lines.entry(line.to_owned()).or_insert(0);
                *sum = sum.saturating_add(value);
            }
        }
        Ok(lines.into_iter().map(|(line, value)| format!("{line} {value}\n")).collect())
    }
}

/// The stacks of a profile by the value at `value_index`, see [`CallTree::fold`].
pub fn fold(profile: &Profile, value_index: usize) -> String {
    CallTree::of(profile, value_index, TreeLimits::default()).fold(usize::MAX).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builder::{Frame, Line, ProfileBuilder};
    use crate::kind::ProfileKind;
    use crate::testing::cpu;

    #[test]
    fn stacks_are_root_first_and_added_up() {
        let profile = cpu(&[(&["b", "main"], 2), (&["c", "b", "main"], 1), (&["main"], 3)]);
        assert_eq!(fold(&profile, 0), "main 3\nmain;b 2\nmain;b;c 1\n");
    }

    #[test]
    fn names_cannot_break_a_line_and_inlined_frames_have_their_place() {
        let mut builder = ProfileBuilder::new(ProfileKind::Cpu, 1, 0);
        let inlined = vec![Line { function: "in;ner", ..Line::default() }];
        let frame = Frame { inlined, ..Frame::named("out\ner", "a.rs", 1) };
        builder.add_hits(&[frame], 1, &[]).expect("a sample");
        builder.add_hits(&[], 4, &[]).expect("a sample without a stack");
        let profile = builder.finish(1, &[]);
        assert_eq!(fold(&profile, 0), "[no stack] 4\nout\u{fffd}er;in:ner 1\n");
    }

    #[test]
    fn functions_of_one_name_in_two_files_share_a_line() {
        let mut builder = ProfileBuilder::new(ProfileKind::Cpu, 1, 0);
        builder.add_hits(&[Frame::named("run", "a.py", 1)], 1, &[]).expect("a sample");
        builder.add_hits(&[Frame::named("run", "b.py", 1)], 2, &[]).expect("a sample");
        assert_eq!(fold(&builder.finish(1, &[]), 0), "run 3\n");
    }

    #[test]
    fn what_was_pruned_is_said_and_the_text_is_bounded() {
        let profile = cpu(&[(&["c", "b", "main"], 1), (&["b", "main"], 2), (&["a"], 1)]);
        let tree = CallTree::of(&profile, 0, TreeLimits { nodes: 3, ..TreeLimits::default() });
        assert_eq!(tree.fold(1_000), Ok("[pruned] 1\nmain;b 2\nmain;b;[pruned] 1\n".to_owned()));
        assert_eq!(tree.fold(60), Err(TooLong(60)));
    }
}
