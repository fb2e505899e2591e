//! Which functions of two builds are the same one?
//!
//! By name and by the last part of the file's path: images put the same sources in other folders. What a
//! build or a process makes up is left out of the name: Rust's hashes, and the numbers and addresses of
//! classes that the JVM generates.

use std::borrow::Cow;

/// Most bytes of a name or a file; the rest is cut off.
const MAX_BYTES: usize = 256;
/// What the JVM puts before a number of its own.
const NUMBERED: [&str; 4] =
    ["$$Lambda$", "$Proxy", "GeneratedMethodAccessor", "GeneratedConstructorAccessor"];

/// The name of a function as every build has it, of at most 256 bytes.
pub(super) fn function(name: &str) -> String {
    let name = without_addresses(without_hash(name));
    let name = NUMBERED.iter().fold(name, |name, mark| match name.contains(mark) {
        true => Cow::Owned(without_numbers(&name, mark)),
        false => name,
    });
    cut(&name).to_owned()
}

/// The last part of a path, of at most 256 bytes.
pub(super) fn file(path: &str) -> String {
    cut(path.rsplit(['/', '\\']).next().unwrap_or_default()).to_owned()
}

/// `a::b::h0123456789abcdef` without the hash.
fn without_hash(name: &str) -> &str {
    match name.rsplit_once("::h") {
        Some((path, hash)) if hash.len() == 16 && hash.bytes().all(|b| b.is_ascii_hexdigit()) => path,
        _ => name,
    }
}

/// `0x` in place of every hexadecimal address.
fn without_addresses(name: &str) -> Cow<'_, str> {
    if !name.contains("0x") {
        return Cow::Borrowed(name);
    }
    let mut parts = name.split("0x");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        text.push_str("0x");
        text.push_str(part.trim_start_matches(|c: char| c.is_ascii_hexdigit()));
    }
    Cow::Owned(text)
}

/// The text without the digits that follow the mark.
fn without_numbers(name: &str, mark: &str) -> String {
    let mut parts = name.split(mark);
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        text.push_str(mark);
        text.push_str(part.trim_start_matches(|c: char| c.is_ascii_digit()));
    }
    text
}

fn cut(text: &str) -> &str {
    let end = (0..=MAX_BYTES.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    text.get(..end.unwrap_or_default()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_build_or_a_process_makes_up_does_not_count() {
        let same = [
            ("shop::cart::add::h0123456789abcdef", "shop::cart::add"),
            ("shop::cart::handle", "shop::cart::handle"),
            ("shop::cart::h0123", "shop::cart::h0123"),
            ("Cart$$Lambda$14/0x0000000800c03000.apply", "Cart$$Lambda$/0x.apply"),
            ("Cart$$Lambda/0x00007f1c3c0.apply", "Cart$$Lambda/0x.apply"),
            (
                "jdk.internal.reflect.GeneratedMethodAccessor12.invoke",
                "jdk.internal.reflect.GeneratedMethodAccessor.invoke",
            ),
            ("$Proxy7.total", "$Proxy.total"),
            ("main.(*cart).add.func1", "main.(*cart).add.func1"),
        ];
        for (name, wanted) in same {
            assert_eq!(function(name), wanted);
        }
        assert_eq!(
            (file("/app/shop/cart.py"), file("C:\\app\\Cart.cs")),
            ("cart.py".into(), "Cart.cs".into())
        );
    }

    #[test]
    fn names_of_any_length_and_script_are_cut_between_characters() {
        assert_eq!(function(&"ö".repeat(10_000)).len(), MAX_BYTES);
        assert_eq!(function(&format!("x{}", "ö".repeat(10_000))).len(), MAX_BYTES - 1);
        assert_eq!((function(""), file("")), (String::new(), String::new()));
    }
}
