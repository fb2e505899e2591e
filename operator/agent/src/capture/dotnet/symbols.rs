//! Where is the debug information of an assembly of a .NET process? In a file beside it, or in it.
//!
//! Files are opened below the root of the process, and one is only used where it is of the build that the
//! process has loaded.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};

use fleetprof_profile::read::nettrace::Module;
use fleetprof_profile::read::portable_pdb::{self, HEADERS, PortablePdb};

use crate::capture::native::open_below_root;

/// Packed debug information is at most so many bytes larger than what is unpacked: what does not shrink is
/// kept as it is, in blocks.
const PACKING: usize = 64 * 1024;

/// What there is.
#[derive(Debug)]
pub enum Found {
    /// It, of the right build.
    Here(PortablePdb),
    /// More than may be read.
    TooLarge,
    /// None, or that of another build.
    Nothing,
}

/// The debug information of a module, where it has at most `most` bytes.
pub fn of(pid: i32, module: &Module, most: usize) -> Found {
    let mut found = Found::Nothing;
    for path in module.symbol_files() {
        found = or(found, || beside(pid, module, &path, most));
    }
    or(found, || within(pid, module, most))
}

/// What was found, unless another one is right.
fn or(found: Found, other: impl FnOnce() -> Found) -> Found {
    if matches!(found, Found::Here(_)) {
        return found;
    }
    match (other(), found) {
        (Found::Nothing, before) => before,
        (other, _) => other,
    }
}

fn beside(pid: i32, module: &Module, path: &str, most: usize) -> Found {
    let Some((file, size)) = open(pid, path) else { return Found::Nothing };
    if usize::try_from(size).is_ok_and(|size| size <= most) {
        return read(&file, 0..size).map_or(Found::Nothing, |bytes| checked(module, bytes));
    }
    Found::TooLarge
}

fn within(pid: i32, module: &Module, most: usize) -> Found {
    packed(pid, module, most).unwrap_or(Found::Nothing)
}

fn packed(pid: i32, module: &Module, most: usize) -> Option<Found> {
    let (file, size) = open(pid, &module.path)?;
    let first = read(&file, 0..size.min(HEADERS as u64))?;
    let directory = portable_pdb::debug_directory(&first).ok()??;
    let place = portable_pdb::embedded(&read(&file, directory)?)?;
    let length = usize::try_from(place.end - place.start).unwrap_or(usize::MAX);
    if length > most.saturating_add(PACKING) {
        return Some(Found::TooLarge);
    }
    if place.end > size {
        return None;
    }
    Some(match portable_pdb::unpack(&read(&file, place)?, most) {
        Ok(bytes) => checked(module, bytes),
        Err(fleetprof_profile::ReadError::TooLarge { .. }) => Found::TooLarge,
        Err(_) => Found::Nothing,
    })
}

/// The debug information in some bytes, where it is of the right build. The number that the compiler gave the
/// build is in the assembly too, and the runtime tells it.
fn checked(module: &Module, bytes: Vec<u8>) -> Found {
    match PortablePdb::read(bytes) {
        Ok(pdb) if *pdb.guid() == module.guid => Found::Here(pdb),
        Ok(_) => Found::Nothing,
        Err(error) => {
            tracing::debug!(file.path = %module.path, %error, "failed to read debug information");
            Found::Nothing
        }
    }
}

/// A regular file, and its size.
fn open(pid: i32, path: &str) -> Option<(File, u64)> {
    let file = open_below_root(pid, path).ok()?;
    let meta = file.metadata().ok().filter(std::fs::Metadata::is_file)?;
    Some((file, meta.size()))
}

/// Some bytes of a file that has them.
fn read(file: &File, range: Range<u64>) -> Option<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(range.end.checked_sub(range.start)?).ok()?];
    file.read_exact_at(&mut bytes, range.start).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    const BESIDE: &[u8] = include_bytes!("../../../../profile/tests/recordings/dotnet.pdb");
    const ASSEMBLY: &[u8] = include_bytes!("../../../../profile/tests/recordings/dotnet.dll");

    /// A module of this process in a directory of its own, whose debug information is that of some bytes.
    fn module(name: &str, pdb: &[u8]) -> (PathBuf, Module) {
        let own = std::env::temp_dir().join(format!("fleetprof-symbols-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&own).unwrap();
        let guid = *PortablePdb::read(pdb.to_vec()).unwrap().guid();
        let path = own.join("busy.dll").to_str().unwrap().to_owned();
        (own, Module { number: 1, path, guid, symbols: "/src/obj/built.pdb".into() })
    }

    fn found(module: &Module, most: usize) -> &'static str {
        match of(i32::try_from(std::process::id()).unwrap(), module, most) {
            Found::Here(_) => "here",
            Found::TooLarge => "too large",
            Found::Nothing => "nothing",
        }
    }

    #[test]
    fn a_file_beside_the_assembly_is_used_where_it_is_of_the_same_build() {
        let (own, module) = module("beside", BESIDE);
        assert_eq!(found(&module, 1 << 20), "nothing");
        std::fs::write(own.join("busy.pdb"), BESIDE).unwrap();
        assert_eq!((found(&module, 1 << 20), found(&module, 100)), ("here", "too large"));
        // The name of the build comes first, and a wrong file does not hide the right one.
        std::fs::write(own.join("built.pdb"), b"BSJB").unwrap();
        assert_eq!(found(&module, 1 << 20), "here");
        assert_eq!(found(&Module { guid: [7; 16], ..module }, 1 << 20), "nothing");
        std::fs::remove_dir_all(own).unwrap();
    }

    #[test]
    fn what_is_packed_in_the_assembly_is_used_where_no_file_is_beside_it() {
        let packed = portable_pdb::embedded(&[&[0; 12][..], &[17, 0, 0, 0], &[0; 12]].concat());
        assert_eq!(packed, Some(0..0));
        let directory = portable_pdb::debug_directory(&ASSEMBLY[..HEADERS]).unwrap().unwrap();
        let part = |range: Range<u64>| &ASSEMBLY[range.start as usize..range.end as usize];
        let place = portable_pdb::embedded(part(directory)).unwrap();
        let (own, module) = module("packed", &portable_pdb::unpack(part(place), 1 << 20).unwrap());
        std::fs::write(own.join("busy.dll"), ASSEMBLY).unwrap();
        std::fs::write(own.join("busy.pdb"), BESIDE).unwrap();
        assert_eq!((found(&module, 1 << 20), found(&module, 100)), ("here", "too large"));
        // Cut in the middle of it.
        std::fs::write(own.join("busy.dll"), &ASSEMBLY[..1000]).unwrap();
        assert_eq!(found(&module, 1 << 20), "nothing");
        std::fs::remove_dir_all(own).unwrap();
    }
}
