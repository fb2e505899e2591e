//! How are messages formatted and limited in length?

use std::fmt::Display;

use fleetprof_crds::Reason;

/// `cause; advice.`, or `cause.` if the reason has no advice.
#[must_use]
pub fn advised(cause: impl Display, reason: Reason) -> String {
    match reason.advice() {
        "" => format!("{cause}."),
        advice => format!("{cause}; {advice}."),
    }
}

/// `text`, truncated at a character boundary with an ellipsis if longer than `bytes` bytes; `bytes` is at
/// least 3.
#[must_use]
pub fn cut(text: &str, bytes: usize) -> String {
    if text.len() <= bytes {
        return text.to_owned();
    }
    let end = (0..=bytes.saturating_sub(3)).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
    format!("{}…", &text[..end])
}

/// A number with a singular or plural: `1 pod runs`, `2 pods run`.
#[must_use]
pub fn counted(n: usize, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

/// `text` with a capital letter and a full stop; empty text stays empty.
#[must_use]
pub fn sentence(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("{}.", capital(text)) }
}

/// `text` with a capital letter.
#[must_use]
pub fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or(String::new(), |c| format!("{}{}", c.to_uppercase(), chars.as_str()))
}

/// Whether a character of a stranger's text does not belong into a status, an event or a log: control characters
/// drive terminals; line separators and direction marks make a line read as what it is not.
#[must_use]
pub fn is_unprintable(char: char) -> bool {
    char.is_control()
        || matches!(char, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// A stranger's text on one line: without characters that are [unprintable](is_unprintable), and with one space
/// where there was a line break.
#[must_use]
pub fn printable(text: &str) -> String {
    let lines = text.lines().map(|line| line.chars().filter(|char| !is_unprintable(*char)).collect());
    lines.collect::<Vec<String>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_advice_follows_its_cause_where_there_is_one() {
        assert_eq!(advised("The pod ended", Reason::PodGone), "The pod ended.");
        assert_eq!(advised("There is none", Reason::TargetNotFound), "There is none; check spec.target.");
    }

    #[test]
    fn a_strangers_text_is_one_printable_line() {
        assert_eq!(printable("\u{1b}[31mred\u{7}\r\nnext\u{202e}txt.exe"), "[31mred nexttxt.exe");
        assert_eq!(printable("naïve – fine"), "naïve – fine");
    }

    #[test]
    fn one_is_no_plural() {
        let of = |n| counted(n, "pod runs", "pods run");
        assert_eq!([of(0), of(1), of(2)], ["0 pods run", "1 pod runs", "2 pods run"]);
    }

    #[test]
    fn a_text_is_cut_at_a_character() {
        assert_eq!((cut("abc", 3), cut("abcd", 3), cut("äääää", 6)), ("abc".into(), "…".into(), "ä…".into()));
        assert!(cut(&"é".repeat(400), 512).len() <= 512);
    }
}
