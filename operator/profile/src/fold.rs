//! What are the stacks as folded text, which flame graph tools read?

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::proto::Profile;
use crate::text::printable;
use crate::view::{Symbols, value};

/// One line a stack, root first, frames parted by `;`, then a space and the sum of the value at
/// `value_index`; sorted. A `;` in a name becomes `:`, a control character `\u{fffd}`. Stacks without a frame
/// are `[no stack]`.
pub fn fold(profile: &Profile, value_index: usize) -> String {
    let symbols = Symbols::new(profile);
    let names: Vec<String> =
        symbols.names.iter().map(|(name, _)| printable(name).replace(';', ":")).collect();
    let mut stacks: BTreeMap<Vec<usize>, i64> = BTreeMap::new();
    for sample in &profile.sample {
        let mut stack: Vec<usize> = symbols.frames(sample).map(|place| place.name).collect();
        stack.reverse();
        let sum = stacks.entry(stack).or_insert(0);
        *sum = sum.saturating_add(value(sample, value_index));
    }
    let mut lines: BTreeMap<String, i64> = BTreeMap::new();
    for (stack, value) in stacks.into_iter().filter(|(_, value)| *value != 0) {
        let sum = lines.entry(line(&stack, &names)).or_insert(0);
        *sum = sum.saturating_add(value);
    }
    let mut text = String::new();
    for (stack, value) in lines {
        let _ = writeln!(text, "{stack} {value}");
    }
    text
}

fn line(stack: &[usize], names: &[String]) -> String {
    if stack.is_empty() {
        return "[no stack]".to_owned();
    }
    let frames: Vec<&str> =
        stack.iter().filter_map(|number| names.get(*number)).map(String::as_str).collect();
    frames.join(";")
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
}
