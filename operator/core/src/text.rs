//! How does a text read as a sentence, and how is it kept within what a field may hold?

use std::fmt::Display;

use fleetprof_crds::Reason;

/// `cause; advice.`, or `cause.` where the reason needs nothing done.
#[must_use]
pub fn advised(cause: impl Display, reason: Reason) -> String {
    match reason.advice() {
        "" => format!("{cause}."),
        advice => format!("{cause}; {advice}."),
    }
}

/// `text`, cut at a character with an ellipsis where it has more than `bytes` bytes; `bytes` is at least 3.
#[must_use]
pub fn cut(text: &str, bytes: usize) -> String {
    if text.len() <= bytes {
        return text.to_owned();
    }
    let end = (0..=bytes.saturating_sub(3)).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
    format!("{}…", &text[..end])
}

/// `1 pod runs`, `2 pods run`: the number with what follows one, or any other.
#[must_use]
pub fn counted(n: usize, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

/// `text` with a capital and a full stop; nothing of nothing.
#[must_use]
pub fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or(String::new(), |c| format!("{}{}.", c.to_uppercase(), chars.as_str()))
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
