//! What is the sample label of a process? Its name, without what others make of it.
//!
//! A destination may keep a series for each value of a label, and a process can take any name it likes: so
//! the names are few and short. Arguments of a command are never in it: they may be secrets.

use std::collections::BTreeSet;

use super::protocol::bounded;

/// The label's key.
pub const KEY: &str = "process";
/// Most different names of a capture.
const MAX_NAMES: usize = 16;
/// Most bytes of a name. The kernel keeps 15.
const MAX_BYTES: usize = 32;
/// The value for the processes beyond [`MAX_NAMES`] names.
const OTHER: &str = "other";
/// The value for a process whose name has no character that can be shown.
const NAMELESS: &str = "unnamed";

/// The names of a capture so far.
#[derive(Debug, Default)]
pub struct ProcessNames(BTreeSet<String>);

impl ProcessNames {
    /// The label of a process of this name.
    pub fn label(&mut self, command: &str) -> String {
        let shown: String = command.chars().filter(|c| !c.is_control() && *c != '\u{fffd}').collect();
        let name = match bounded(shown.trim().to_owned(), MAX_BYTES) {
            empty if empty.is_empty() => NAMELESS.to_owned(),
            name => name,
        };
        if self.0.len() >= MAX_NAMES && !self.0.contains(&name) {
            return OTHER.to_owned();
        }
        self.0.insert(name.clone());
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_short_and_can_be_shown() {
        let mut names = ProcessNames::default();
        let cases = [
            ("gunicorn: worke", "gunicorn: worke"),
            ("a\u{1b}[31m\n", "a[31m"),
            ("\u{fffd}\u{7}", "unnamed"),
            ("", "unnamed"),
        ];
        for (command, wanted) in cases {
            assert_eq!(names.label(command), wanted);
        }
        assert!(names.label(&"ä".repeat(100)).len() <= MAX_BYTES);
    }

    #[test]
    fn there_are_few_names() {
        let mut names = ProcessNames::default();
        let labels: BTreeSet<String> = (0..100).map(|n| names.label(&format!("job-{n}"))).collect();
        assert_eq!(labels.len(), MAX_NAMES + 1);
        assert!(labels.contains(OTHER));
        assert_eq!(names.label("job-3"), "job-3", "a name that is known stays");
    }
}
