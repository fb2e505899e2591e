//! Which status has a session now? The leader is the one writer: what it wrote or decided is newer than what
//! its watch brought.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use fleetprof_core::session::recorded;
use fleetprof_crds::session_status::Phase;
use fleetprof_crds::{ProfileSession, ProfileSessionStatus};
use jiff::Timestamp;
use kube::ResourceExt;

/// The statuses of the sessions that this leader works on, by session uid. What is not worth a write yet is
/// remembered anyway.
#[derive(Default)]
pub struct Written(Mutex<HashMap<String, Entry>>);

/// One session's status.
#[derive(Clone, Default)]
pub struct Entry {
    /// As it was decided last.
    pub latest: ProfileSessionStatus,
    /// As it was written last, by this leader or the one before it.
    pub written: ProfileSessionStatus,
    /// When this leader wrote it; long ago where another did.
    pub at: Timestamp,
    /// The resource version that came of it.
    version: Option<String>,
}

impl Written {
    /// Takes over what the watch brought of a session that this leader has not worked on yet, where it can be
    /// true: who wrote its status told of it as well.
    pub fn begin(&self, seen: &ProfileSession, now: Timestamp) {
        let Some(status) = &seen.status else { return };
        let entry = || Entry {
            latest: recorded::take_over(seen, now),
            written: status.clone(),
            at: Timestamp::MIN,
            version: seen.resource_version(),
        };
        self.with(|all| {
            all.entry(seen.uid().unwrap_or_default()).or_insert_with(entry);
        });
    }

    /// All that is known of a session's status; nothing is written yet where nothing is known.
    pub fn get(&self, uid: &str) -> Entry {
        self.with(|all| all.get(uid).cloned()).unwrap_or_default()
    }

    /// The version that the next write is based on: what came of the last one, or what the watch brought since,
    /// as when somebody cancelled the session. Kubernetes orders the versions of an object as numbers.
    pub fn version(&self, seen: &ProfileSession) -> Option<String> {
        let uid = seen.uid().unwrap_or_default();
        let number = |version: &Option<String>| version.as_ref().and_then(|v| v.parse::<u64>().ok());
        let (written, seen) = (self.get(&uid).version, seen.resource_version());
        if number(&written) > number(&seen) { written } else { seen }
    }

    /// Takes note that the version was not the newest one: the watch brings another.
    pub fn refused(&self, uid: &str) {
        self.with(|all| all.get_mut(uid).map(|entry| entry.version = None));
    }

    /// The phase that was written last, and when; `Pending` and long ago where nothing was.
    pub fn last(&self, uid: &str) -> (Phase, Timestamp) {
        self.with(|all| all.get(uid).map_or((Phase::Pending, Timestamp::MIN), |e| (e.written.phase, e.at)))
    }

    /// The status that was decided last; `None` where this leader has decided none.
    pub fn latest(&self, uid: &str) -> Option<ProfileSessionStatus> {
        self.with(|all| all.get(uid).map(|entry| entry.latest.clone()))
    }

    /// Takes note of a write and the version that came of it.
    pub fn wrote(&self, uid: &str, status: &ProfileSessionStatus, version: Option<String>) {
        let entry = Entry { latest: status.clone(), written: status.clone(), at: Timestamp::now(), version };
        self.with(|all| all.insert(uid.to_owned(), entry));
    }

    /// Takes note of what was decided and is not written yet.
    pub fn decided(&self, uid: &str, status: &ProfileSessionStatus) {
        self.with(|all| all.entry(uid.to_owned()).or_default().latest = status.clone());
    }

    /// Forgets an ended session once the watch has brought what was written last: of those there are many,
    /// and all of them are in memory once already.
    pub fn settle(&self, seen: &ProfileSession) {
        let settled = |entry: &Entry| {
            entry.version.is_some()
                && entry.version == seen.resource_version()
                && entry.latest == entry.written
                && entry.written.phase.is_terminal()
        };
        let uid = seen.uid().unwrap_or_default();
        self.with(|all| {
            if all.get(&uid).is_some_and(settled) {
                all.remove(&uid);
            }
        });
    }

    /// Forgets sessions that are gone.
    pub fn retain(&self, live: impl Fn(&str) -> bool) {
        self.with(|all| all.retain(|uid, _| live(uid)));
    }

    fn with<T>(&self, f: impl FnOnce(&mut HashMap<String, Entry>) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn session(version: &str, phase: &str) -> ProfileSession {
        let metadata = json!({"name": "s", "namespace": "n", "uid": "u", "resourceVersion": version});
        let object = json!({"apiVersion": "fleetprof.dev/v1alpha1", "kind": "ProfileSession", "metadata": metadata, "spec": {}, "status": {"phase": phase}});
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn what_another_leader_wrote_is_written_already() {
        let (written, ended) = (Written::default(), session("1", "Succeeded"));
        written.begin(&ended, Timestamp::now());
        let entry = written.get("u");
        assert_eq!(
            (entry.written.phase, entry.latest.phase, entry.at),
            (Phase::Succeeded, Phase::Succeeded, Timestamp::MIN)
        );
        written.settle(&ended);
        assert_eq!(written.latest("u"), None, "nothing is left to write");
    }

    #[test]
    fn a_write_is_based_on_the_newest_version_that_is_known() {
        let written = Written::default();
        let version = |seen| written.version(&session(seen, "Running"));
        assert_eq!(version("9").as_deref(), Some("9"), "nothing is known of it");
        written.wrote("u", &ProfileSessionStatus::default(), Some("10".into()));
        assert_eq!(version("9").as_deref(), Some("10"), "the watch is behind");
        assert_eq!(version("11").as_deref(), Some("11"), "somebody edited it");
        assert_eq!(version("opaque").as_deref(), Some("10"), "a version that is not a number");
        written.refused("u");
        assert_eq!(version("9").as_deref(), Some("9"), "the API server was restored from a backup");
    }

    #[test]
    fn an_ended_session_is_forgotten_when_the_watch_has_caught_up() {
        let written = Written::default();
        let status = |phase| ProfileSessionStatus { phase, ..ProfileSessionStatus::default() };
        let known = || written.latest("u").map(|s| s.phase);
        written.wrote("u", &status(Phase::Running), Some("2".into()));
        written.settle(&session("2", "Running"));
        assert_eq!(known(), Some(Phase::Running), "it runs");
        written.wrote("u", &status(Phase::Succeeded), Some("3".into()));
        written.settle(&session("2", "Running"));
        assert_eq!(known(), Some(Phase::Succeeded), "the watch is behind");
        let newer = ProfileSessionStatus { message: "more".into(), ..status(Phase::Succeeded) };
        written.begin(&session("3", "Succeeded"), Timestamp::now());
        written.decided("u", &newer);
        written.settle(&session("3", "Succeeded"));
        assert_eq!(known(), Some(Phase::Succeeded), "there is more to write");
        written.wrote("u", &newer, Some("4".into()));
        written.settle(&session("4", "Succeeded"));
        assert_eq!(known(), None);
    }
}
