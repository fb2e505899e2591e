//! Real debug information, whole and damaged.
//!
//! It is of `operator/agent/tests/capture/targets/Busy.cs`, compiled by `tests/csharp.sh`: `dotnet.pdb`
//! beside the assembly, and packed in `dotnet.dll`. Mono.Cecil wrote both.

use proptest::prelude::*;

use super::{HEADERS, PortablePdb, debug_directory, embedded, unpack};
use crate::read::ReadError;
use crate::read::nettrace::Il;

const BESIDE: &[u8] = include_bytes!("../../../tests/recordings/dotnet.pdb");
const ASSEMBLY: &[u8] = include_bytes!("../../../tests/recordings/dotnet.dll");
/// The first method of the file, and the line on which its body begins.
const GUILTY: u32 = 0x0600_0001;
const BEGINS: u32 = 20;
/// Methods of the file.
const METHODS: u32 = 14;

fn part(bytes: &[u8], range: std::ops::Range<u64>) -> Option<&[u8]> {
    bytes.get(usize::try_from(range.start).ok()?..usize::try_from(range.end).ok()?)
}

/// The debug information that is packed in an assembly.
fn packed(assembly: &[u8], most: usize) -> Result<Option<Vec<u8>>, ReadError> {
    let directory = debug_directory(&assembly[..assembly.len().min(HEADERS)])?;
    let place = directory.and_then(|range| part(assembly, range)).and_then(embedded);
    place.and_then(|range| part(assembly, range)).map(|bytes| unpack(bytes, most)).transpose()
}

fn has_the_lines(pdb: &PortablePdb) {
    let method = pdb.method(GUILTY).unwrap().unwrap();
    assert_eq!(method.start_line(), BEGINS);
    let cases = [
        (Some(Il::Prolog), BEGINS),
        (Some(Il::Offset(0)), BEGINS),
        (Some(Il::Offset(12)), BEGINS + 1),
        (Some(Il::Offset(36)), BEGINS + 1),
        (Some(Il::Epilog), BEGINS + 2),
        (Some(Il::None), 0),
        (None, 0),
    ];
    for (il, line) in cases {
        let (file, found) = method.at(il);
        assert_eq!((&*file, found), ("/src/Busy.cs", line), "{il:?}");
    }
    let source = include_str!("../../../../agent/tests/capture/targets/Busy.cs");
    assert!(source.lines().nth(BEGINS as usize).unwrap().ends_with("// the guilty line"));
    for token in [0, 0x0600_0000, 0x0600_0001 + METHODS, 0x06ff_ffff, 0x0200_0001, u32::MAX] {
        assert!(pdb.method(token).unwrap().is_none(), "{token:x}");
    }
}

#[test]
fn instructions_lead_to_lines() {
    has_the_lines(&PortablePdb::read(BESIDE.to_vec()).unwrap());
}

#[test]
fn what_is_packed_in_an_assembly_says_the_same() {
    let pdb = PortablePdb::read(packed(ASSEMBLY, 1 << 20).unwrap().unwrap()).unwrap();
    has_the_lines(&pdb);
    assert_ne!(pdb.guid(), PortablePdb::read(BESIDE.to_vec()).unwrap().guid(), "another build");
    // What the assembly says that it is, as the runtime tells it.
    assert!(ASSEMBLY.windows(16).any(|bytes| bytes == pdb.guid()));
}

#[test]
fn what_is_packed_takes_no_more_memory_than_allowed() {
    let error = packed(ASSEMBLY, 100).unwrap_err().to_string();
    assert!(error.contains("bytes, the limit is 100"), "{error}");
    // Four gigabytes that are not there, and bytes of which it says fewer.
    assert!(matches!(unpack(b"MPDB\xff\xff\xff\xff\x03\0", 1 << 20), Err(ReadError::TooLarge { .. })));
    for bytes in [&b"MPDB\0\0\x01\0\x03\0"[..], b"MPDB\x01\0\0\0", b"MPDC\0\0\0\0\x03\0", b""] {
        assert!(matches!(unpack(bytes, 1 << 20), Err(ReadError::Damaged { .. })), "{bytes:?}");
    }
    assert_eq!(unpack(b"MPDB\0\0\0\0\x03\0", 0).unwrap(), b"");
}

#[test]
fn what_is_no_debug_information_is_refused() {
    for (bytes, wanted) in [
        (&b"MZ\x90\0"[..], "does not begin with BSJB"),
        (b"BSJ", "in the middle"),
        (b"Microsoft C/C++ MSF 7.00\r\n\x1aDS", "does not begin with BSJB"),
    ] {
        let error = PortablePdb::read(bytes.to_vec()).unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}");
    }
    // An assembly's own tables: the number of its types is told before those of documents.
    let mut bytes = BESIDE.to_vec();
    let streams = bytes.windows(4).position(|name| name == b"#~\0\0").unwrap();
    let tables = u32::from_le_bytes(bytes[streams - 8..streams - 4].try_into().unwrap()) as usize;
    bytes[tables + 8] = 4;
    let error = PortablePdb::read(bytes).unwrap_err().to_string();
    assert!(error.contains("tables of an assembly"), "{error}");
}

#[test]
fn what_is_no_assembly_has_no_debug_directory() {
    assert!(debug_directory(b"\x7fELF").is_err());
    assert!(debug_directory(&[0; HEADERS]).is_err());
    for cut in 0..300 {
        assert!(debug_directory(&ASSEMBLY[..cut]).is_err(), "{cut}");
    }
    assert_eq!(embedded(&[0; 100]), None);
    assert_eq!(embedded(&[]), None);
}

/// Reads all that can be read.
fn exhaust(bytes: Vec<u8>) {
    let Ok(pdb) = PortablePdb::read(bytes) else { return };
    for row in 1..=METHODS + 2 {
        let Ok(Some(method)) = pdb.method(0x0600_0000 | row) else { continue };
        assert!(method.start_line() > 0);
        for offset in [0, 1, 20, u32::MAX] {
            assert!(method.at(Some(Il::Offset(offset))).1 > 0);
        }
    }
}

#[test]
fn every_beginning_is_read_or_refused() {
    for cut in 0..BESIDE.len() {
        exhaust(BESIDE[..cut].to_vec());
    }
}

proptest! {
    #[test]
    fn changed_bytes_are_read_or_refused(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
    ) {
        let (mut beside, mut assembly) = (BESIDE.to_vec(), ASSEMBLY.to_vec());
        for (at, byte) in &changes {
            let place = at.index(beside.len());
            beside[place] = *byte;
            // The headers matter.
            assembly[at.index(600)] = *byte;
            let place = at.index(assembly.len());
            assembly[place] = *byte;
        }
        exhaust(beside);
        if let Ok(Some(bytes)) = packed(&assembly, 1 << 16) {
            exhaust(bytes);
        }
    }
}
