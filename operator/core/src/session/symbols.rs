//! How much of a target's native code has names, over all types of profiles?

use fleetprof_crds::session_status::{MissingSymbols, TargetSymbols};

use crate::text::{cut, printable};

/// Most files that a status names.
pub const MAX_MISSING: usize = 5;
/// Longest path of a file, in bytes.
const MAX_FILE: usize = 160;
/// Longest build ID, in bytes.
const MAX_BUILD_ID: usize = 64;
/// Longest message, in bytes.
const MAX_MESSAGE: usize = 200;

/// Adds what is known of profiles to what the status says. Adding the same again changes nothing, so a look that is
/// repeated while another profile is on its way does no harm.
pub(super) fn fold(status: &mut Option<TargetSymbols>, profiles: Vec<TargetSymbols>) {
    for profile in profiles {
        let known = status.get_or_insert_with(|| TargetSymbols { named: 100, missing: Vec::new() });
        known.named = known.named.min(profile.named.clamp(0, 100));
        for file in profile.missing.into_iter().map(bounded) {
            add(&mut known.missing, file);
        }
    }
}

fn add(missing: &mut Vec<MissingSymbols>, file: MissingSymbols) {
    match missing.iter().position(|one| is_same(one, &file)) {
        Some(known) => {
            if let Some(known) = missing.get_mut(known).filter(|known| known.message.is_empty()) {
                known.message = file.message;
            }
        }
        None if missing.len() < MAX_MISSING => missing.push(file),
        None => {}
    }
}

fn is_same(one: &MissingSymbols, other: &MissingSymbols) -> bool {
    (&one.file, &one.build_id) == (&other.file, &other.build_id)
}

fn bounded(file: MissingSymbols) -> MissingSymbols {
    MissingSymbols {
        file: cut(&printable(&file.file), MAX_FILE),
        build_id: cut(&printable(&file.build_id), MAX_BUILD_ID),
        message: cut(&file.message, MAX_MESSAGE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn symbols(named: i32, files: &[&str]) -> TargetSymbols {
        let missing = |file: &&str| MissingSymbols { file: (*file).to_owned(), ..MissingSymbols::default() };
        TargetSymbols { named, missing: files.iter().map(missing).collect() }
    }

    #[test]
    fn the_worst_type_counts_and_files_are_told_once() {
        let mut status = None;
        fold(&mut status, vec![symbols(90, &["/a", "/b"]), symbols(70, &["/b", "/c"])]);
        assert_eq!(status, Some(symbols(70, &["/a", "/b", "/c"])));
        let before = status.clone();
        fold(&mut status, vec![symbols(90, &["/a", "/b"])]);
        assert_eq!(status, before, "a repeated look changes nothing");
        fold(&mut status, Vec::new());
        assert_eq!(status, before);
    }

    #[test]
    fn a_profile_without_native_code_says_nothing() {
        let mut status = None;
        fold(&mut status, Vec::new());
        assert_eq!(status, None);
    }

    #[test]
    fn what_an_agent_sends_can_be_printed() {
        let mut status = None;
        let file = "/app\u{1b}[2J".to_owned();
        let missing =
            vec![MissingSymbols { file, build_id: "ab\u{1b}[2J\n".to_owned(), ..MissingSymbols::default() }];
        fold(&mut status, vec![TargetSymbols { named: 0, missing }]);
        let told = &status.unwrap().missing[0];
        assert!(!format!("{}{}", told.file, told.build_id).contains(char::is_control), "{told:?}");
    }

    #[test]
    fn what_an_agent_sends_is_bounded() {
        let long = "/é".repeat(10_000);
        let files: Vec<String> = (0..100).map(|n| format!("{n}{long}")).collect();
        let files: Vec<&str> = files.iter().map(String::as_str).collect();
        let mut status = None;
        fold(&mut status, vec![symbols(i32::MAX, &files), symbols(i32::MIN, &files)]);
        let status = status.unwrap();
        assert_eq!((status.named, status.missing.len()), (0, MAX_MISSING));
        assert!(serde_json::to_string(&status).unwrap().len() < 1500, "{status:?}");
    }
}
