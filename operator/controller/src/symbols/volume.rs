//! Where does a file with symbols lie on an administrator's volume? As distributions lay them out below
//! `/usr/lib/debug`.

use std::path::{Component, Path, PathBuf};

use fleetprof_profile::resolve::is_build_id;

/// The file of a build id: one with symbols alone, or the program itself.
pub(super) fn find(root: &Path, build_id: &str) -> Option<PathBuf> {
    let (first, rest) = build_id.split_at_checked(2).filter(|_| is_build_id(build_id))?;
    let folder = root.join(".build-id").join(first);
    [folder.join(format!("{rest}.debug")), folder.join(rest)].into_iter().find(|path| path.is_file())
}

/// The supplement of a file: by its build id, or in the folder `.dwz` by the end of the path that the file tells.
pub(super) fn find_supplement(root: &Path, build_id: &str, told: &str) -> Option<PathBuf> {
    find(root, build_id).or_else(|| {
        let (_, end) = told.rsplit_once(".dwz/")?;
        let end = Path::new(end);
        let inside = end.components().all(|part| matches!(part, Component::Normal(_)));
        Some(root.join(".dwz").join(end)).filter(|path| inside && path.is_file())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(files: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for file in files {
            let path = root.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "x").unwrap();
        }
        root
    }

    #[test]
    fn a_file_is_found_by_its_build_id() {
        let root = volume(&[".build-id/ab/cdef0123.debug", ".build-id/ab/cdef4567", "secret"]);
        let found = |build_id| find(root.path(), build_id);
        assert_eq!(found("abcdef0123"), Some(root.path().join(".build-id/ab/cdef0123.debug")));
        assert_eq!(
            found("abcdef4567"),
            Some(root.path().join(".build-id/ab/cdef4567")),
            "the program itself"
        );
        for build_id in ["abcdef9999", "..", "", "ab/../../../secret", "abcdef012é"] {
            assert_eq!(found(build_id), None, "{build_id}");
        }
    }

    #[test]
    fn a_supplement_is_found_by_its_build_id_or_below_the_folder_of_dwz() {
        let root = volume(&[".build-id/cd/ef012345.debug", ".dwz/x86_64-linux-gnu/shop.debug", "secret"]);
        let found = |build_id, told| find_supplement(root.path(), build_id, told);
        let shop = Some(root.path().join(".dwz/x86_64-linux-gnu/shop.debug"));
        assert_eq!(found("cdef012345", "x"), Some(root.path().join(".build-id/cd/ef012345.debug")));
        assert_eq!(found("00", "/usr/lib/debug/.dwz/x86_64-linux-gnu/shop.debug"), shop);
        assert_eq!(found("00", "../../../.dwz/x86_64-linux-gnu/shop.debug"), shop);
        for told in ["/usr/lib/debug/.dwz/../secret", ".dwz//../secret", "secret", "/etc/passwd", ".dwz/"] {
            assert_eq!(found("00", told), None, "{told}");
        }
    }
}
