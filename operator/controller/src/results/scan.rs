//! What did an earlier process leave on the volume?
//!
//! Only names and sizes are read, so a start is quick. What is not ours counts as used and is left alone; links
//! are not followed.

use std::fs::{DirEntry, FileType};
use std::io;
use std::path::Path;
use std::time::SystemTime;

use super::index::{FileFacts, Index};
use super::key::{Key, slice_kind};
use super::space;

/// Components below `profiles/`.
const PROFILE_DEPTH: usize = 6;
/// Components below `slices/`.
const SLICE_DEPTH: usize = 3;

/// What a scan found.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// Our files.
    pub(super) index: Index,
    /// Entries that are not ours.
    pub(super) strange: u64,
}

/// Reads the names below `slices` and `profiles`.
///
/// # Errors
/// A folder cannot be read.
pub(super) fn scan(slices: &Path, profiles: &Path) -> io::Result<Scan> {
    let mut found = Scan::default();
    walk(slices, SLICE_DEPTH, &mut Vec::new(), &mut found, &mut |scan, names, facts| match names {
        [session, capture, file] if slice_kind(file).is_some() => {
            scan.index.add_slice(session, capture, file.clone(), facts);
        }
        _ => scan.foreign(facts.disk),
    })?;
    walk(profiles, PROFILE_DEPTH, &mut Vec::new(), &mut found, &mut |scan, names, facts| match Key::read(
        names,
    ) {
        Some(key) => scan.index.add_profile(key, facts),
        None => scan.foreign(facts.disk),
    })?;
    Ok(found)
}

impl Scan {
    fn foreign(&mut self, disk: u64) {
        self.strange += 1;
        self.index.add_foreign(disk);
    }
}

type Found<'a> = &'a mut dyn FnMut(&mut Scan, &[String], FileFacts);

/// Calls `found` with the names of every file exactly `depth` components below `folder`.
fn walk(
    folder: &Path,
    depth: usize,
    names: &mut Vec<String>,
    scan: &mut Scan,
    found: Found<'_>,
) -> io::Result<()> {
    scan.index.set_folder(folder, Some(space::of_folder(&std::fs::symlink_metadata(folder)?)));
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let Some((name, kind)) = name_and_type(&entry) else {
            scan.foreign(tree(&entry.path())?);
            continue;
        };
        names.push(name);
        match (kind.is_dir(), names.len() == depth) {
            (true, false) => walk(&entry.path(), depth, names, scan, found)?,
            (false, true) if kind.is_file() => found(scan, names, facts(&entry)?),
            _ => scan.foreign(tree(&entry.path())?),
        }
        names.pop();
    }
    Ok(())
}

/// What a file, or a folder with all that is in it, takes on the disk. A folder that may not be read counts alone.
///
/// # Errors
/// The volume does not answer.
pub(super) fn tree(path: &Path) -> io::Result<u64> {
    let meta = std::fs::symlink_metadata(path)?;
    let mut disk = space::of_folder(&meta);
    if meta.is_dir() {
        match std::fs::read_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            entries => {
                for entry in entries? {
                    disk += tree(&entry?.path())?;
                }
            }
        }
    }
    Ok(disk)
}

/// What lies beside our folders below `root`, such as `lost+found`, takes on the disk.
///
/// # Errors
/// The volume does not answer.
pub(super) fn beside(root: &Path, ours: &[&str]) -> io::Result<u64> {
    let mut disk = 0;
    for entry in std::fs::read_dir(root)? {
        let entry = entry?;
        if !ours.iter().any(|name| entry.file_name() == *name) {
            disk += tree(&entry.path())?;
        }
    }
    Ok(disk)
}

fn name_and_type(entry: &DirEntry) -> Option<(String, FileType)> {
    let name = entry.file_name().into_string().ok()?;
    Some((name, entry.file_type().ok()?))
}

fn facts(entry: &DirEntry) -> io::Result<FileFacts> {
    let meta = entry.metadata()?;
    Ok(FileFacts {
        bytes: meta.len(),
        disk: space::of_file(&meta),
        samples: None,
        modified: meta.modified().unwrap_or(SystemTime::UNIX_EPOCH),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_ours_and_leaves_the_rest_alone() {
        let root = tempfile::tempdir().unwrap();
        let (slices, profiles) = (root.path().join("slices"), root.path().join("profiles"));
        let write = |path: &Path| {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, b"12345").unwrap();
        };
        write(&slices.join("uid-1/cap-1/cpu-0.pb.gz"));
        write(&slices.join("uid-1/cap-1/cpu-1.pb.gz"));
        write(&slices.join("uid-1/cap-1/notes.txt"));
        write(&slices.join("stray"));
        write(&profiles.join("c/ns/Deployment-orders/2026-01-01/uid-1/a_app_cpu.pb.gz"));
        write(&profiles.join("c/ns/too-short/a_app_cpu.pb.gz"));
        write(&profiles.join("c/ns/Deployment-orders/2026-01-01/uid-1/ha ha.pb.gz"));
        std::os::unix::fs::symlink("/etc", slices.join("link")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", slices.join("uid-1/cap-1/cpu-2.pb.gz")).unwrap();

        let found = scan(&slices, &profiles).unwrap();
        assert_eq!(found.index.capture("cap-1").unwrap().slices.len(), 2);
        assert_eq!(found.index.profiles("uid-1").count(), 1);
        assert_eq!(found.strange, 6);
        assert_eq!(
            found.index.disk(),
            tree(&slices).unwrap() + tree(&profiles).unwrap(),
            "all of it is counted"
        );
    }
}
