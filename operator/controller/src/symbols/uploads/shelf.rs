//! How do uploaded files lie on the volume? Each with what is known of it beside it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use fleetprof_core::storage::uploads::MOST_FILES;
use fleetprof_profile::resolve::is_build_id;

use super::Uploaded;

/// End of the names of files.
const END: &str = ".debug";
/// End of the names of what is known of them.
const ABOUT: &str = ".json";
/// End of the names of unfinished files.
pub(super) const UNFINISHED: &str = ".part";
/// Most bytes that are known of one.
const MAX_ABOUT: u64 = 16 << 10;

/// Where the file of a build id lies.
pub(super) fn path(folder: &Path, build_id: &str) -> PathBuf {
    folder.join(format!("{build_id}{END}"))
}

/// The whole files in the folder. Removes what an earlier process left unfinished, and what nothing is known of.
pub(super) fn load(folder: &Path) -> BTreeMap<String, Uploaded> {
    let mut kept = BTreeMap::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.ends_with(UNFINISHED) {
            let _ = std::fs::remove_file(entry.path());
        }
        let Some(build_id) = name.strip_suffix(END).filter(|id| is_build_id(id)) else { continue };
        match about(folder, build_id) {
            Some(one) if kept.len() < MOST_FILES => {
                kept.insert(build_id.to_owned(), one);
            }
            Some(_) => {}
            None => {
                tracing::warn!(
                    file.build_id = build_id,
                    "removing uploaded symbols of which nothing is known"
                );
                let _ = remove(folder, build_id);
            }
        }
    }
    kept
}

/// What is known of a file that is as long as it should be.
fn about(folder: &Path, build_id: &str) -> Option<Uploaded> {
    let path_of_about = folder.join(format!("{build_id}{ABOUT}"));
    if std::fs::metadata(&path_of_about).ok()?.len() > MAX_ABOUT {
        return None;
    }
    let one: Uploaded = serde_json::from_slice(&std::fs::read(path_of_about).ok()?).ok()?;
    let bytes = std::fs::metadata(path(folder, build_id)).ok()?.len();
    (one.build_id == build_id && one.bytes == bytes).then_some(one)
}

/// Gives a checked file its place, durably: what is known of it first, so that no file is without.
pub(super) fn keep(folder: &Path, unfinished: &Path, one: &Uploaded) -> io::Result<()> {
    File::open(unfinished)?.sync_all()?;
    let about = folder.join(format!("{}{ABOUT}", one.build_id));
    let part = unfinished.with_extension("json.part");
    std::fs::write(&part, serde_json::to_vec(one)?)?;
    File::open(&part)?.sync_all()?;
    std::fs::rename(&part, about)?;
    std::fs::rename(unfinished, path(folder, &one.build_id))?;
    File::open(folder)?.sync_all()
}

/// Removes a file and what is known of it.
pub(super) fn remove(folder: &Path, build_id: &str) -> io::Result<()> {
    for path in [path(folder, build_id), folder.join(format!("{build_id}{ABOUT}"))] {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}
