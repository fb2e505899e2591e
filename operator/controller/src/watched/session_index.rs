//! Which sessions does a change concern? Found without a scan of all of them: by the pods that they capture,
//! by the load that they wait for, by the session that they repeat.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fleetprof_core::pod::PodFacts;
use fleetprof_core::session::{load, repeat};
use fleetprof_crds::ProfileSession;
use fleetprof_crds::session::PolicyKind;
use kube::ResourceExt;

/// A session by namespace and name.
pub type SessionKey = (String, String);

/// A policy by its kind, its namespace (empty for one of the cluster) and its name.
pub type PolicyKey = (PolicyKind, String, String);

/// The live sessions, by what concerns them; a cheap handle.
#[derive(Clone, Default)]
pub struct SessionIndex(Arc<Mutex<Tables>>);

#[derive(Default)]
struct Tables {
    /// What each session is found by.
    entries: HashMap<SessionKey, Entry>,
    by_pod: Multimap<String>,
    awaiting: Multimap<Awaited>,
    by_policy: Multimap<PolicyKey>,
    by_root: Multimap<String>,
    repeating: HashSet<SessionKey>,
    cancelled: HashMap<SessionKey, String>,
}

type Multimap<K> = HashMap<K, HashSet<SessionKey>>;

/// What a session waits for, as far as an index can tell.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Awaited {
    Job { namespace: String, name: String },
    Pods { namespace: String },
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Entry {
    pods: Vec<String>,
    awaited: Option<Awaited>,
    policy: Option<PolicyKey>,
    root: Option<String>,
}

impl SessionIndex {
    /// Takes in a session as it is now; one that has ended is found only where it still repeats.
    pub fn set(&self, session: &ProfileSession) {
        let key = key(session);
        let mut tables = self.tables();
        let ended = session.status.as_ref().is_some_and(|s| s.phase.is_terminal());
        let entry = (!ended).then(|| Entry::of(session));
        tables.replace(&key, entry);
        if session.spec.repeat.is_none() {
            return;
        }
        let open = repeat::is_open(session, &session.status.clone().unwrap_or_default());
        if open {
            tables.repeating.insert(key.clone())
        } else {
            tables.repeating.remove(&key)
        };
        match session.uid().filter(|_| session.spec.cancel) {
            Some(uid) => tables.cancelled.insert(key, uid),
            None => tables.cancelled.remove(&key),
        };
    }

    /// Forgets a session.
    pub fn remove(&self, key: &SessionKey) {
        let mut tables = self.tables();
        tables.replace(key, None);
        tables.repeating.remove(key);
        tables.cancelled.remove(key);
    }

    /// How many sessions have not ended.
    #[must_use]
    pub fn live(&self) -> usize {
        self.tables().entries.len()
    }

    /// Live sessions that capture the pod.
    #[must_use]
    pub fn capturing(&self, pod_uid: &str) -> Vec<SessionKey> {
        self.tables().by_pod.get(pod_uid).into_iter().flatten().cloned().collect()
    }

    /// Live sessions that may wait for a load that the pod is a part of.
    #[must_use]
    pub fn awaiting(&self, pod: &PodFacts) -> Vec<SessionKey> {
        let namespace = pod.namespace.to_string();
        let job = pod.job().map(|name| Awaited::Job { namespace: namespace.clone(), name: name.to_owned() });
        let tables = self.tables();
        let of = |awaited: &Awaited| tables.awaiting.get(awaited).into_iter().flatten().cloned();
        job.iter().flat_map(of).chain(of(&Awaited::Pods { namespace: namespace.clone() })).collect()
    }

    /// Live sessions that wait for the load of a Job.
    #[must_use]
    pub fn awaiting_job(&self, namespace: &str, name: &str) -> Vec<SessionKey> {
        let job = Awaited::Job { namespace: namespace.to_owned(), name: name.to_owned() };
        self.tables().awaiting.get(&job).into_iter().flatten().cloned().collect()
    }

    /// Live sessions that name a policy.
    #[must_use]
    pub fn of_policy(&self, policy: &PolicyKey) -> Vec<SessionKey> {
        self.tables().by_policy.get(policy).into_iter().flatten().cloned().collect()
    }

    /// Sessions that repeat themselves and have not made their last capture.
    #[must_use]
    pub fn repeating(&self) -> Vec<SessionKey> {
        self.tables().repeating.iter().cloned().collect()
    }

    /// Live sessions that repeat one that was cancelled.
    #[must_use]
    pub fn repeats_of_cancelled(&self) -> Vec<SessionKey> {
        let tables = self.tables();
        tables.cancelled.values().filter_map(|uid| tables.by_root.get(uid)).flatten().cloned().collect()
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tables {
    fn replace(&mut self, key: &SessionKey, entry: Option<Entry>) {
        if self.entries.get(key) == entry.as_ref() {
            return;
        }
        if let Some(old) = self.entries.remove(key) {
            old.pods.iter().for_each(|pod| take_out(&mut self.by_pod, pod, key));
            old.awaited.iter().for_each(|load| take_out(&mut self.awaiting, load, key));
            old.policy.iter().for_each(|policy| take_out(&mut self.by_policy, policy, key));
            old.root.iter().for_each(|root| take_out(&mut self.by_root, root, key));
        }
        if let Some(new) = entry {
            new.pods.iter().for_each(|pod| put_in(&mut self.by_pod, pod, key));
            new.awaited.iter().for_each(|load| put_in(&mut self.awaiting, load, key));
            new.policy.iter().for_each(|policy| put_in(&mut self.by_policy, policy, key));
            new.root.iter().for_each(|root| put_in(&mut self.by_root, root, key));
            self.entries.insert(key.clone(), new);
        }
    }
}

impl Entry {
    fn of(session: &ProfileSession) -> Self {
        let targets = session.status.iter().flat_map(|s| &s.targets);
        let namespace = session.namespace().unwrap_or_default();
        let awaited = load::awaited(session).map(|start| match &start.job_ref {
            Some(job) => Awaited::Job { namespace: namespace.clone(), name: job.name.clone() },
            None => Awaited::Pods { namespace: namespace.clone() },
        });
        Self {
            pods: targets.map(|t| t.pod_uid.clone()).collect(),
            awaited,
            policy: policy(session),
            root: repeat::root(session).map(|root| root.uid.clone()),
        }
    }
}

/// The policy that a session names.
#[must_use]
pub fn policy(session: &ProfileSession) -> Option<PolicyKey> {
    let policy = session.spec.policy_ref.as_ref()?;
    let namespace = match policy.kind {
        PolicyKind::ProfilingPolicy => session.namespace()?,
        PolicyKind::ClusterProfilingPolicy => String::new(),
        PolicyKind::Unknown => return None,
    };
    Some((policy.kind, namespace, policy.name.clone()))
}

fn key(session: &ProfileSession) -> SessionKey {
    (session.namespace().unwrap_or_default(), session.name_any())
}

fn put_in<K: Clone + Eq + Hash>(map: &mut Multimap<K>, by: &K, key: &SessionKey) {
    map.entry(by.clone()).or_default().insert(key.clone());
}

fn take_out<K: Eq + Hash>(map: &mut Multimap<K>, by: &K, key: &SessionKey) {
    if let Some(keys) = map.get_mut(by) {
        keys.remove(key);
        if keys.is_empty() {
            map.remove(by);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn session(name: &str, spec: Value, status: Value) -> ProfileSession {
        let object = json!({
            "apiVersion": "fleetprof.dev/v1alpha1", "kind": "ProfileSession",
            "metadata": {"namespace": "shop", "name": name, "uid": name}, "spec": spec, "status": status,
        });
        serde_json::from_value(object).unwrap()
    }

    fn pod(workload: &str) -> PodFacts {
        let owner = json!({"apiVersion": "batch/v1", "kind": "Job", "name": workload, "uid": "w", "controller": true});
        let meta = json!({"namespace": "shop", "name": "p", "uid": "p", "ownerReferences": [owner]});
        PodFacts::of(&serde_json::from_value(json!({"metadata": meta, "spec": {"containers": []}})).unwrap())
            .unwrap()
    }

    fn waiting() -> Value {
        json!({"phase": "Pending", "reason": "WaitingForLoad"})
    }

    fn names(keys: Vec<SessionKey>) -> HashSet<String> {
        keys.into_iter().map(|(_, name)| name).collect()
    }

    fn set<const N: usize>(names: [&str; N]) -> HashSet<String> {
        names.map(str::to_owned).into()
    }

    #[test]
    fn a_session_is_found_by_the_load_that_it_waits_for_until_it_starts() {
        let index = SessionIndex::default();
        let by_job = |job: &str| json!({"startWhen": {"jobRef": {"name": job}}});
        index.set(&session("one", by_job("load"), waiting()));
        index.set(&session("two", by_job("other"), waiting()));
        index.set(&session("three", json!({"startWhen": {"podSelector": {}}}), json!(null)));
        assert_eq!(names(index.awaiting(&pod("load"))), set(["one", "three"]), "also before it says so");
        assert_eq!(names(index.awaiting_job("shop", "load")), set(["one"]));
        index.set(&session(
            "one",
            by_job("load"),
            json!({"phase": "Running", "startTime": "2026-01-01T00:00:00Z"}),
        ));
        assert_eq!(names(index.awaiting(&pod("load"))), set(["three"]));
        assert_eq!(index.live(), 3);
    }

    #[test]
    fn a_session_is_found_by_its_pods_until_it_ends() {
        let index = SessionIndex::default();
        let running = |phase: &str| json!({"phase": phase, "targets": [{"podUid": "p", "pod": "p", "workload": "", "container": "", "phase": "Running"}]});
        index.set(&session("one", json!({}), running("Running")));
        assert_eq!(names(index.capturing("p")), set(["one"]));
        index.set(&session("one", json!({}), running("Succeeded")));
        assert_eq!((names(index.capturing("p")), index.live()), (set([]), 0));
    }

    #[test]
    fn a_session_is_found_by_its_policy_until_it_ends() {
        let index = SessionIndex::default();
        let spec = |kind: &str| json!({"policyRef": {"kind": kind, "name": "p"}});
        let of = |kind, namespace: &str| names(index.of_policy(&(kind, namespace.into(), "p".into())));
        index.set(&session("one", spec("ProfilingPolicy"), waiting()));
        index.set(&session("two", spec("ClusterProfilingPolicy"), waiting()));
        assert_eq!(of(PolicyKind::ProfilingPolicy, "shop"), set(["one"]));
        assert_eq!(of(PolicyKind::ProfilingPolicy, "other"), set([]));
        assert_eq!(of(PolicyKind::ClusterProfilingPolicy, ""), set(["two"]));
        index.set(&session("one", spec("ProfilingPolicy"), json!({"phase": "Failed"})));
        assert_eq!(of(PolicyKind::ProfilingPolicy, "shop"), set([]));
    }

    #[test]
    fn a_session_is_forgotten_as_a_whole() {
        let index = SessionIndex::default();
        let policy = json!({"kind": "ProfilingPolicy", "name": "p"});
        let spec = json!({"cancel": true, "policyRef": policy, "repeat": {"interval": "1m"}, "startWhen": {"podSelector": {}}});
        index.set(&session("one", spec, waiting()));
        assert_eq!(names(index.repeating()), set(["one"]));
        index.remove(&("shop".into(), "one".into()));
        let tables = index.tables();
        let Tables { entries, by_pod, awaiting, by_policy, by_root, repeating, cancelled } = &*tables;
        let by = [by_pod.len(), awaiting.len(), by_policy.len(), by_root.len()];
        assert_eq!((entries.len(), by, repeating.len(), cancelled.len()), (0, [0; 4], 0, 0));
    }
}
