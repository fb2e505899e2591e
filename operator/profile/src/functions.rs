//! Which functions do several profiles share? One number for each name and file, after the profiles are gone.

use std::collections::HashMap;
use std::sync::Arc;

use crate::text::clipped;
use crate::view::Name;

/// Most functions that are told apart, and most bytes of their texts: what a hostile profile can make a
/// reader hold beside the profile itself.
const MAX_FUNCTIONS: usize = 200_000;
const MAX_BYTES: usize = 12 << 20;

/// Numbers of functions. Names and files are cut to [`crate::text::MAX_NAME`] characters and held once.
#[derive(Debug, Clone, Default)]
pub(crate) struct Functions {
    texts: Vec<Arc<str>>,
    known_texts: HashMap<Arc<str>, u32>,
    bytes: usize,
    /// Name and file as numbers of texts.
    functions: Vec<(u32, u32)>,
    known: HashMap<(u32, u32), u32>,
}

impl Functions {
    /// The number of a function; `None` when no more are told apart.
    pub(crate) fn number(&mut self, (name, file): &Name<'_>) -> Option<u32> {
        let key = (self.text(name)?, self.text(file)?);
        if let Some(number) = self.known.get(&key) {
            return Some(*number);
        }
        let number =
            u32::try_from(self.functions.len()).ok().filter(|_| self.functions.len() < MAX_FUNCTIONS)?;
        self.functions.push(key);
        self.known.insert(key, number);
        Some(number)
    }

    /// A function's name.
    pub(crate) fn name(&self, number: u32) -> &str {
        self.part(number, |(name, _)| name)
    }

    /// A function's file, or empty.
    pub(crate) fn file(&self, number: u32) -> &str {
        self.part(number, |(_, file)| file)
    }

    /// Name and file, to order functions by.
    pub(crate) fn texts(&self, number: u32) -> (&str, &str) {
        (self.name(number), self.file(number))
    }

    fn part(&self, number: u32, part: impl Fn((u32, u32)) -> u32) -> &str {
        let text = self.functions.get(number as usize).and_then(|key| self.texts.get(part(*key) as usize));
        text.map_or("", |text| text)
    }

    fn text(&mut self, text: &str) -> Option<u32> {
        let text = clipped(text);
        if let Some(number) = self.known_texts.get(&*text) {
            return Some(*number);
        }
        if self.bytes + text.len() > MAX_BYTES {
            return None;
        }
        let number = u32::try_from(self.texts.len()).ok()?;
        let owned: Arc<str> = text.into();
        self.bytes += owned.len();
        self.texts.push(owned.clone());
        self.known_texts.insert(owned, number);
        Some(number)
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;
    use crate::text::MAX_NAME;

    #[test]
    fn a_function_is_its_name_and_its_file() {
        let mut functions = Functions::default();
        let mut number = |name: &'static str, file| functions.number(&(Cow::Borrowed(name), file));
        assert_eq!(number("run", "a.py"), Some(0));
        assert_eq!(number("run", "b.py"), Some(1));
        assert_eq!(number("run", "a.py"), Some(0));
        assert_eq!(functions.texts(1), ("run", "b.py"));
        assert_eq!(functions.texts(7), ("", ""));
    }

    #[test]
    fn long_texts_are_cut_and_not_too_many_are_held() {
        let mut functions = Functions::default();
        let long = "ä".repeat(10 * MAX_NAME);
        let number = functions.number(&(Cow::Borrowed(&long), &long)).expect("the first");
        assert_eq!(functions.name(number).chars().count(), MAX_NAME);
        let many = (0..100_000).map(|n| functions.number(&(Cow::Owned(format!("{n}{long}")), "")));
        assert!(many.filter(Option::is_none).count() > 50_000);
        assert!(functions.bytes <= MAX_BYTES);
    }
}
