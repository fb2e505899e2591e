//! What does an ELF file tell of itself: which build is it of, and can it name functions?

use object::{BinaryFormat, Object, ObjectSection, ObjectSymbol, ReadRef, SymbolKind};

pub use object::read::ReadCache;

/// What a file tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ElfFacts {
    /// Its build id in lower-case hex digits. Of any length, since the file may be anybody's.
    pub build_id: Option<String>,
    /// Whether it has debug information, or a function in its table of symbols. The few names that dynamic
    /// linking needs, which stripped files keep, do not count.
    pub has_symbols: bool,
}

/// What the file tells; `None` of what is not a whole ELF file. Reads its tables of sections and symbols into
/// memory, and what their names lie in.
pub fn facts<'d>(data: impl ReadRef<'d>) -> Option<ElfFacts> {
    let object = object::File::parse(data).ok().filter(|object| object.format() == BinaryFormat::Elf)?;
    let build_id = object.build_id().ok().flatten().map(hex);
    let is_debug = |name: &str| matches!(name, ".debug_info" | ".zdebug_info");
    // Without a range in the file, as where only its place was kept.
    let is_there = |range: Option<(u64, u64)>| range.is_some_and(|(_, bytes)| bytes > 0);
    let debug =
        object.sections().any(|section| section.name().is_ok_and(is_debug) && is_there(section.file_range()));
    let function = || {
        object.symbols().any(|symbol| {
            let named = symbol.name().is_ok_and(|name| !name.is_empty());
            named && symbol.is_definition() && symbol.kind() == SymbolKind::Text
        })
    };
    Some(ElfFacts { build_id, has_symbols: debug || function() })
}

/// Bytes in lower-case hex digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_elf_file_tells_nothing() {
        for text in [&b""[..], b"\x7fELF", b"#!/bin/sh\n", &[0; 4096]] {
            assert_eq!(facts(text), None, "{text:?}");
        }
    }

    /// The head of a 64-bit file without sections.
    #[test]
    fn a_file_without_sections_has_neither_build_id_nor_symbols() {
        let mut head = [0_u8; 64];
        head[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        head[16] = 2;
        head[18] = 62;
        head[20] = 1;
        head[52] = 64;
        assert_eq!(facts(&head[..]), Some(ElfFacts { build_id: None, has_symbols: false }));
        assert_eq!(hex(&[0, 0xab]), "00ab");
    }
}
