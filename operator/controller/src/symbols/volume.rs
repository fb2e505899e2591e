//! Where does a file with symbols lie on an administrator's volume? As distributions lay them out below
//! `/usr/lib/debug`.
//!
//! The volume may be one of the network that hangs, and with it whoever looks. So one look at a time is under way,
//! nobody waits for it longer than [`LOOK`], and after that nobody looks for a minute.

use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fleetprof_profile::resolve::is_build_id;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

/// Longest time for a look.
pub(super) const LOOK: Duration = Duration::from_secs(5);
/// How long nobody looks after that.
const PAUSE: Duration = Duration::from_secs(60);
/// How long what is not there is not looked for without need.
const ABSENT: Duration = Duration::from_secs(60);
/// Most build ids that are remembered as absent.
const MOST_ABSENT: usize = 10_000;

/// An administrator's volume.
pub(super) struct Volume {
    root: PathBuf,
    within: Duration,
    /// The look that is under way, which keeps its place however late it is.
    one: Arc<Semaphore>,
    known: Mutex<Known>,
}

/// What was learnt of the volume.
#[derive(Default)]
struct Known {
    /// Until when nobody looks.
    paused: Option<Instant>,
    absent: HashMap<String, Instant>,
}

impl Volume {
    /// The volume that is mounted there.
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root, within: LOOK, one: Arc::new(Semaphore::new(1)), known: Mutex::default() }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it has answered in time, as far as is known.
    pub(super) fn answers(&self) -> bool {
        self.known().paused.is_none_or(|until| until <= Instant::now())
    }

    /// Whether it makes sense to look for the file now. Does not look.
    pub(super) fn may_have(&self, build_id: &str) -> bool {
        let absent = self.known().absent.get(build_id).is_some_and(|until| *until > Instant::now());
        is_build_id(build_id) && !absent && self.answers()
    }

    /// The files of build ids, in their order; none where the volume does not answer.
    pub(super) async fn find_all(&self, build_ids: Vec<String>) -> Vec<Option<PathBuf>> {
        let ids = build_ids.clone();
        let look = move |root: &Path| ids.iter().map(|id| find(root, id)).collect::<Vec<_>>();
        let Some(found) = self.look(look).await else { return vec![None; build_ids.len()] };
        self.remember(build_ids.into_iter().zip(&found).filter(|(_, found)| found.is_none()));
        found
    }

    fn remember<'a>(&self, absent: impl Iterator<Item = (String, &'a Option<PathBuf>)>) {
        let (now, mut known) = (Instant::now(), self.known());
        known.absent.retain(|_, until| *until > now);
        for (build_id, _) in absent {
            if known.absent.len() < MOST_ABSENT {
                known.absent.insert(build_id, now + ABSENT);
            }
        }
    }

    /// The supplement of a file, see [`find_supplement`]; none where the volume does not answer.
    pub(super) async fn find_other(&self, build_id: String, told: String) -> Option<PathBuf> {
        self.look(move |root| find_supplement(root, &build_id, &told)).await.flatten()
    }

    /// Looks, when no other look is under way; `None` where that is not over in time.
    async fn look<T: Send + 'static>(&self, look: impl FnOnce(&Path) -> T + Send + 'static) -> Option<T> {
        if !self.answers() {
            return None;
        }
        let looked = async {
            let turn = Arc::clone(&self.one).acquire_owned().await.ok()?;
            let root = self.root.clone();
            let task = spawn_blocking(move || {
                let _turn = turn;
                look(&root)
            });
            task.await.ok()
        };
        match timeout(self.within, looked).await {
            Ok(looked) => looked,
            Err(_) => {
                self.known().paused = Some(Instant::now() + PAUSE);
                let (volume, seconds) = (self.root.display(), self.within.as_secs());
                tracing::warn!(%volume, seconds, "the symbols volume does not answer; looking again in a minute");
                None
            }
        }
    }
}

/// The file of a build id: one with symbols alone, or the program itself.
fn find(root: &Path, build_id: &str) -> Option<PathBuf> {
    let (first, rest) = build_id.split_at_checked(2).filter(|_| is_build_id(build_id))?;
    let folder = root.join(".build-id").join(first);
    [folder.join(format!("{rest}.debug")), folder.join(rest)].into_iter().find(|path| path.is_file())
}

/// The supplement of a file: by its build id, or in the folder `.dwz` by the end of the path that the file tells.
fn find_supplement(root: &Path, build_id: &str, told: &str) -> Option<PathBuf> {
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

    #[tokio::test]
    async fn a_volume_that_hangs_is_left_alone_and_one_look_waits_for_it() {
        let root = volume(&[".build-id/ab/cdef0123.debug"]);
        let mut hung = Volume::new(root.path().to_owned());
        let ids = || vec!["abcdef0123".to_owned(), "abcdef9999".to_owned()];
        assert!(hung.find_all(ids()).await[0].is_some() && hung.may_have("abcdef0123"));
        assert!(!hung.may_have("abcdef9999"), "it was not there a moment ago");
        hung.within = Duration::from_millis(50);
        let (end, wait) = std::sync::mpsc::channel::<()>();
        assert_eq!(hung.look(move |_| wait.recv()).await, None);
        assert!(!hung.answers() && !hung.may_have("abcdef0123"));
        assert_eq!(hung.find_all(ids()).await, [None, None], "nobody looks");
        // A minute later the same look still hangs, and no other joins it.
        hung.known().paused = None;
        let looked = Arc::new(Mutex::new(false));
        let other = Arc::clone(&looked);
        assert_eq!(hung.look(move |_| *other.lock().unwrap() = true).await, None);
        assert!(!*looked.lock().unwrap() && !hung.answers());
        drop(end);
        hung.known().paused = None;
        hung.within = Duration::from_secs(60);
        assert!(hung.find_all(ids()).await[0].is_some() && hung.answers(), "it is well again");
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
