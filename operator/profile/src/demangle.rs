//! What did the author of a function call it, where the compiler has mangled the name?

/// The name as its author wrote it; `None` where it is not mangled.
///
/// Viewers demangle names themselves unless the linker's name stands beside, and cut Rust's `<T as Trait>`
/// doing so.
#[must_use]
pub fn demangle(name: &str) -> Option<String> {
    if let Ok(rust) = rustc_demangle::try_demangle(name) {
        return Some(format!("{rust:#}"));
    }
    let symbol = name.starts_with("_Z").then(|| cpp_demangle::Symbol::new(name).ok())??;
    symbol.demangle().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_demangled_once() {
        assert_eq!(
            demangle("_ZN4core3fmt5Write9write_fmt17h0123456789abcdefE").as_deref(),
            Some("core::fmt::Write::write_fmt")
        );
        assert_eq!(demangle("_Z6guiltyi").as_deref(), Some("guilty(int)"));
        assert_eq!(demangle("guilty"), None);
        assert_eq!(demangle("_ZZZZ"), None);
    }
}
