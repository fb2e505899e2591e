//! Which files of this machine have symbols that can be uploaded?

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use fleetprof_profile::elf::{ReadCache, facts};
use fleetprof_profile::resolve::is_build_id;

/// A file that can be uploaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Where it lies.
    pub(super) path: PathBuf,
    /// Its build id.
    pub(super) build_id: String,
    /// Its length.
    pub(super) bytes: u64,
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Files {
    /// Files with symbols, by path.
    pub(super) found: Vec<Found>,
    /// Others, and why they cannot be used.
    pub(super) skipped: Vec<(PathBuf, String)>,
    /// Files in folders that are no ELF files.
    pub(super) others: usize,
}

/// Looks at these files, and at all that are in these folders. Links in folders are not followed: what they lead to
/// lies in the folder too, or is not meant.
pub(super) fn look(paths: &[PathBuf]) -> Files {
    let mut files = Files::default();
    for path in paths {
        match path.is_dir() {
            true => files.walk(path),
            false => files.add(path.clone(), true),
        }
    }
    files.once();
    files
}

impl Files {
    fn walk(&mut self, folder: &Path) {
        let entries = match std::fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) => return self.skip(folder.to_owned(), format!("it cannot be read ({error})")),
        };
        let mut entries: Vec<_> = entries.flatten().collect();
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => self.walk(&entry.path()),
                Ok(kind) if kind.is_file() => self.add(entry.path(), false),
                _ => {}
            }
        }
    }

    /// Adds a file. One that was `named` is told of even when it is something else altogether.
    fn add(&mut self, path: PathBuf, named: bool) {
        let (file, bytes) = match File::open(&path).and_then(|file| Ok((file.metadata()?, file))) {
            Ok((meta, file)) if meta.is_file() => (file, meta.len()),
            Ok(_) => return self.skip(path, "it is not a regular file".to_owned()),
            Err(error) => return self.skip(path, format!("it cannot be read ({error})")),
        };
        let Some(facts) = facts(&ReadCache::new(file)) else {
            match named {
                true => self.skip(path, "it is not an ELF file".to_owned()),
                false => self.others += 1,
            }
            return;
        };
        match facts.build_id.filter(|id| is_build_id(id)) {
            None => self.skip(path, "it has no build ID: link the program with -Wl,--build-id".to_owned()),
            Some(_) if !facts.has_symbols => self.skip(path, "it has no symbols: it is stripped".to_owned()),
            Some(build_id) => self.found.push(Found { path, build_id, bytes }),
        }
    }

    fn skip(&mut self, path: PathBuf, why: String) {
        self.skipped.push((path, why));
    }

    /// Leaves one file of each build id: the largest, which has the most symbols.
    fn once(&mut self) {
        let mut largest: BTreeMap<String, u64> = BTreeMap::new();
        for one in &self.found {
            let bytes = largest.entry(one.build_id.clone()).or_default();
            *bytes = one.bytes.max(*bytes);
        }
        for one in std::mem::take(&mut self.found) {
            match largest.get(&one.build_id) == Some(&one.bytes) {
                true => {
                    largest.remove(&one.build_id);
                    self.found.push(one);
                }
                false => {
                    self.skip(one.path, "another file of the same build ID is as large or larger".to_owned())
                }
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// An ELF file with this build id; with a table of symbols that has one function, or none.
    pub(in crate::symbols) fn elf(build_id: &[u8], symbols: bool) -> Vec<u8> {
        let names = b"\0.note.gnu.build-id\0.symtab\0.strtab\0.text\0main\0";
        let note = [
            &4_u32.to_le_bytes()[..],
            &u32::try_from(build_id.len()).unwrap().to_le_bytes(),
            &3_u32.to_le_bytes(),
            b"GNU\0",
            build_id,
        ]
        .concat();
        let symbol = |name: u32, info: u8, section: u16| {
            [&name.to_le_bytes()[..], &[info, 0], &section.to_le_bytes(), &[0; 16]].concat()
        };
        let table = if symbols { [symbol(0, 0, 0), symbol(42, 0x12, 4)].concat() } else { symbol(0, 0, 0) };
        let mut file = vec![0_u8; 64];
        let mut sections = vec![vec![0_u8; 64]];
        let mut add = |file: &mut Vec<u8>, name: u32, kind: u32, data: &[u8], link: u32, entry: u64| {
            file.resize(file.len().next_multiple_of(8), 0);
            let (at, bytes) = (file.len() as u64, data.len() as u64);
            file.extend(data);
            sections.push(
                [
                    &name.to_le_bytes()[..],
                    &kind.to_le_bytes(),
                    &[0; 16],
                    &at.to_le_bytes(),
                    &bytes.to_le_bytes(),
                    &link.to_le_bytes(),
                    &[0; 4],
                    &4_u64.to_le_bytes(),
                    &entry.to_le_bytes(),
                ]
                .concat(),
            );
        };
        add(&mut file, 1, 7, &note, 0, 0);
        add(&mut file, 20, 2, &table, 3, 24);
        add(&mut file, 28, 3, names, 0, 0);
        add(&mut file, 36, 1, &[0x90; 16], 0, 0);
        file.resize(file.len().next_multiple_of(8), 0);
        let headers = file.len() as u64;
        file.extend(sections.concat());
        file[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        file[16..24].copy_from_slice(&[2, 0, 62, 0, 1, 0, 0, 0]);
        file[40..48].copy_from_slice(&headers.to_le_bytes());
        file[52..64].copy_from_slice(&[64, 0, 56, 0, 0, 0, 64, 0, 5, 0, 3, 0]);
        file
    }

    #[test]
    fn files_with_symbols_are_found_and_the_others_have_a_reason() {
        let root = tempfile::tempdir().unwrap();
        let put = |name: &str, bytes: &[u8]| {
            let path = root.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, bytes).unwrap();
            path
        };
        let good = put("bin/shop.debug", &elf(&[0xab; 20], true));
        put("bin/shop", &elf(&[0xcd; 20], false));
        put("bin/old", &elf(&[], true));
        put("bin/short", &elf(&[1, 2], true));
        put("README", b"hello");
        let larger = put("z/shop", &[elf(&[0xab; 20], true), vec![0; 9]].concat());
        std::os::unix::fs::symlink("/", root.path().join("everything")).unwrap();
        let files = look(&[root.path().to_owned()]);
        let id = "ab".repeat(20);
        let bytes = std::fs::metadata(&larger).unwrap().len();
        assert_eq!(files.found, [Found { path: larger, build_id: id, bytes }]);
        let said = |name: &str| {
            let found = files.skipped.iter().find(|(path, _)| *path == root.path().join(name));
            found.map(|(_, why)| why.as_str()).unwrap_or_default()
        };
        assert!(said("bin/shop").contains("stripped") && said("bin/old").contains("--build-id"));
        assert!(said("bin/short").contains("--build-id"), "a build id of 2 bytes is none");
        assert!(said("bin/shop.debug").contains("same build ID"));
        assert_eq!((files.skipped.len(), files.others), (4, 1));
        let named = look(&[root.path().join("README"), root.path().join("none"), good]);
        let why: Vec<&str> = named.skipped.iter().map(|(_, why)| why.as_str()).collect();
        assert!(why[0] == "it is not an ELF file" && why[1].starts_with("it cannot be read"), "{why:?}");
        assert_eq!(named.found.len(), 1);
    }
}
