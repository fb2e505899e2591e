//! How are numbers and names formatted for people?

use std::borrow::Cow;

/// Most characters of a function's name or file in a view. Names of generic code reach hundreds.
pub const MAX_NAME: usize = 512;

/// A name of at most [`MAX_NAME`] characters; one that was cut ends with `…`.
pub(crate) fn clipped(name: &str) -> Cow<'_, str> {
    // A character has up to four bytes.
    if name.len() <= MAX_NAME || name.chars().nth(MAX_NAME).is_none() {
        return Cow::Borrowed(name);
    }
    Cow::Owned(name.chars().take(MAX_NAME - 1).chain(['…']).collect())
}

/// A name that is safe for terminals: control characters become `\u{fffd}`.
pub fn printable(name: &str) -> String {
    name.chars().map(|c| if is_unsafe(c) { '\u{fffd}' } else { c }).collect()
}

/// Control characters, and those that turn the direction of writing.
fn is_unsafe(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A value of `unit` (as pprof names units) in the largest unit that leaves it at 1 or more: `1.20s`,
/// `1.5kB`, `300`.
pub fn value_with_unit(value: i64, unit: &str) -> String {
    let scale: &[(f64, &str)] = match unit {
        "nanoseconds" | "ns" => {
            &[(3.6e12, "hrs"), (6e10, "mins"), (1e9, "s"), (1e6, "ms"), (1e3, "us"), (1.0, "ns")]
        }
        "microseconds" | "us" => &[(3.6e9, "hrs"), (6e7, "mins"), (1e6, "s"), (1e3, "ms"), (1.0, "us")],
        "milliseconds" | "ms" => &[(3.6e6, "hrs"), (6e4, "mins"), (1e3, "s"), (1.0, "ms")],
        "bytes" => &[
            (1_099_511_627_776.0, "TB"),
            (1_073_741_824.0, "GB"),
            (1_048_576.0, "MB"),
            (1024.0, "kB"),
            (1.0, "B"),
        ],
        _ => &[],
    };
    let magnitude = value.unsigned_abs() as f64;
    match scale.iter().find(|(size, _)| magnitude >= *size) {
        Some((size, name)) => format!("{}{name}", trimmed(value as f64 / size)),
        None => value.to_string(),
    }
}

/// `part` of `whole` in percent; 0 of nothing is 0.
pub fn percent(part: i64, whole: i64) -> f64 {
    if whole == 0 {
        return 0.0;
    }
    part as f64 * 100.0 / whole as f64
}

fn trimmed(number: f64) -> String {
    let text = format!("{number:.2}");
    text.strip_suffix(".00").map(str::to_owned).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_shown_in_the_unit_people_use() {
        let shown = |value, unit| value_with_unit(value, unit);
        assert_eq!(shown(1_200_000_000, "nanoseconds"), "1.20s");
        assert_eq!(shown(10_000_000, "nanoseconds"), "10ms");
        assert_eq!(shown(-90_000_000_000, "nanoseconds"), "-1.50mins");
        assert_eq!(shown(0, "nanoseconds"), "0");
        assert_eq!(shown(1536, "bytes"), "1.50kB");
        assert_eq!(shown(12, "count"), "12");
        assert_eq!(shown(i64::MIN, "count"), i64::MIN.to_string());
    }

    #[test]
    fn a_name_cannot_steer_a_terminal() {
        assert_eq!(printable("a\u{1b}[31mb\nc"), "a\u{fffd}[31mb\u{fffd}c");
        assert_eq!(printable("größe<T>::f"), "größe<T>::f");
        assert_eq!(printable("a\u{202e}b"), "a\u{fffd}b");
    }
}
