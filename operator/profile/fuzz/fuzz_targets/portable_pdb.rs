//! Debug information of .NET: is it read or refused, by itself and in an assembly?

#![no_main]

use fleetprof_profile::read::nettrace::Il;
use fleetprof_profile::read::portable_pdb::{PortablePdb, debug_directory, embedded, unpack};
use libfuzzer_sys::fuzz_target;

/// Random bytes are hardly ever the streams of a file, so that the fuzzer gives rows and blobs, and these get
/// some.
fn file(content: &[u8]) -> Vec<u8> {
    let (count, rest) = content.split_first().unwrap_or((&0, &[]));
    let rows = u32::from(*count % 16);
    let tables = 24 + 8 + rows as usize * (8 + 4);
    let mut bytes = b"BSJB\x01\0\x01\0\0\0\0\0\x04\0\0\0PDB\0\0\0\x03\0".to_vec();
    let begin = bytes.len() + (8 + 8) + (8 + 4) + (8 + 8);
    let mut stream = |at: usize, size: usize, name: &[u8]| {
        bytes.extend_from_slice(&(at as u32).to_le_bytes());
        bytes.extend_from_slice(&(size as u32).to_le_bytes());
        bytes.extend_from_slice(name);
    };
    stream(begin, 20, b"#Pdb\0\0\0\0");
    stream(begin + 20, tables, b"#~\0\0");
    stream(begin + 20 + 24 + 8, rest.len(), b"#Blob\0\0\0");
    bytes.resize(begin + 20 + 8, 0);
    bytes.extend_from_slice(&(3_u64 << 0x30).to_le_bytes());
    bytes.extend_from_slice(&[0; 8]);
    bytes.extend_from_slice(&rows.to_le_bytes());
    bytes.extend_from_slice(&rows.to_le_bytes());
    bytes.extend_from_slice(rest);
    bytes
}

fn read(bytes: Vec<u8>) {
    let Ok(pdb) = PortablePdb::read(bytes) else { return };
    for token in 0x0600_0000..0x0600_0040 {
        let Ok(Some(method)) = pdb.method(token) else { continue };
        assert!(method.start_line() > 0);
        for il in [0, 1, 7, 100, u32::MAX] {
            let (file, line) = method.at(Some(Il::Offset(il)));
            assert!(line > 0 && file.len() <= 4096);
        }
        assert_eq!(method.at(None).1, 0);
    }
}

fuzz_target!(|bytes: &[u8]| {
    read(bytes.to_vec());
    read(file(bytes));
    if let Ok(Some(directory)) = debug_directory(bytes) {
        assert!(directory.start <= directory.end && directory.end - directory.start < 1024);
    }
    if let Some(place) = embedded(bytes) {
        assert!(place.start <= place.end);
    }
    let packed = [b"MPDB", bytes].concat();
    if let Ok(unpacked) = unpack(&packed, 1 << 16) {
        assert!(unpacked.len() <= 1 << 16);
        read(unpacked);
    }
});
