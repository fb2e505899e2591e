//! What does a leader remember of triggers between two looks? How long lines are crossed, which sessions it
//! made just now, and what it has told already. All of it may be lost: sessions tell what matters.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fleetprof_core::trigger::alert::{Notification, Rules, Told};
use fleetprof_core::trigger::answers::{Answers, KnownQueries};
use fleetprof_core::trigger::known_alerts::KnownAlerts;
use fleetprof_core::trigger::level::{Known, Measure};
use fleetprof_core::trigger::questions::Question;
use fleetprof_core::trigger::reach::Reach;
use fleetprof_core::trigger::rollout::Revision;
use fleetprof_core::trigger::{Held, Levels};
use fleetprof_core::view::PolicyView;
use fleetprof_crds::ProfileSession;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::prometheus::Answer;

/// By then the watch has brought a session that was created.
const FRESH: SignedDuration = SignedDuration::from_secs(30);
/// What was told is forgotten as a whole at this many rows.
const MAX_TOLD: usize = 10_000;
/// The levels of a policy that was not reconciled for this long are forgotten: every policy is looked at each
/// 15 s, so it is gone.
const GONE: SignedDuration = SignedDuration::from_mins(10);
/// A session that the API server rejected is not tried again for this long.
const REFUSED: SignedDuration = SignedDuration::from_secs(60);
/// A rejection is forgotten when the session was not tried again for this long.
const REFUSAL_KNOWN: SignedDuration = SignedDuration::from_hours(1);
/// An event about alerts that lead nowhere is written at most so often for each cause.
const NOWHERE: SignedDuration = SignedDuration::from_mins(30);
/// Compiled matchers that are kept take at most so many bytes together, and are forgotten as a whole beyond that.
const MAX_RULES: usize = 16 << 20;
/// Revisions are forgotten as a whole at this many.
const MAX_REVISIONS: usize = 10_000;

/// The leader's memory of triggers; a cheap handle.
#[derive(Clone, Default)]
pub struct Memory(Arc<Inner>);

#[derive(Default)]
struct Inner {
    state: Mutex<State>,
    one_at_a_time: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    levels: HashMap<String, (Timestamp, Levels)>,
    refused: HashMap<(String, String), Timestamp>,
    nowhere: HashMap<Reach, Timestamp>,
    created: Vec<(Timestamp, Arc<ProfileSession>)>,
    told: HashSet<(String, String, String)>,
    alerts: KnownAlerts,
    /// By uid of the policy, with its generation.
    rules: HashMap<String, (i64, Arc<Rules>)>,
    revisions: HashMap<Revision, Timestamp>,
    queries: Answers,
}

impl Memory {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Works on the runs of a policy.
    pub(super) fn levels<T>(
        &self,
        policy_uid: &str,
        now: Timestamp,
        work: impl FnOnce(&mut Levels) -> T,
    ) -> T {
        let mut state = self.state();
        if !state.levels.contains_key(policy_uid) {
            state.levels.retain(|_, (asked, _)| now.duration_since(*asked) < GONE);
        }
        let (asked, levels) = state.levels.entry(policy_uid.to_owned()).or_default();
        *asked = now;
        work(levels)
    }

    /// Of how many containers of a policy each measure is known.
    pub(super) fn known(&self, policy_uid: &str) -> BTreeMap<Measure, Known> {
        self.state().levels.get(policy_uid).map(|(_, levels)| levels.known().clone()).unwrap_or_default()
    }

    /// Whether the session was refused so lately that it would be refused again.
    pub(crate) fn is_refused(&self, session: &ProfileSession, now: Timestamp) -> bool {
        self.state().refused.get(&key(session)).is_some_and(|at| now.duration_since(*at) < REFUSED)
    }

    /// Notes that the API server rejected a session. Says whether that is new, so that it is reported once.
    pub(crate) fn refuse(&self, session: &ProfileSession, now: Timestamp) -> bool {
        let mut state = self.state();
        state.refused.retain(|_, at| now.duration_since(*at) < REFUSAL_KNOWN);
        state.refused.insert(key(session), now).is_none()
    }

    /// Whether it is time to tell of alerts that came no further than this.
    pub(super) fn tell_nowhere(&self, reach: Reach, now: Timestamp) -> bool {
        let mut state = self.state();
        let lately = state.nowhere.get(&reach).is_some_and(|at| now.duration_since(*at) < NOWHERE);
        if !lately {
            state.nowhere.insert(reach, now);
        }
        !lately
    }

    /// Forgets the runs and the matchers of a policy without triggers.
    pub(super) fn forget(&self, policy: &PolicyView<'_>) {
        let mut state = self.state();
        state.levels.remove(policy.uid);
        state.rules.remove(policy.uid);
    }

    /// The compiled matchers of a policy, compiled once for each generation.
    pub(super) fn rules(&self, policy: &PolicyView<'_>) -> Arc<Rules> {
        let generation = policy.generation.unwrap_or_default();
        let known = self.state().rules.get(policy.uid).filter(|(of, _)| *of == generation).cloned();
        if let Some((_, rules)) = known {
            return rules;
        }
        // Not under the lock: it may take a while.
        let rules = Arc::new(Rules::of(policy));
        let mut state = self.state();
        let kept: usize = state.rules.values().map(|(_, rules)| rules.bytes()).sum();
        if kept + rules.bytes() > MAX_RULES {
            state.rules.clear();
        }
        state.rules.insert(policy.uid.to_owned(), (generation, rules.clone()));
        rules
    }

    /// Two firings never look at the same past: whoever holds this decides and creates alone.
    pub(super) async fn alone(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.0.one_at_a_time.lock().await
    }

    /// Notes a session that was created.
    pub(super) fn created(&self, session: ProfileSession, now: Timestamp) {
        self.state().created.push((now, Arc::new(session)));
    }

    /// `seen` and what was created so lately that the watch may not have brought it yet.
    pub(super) fn with_created(
        &self,
        mut seen: Vec<Arc<ProfileSession>>,
        policy: &PolicyView<'_>,
        now: Timestamp,
    ) -> Vec<Arc<ProfileSession>> {
        let mut state = self.state();
        state.created.retain(|(at, _)| now.duration_since(*at) < FRESH);
        let of_policy =
            |s: &ProfileSession| s.metadata.owner_references.iter().flatten().any(|o| o.uid == policy.uid);
        for (_, session) in state.created.iter().filter(|(_, s)| of_policy(s)) {
            if !seen.iter().any(|s| s.metadata.uid == session.metadata.uid) {
                seen.push(session.clone());
            }
        }
        seen
    }

    /// Takes in a notification.
    pub(super) fn take_alerts(&self, notification: Notification, now: Timestamp) {
        self.state().alerts.take(notification, now);
    }

    /// The alerts that are known to fire.
    pub(super) fn alerts(&self, now: Timestamp) -> Vec<Told> {
        self.state().alerts.all(now)
    }

    /// Takes in an answer of Prometheus.
    pub(super) fn take_answer(&self, question: &Question, answer: Answer, now: Timestamp) {
        self.state().queries.take(question, answer, now);
    }

    /// Forgets the answers to all other queries.
    pub(super) fn keep_answers(&self, to: &HashSet<Question>) {
        self.state().queries.keep(to);
    }

    /// What is known of the queries of a policy, by name.
    pub(super) fn queries(&self, policy: &PolicyView<'_>) -> Arc<KnownQueries> {
        self.state().queries.of(policy.uid)
    }

    /// When a revision was made, where that is known.
    pub(super) fn revision(&self, revision: &Revision) -> Option<Timestamp> {
        self.state().revisions.get(revision).copied()
    }

    /// Remembers when a revision was made, which never changes.
    pub(super) fn note_revision(&self, revision: Revision, created: Timestamp) {
        let mut state = self.state();
        if state.revisions.len() >= MAX_REVISIONS {
            state.revisions.clear();
        }
        state.revisions.insert(revision, created);
    }

    /// Whether it was not told yet that this firing is held back by that session.
    pub(super) fn tell_once(&self, policy: &PolicyView<'_>, held: &Held) -> bool {
        let mut state = self.state();
        if state.told.len() >= MAX_TOLD {
            state.told.clear();
        }
        let about = format!("{}/{} {}", held.firing.namespace, held.firing.workload, held.firing.source);
        state.told.insert((policy.uid.to_owned(), about, held.after.clone()))
    }
}

fn key(session: &ProfileSession) -> (String, String) {
    let ObjectMeta { namespace, name, .. } = &session.metadata;
    (namespace.clone().unwrap_or_default(), name.clone().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use fleetprof_core::pod::{RevisionObject, Workload};
    use fleetprof_core::trigger::Firing;
    use fleetprof_core::trigger::alert::Alert;

    use fleetprof_crds::ProfilingPolicy;
    use fleetprof_crds::session::Trigger;
    use serde_json::json;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn session(name: usize) -> ProfileSession {
        let meta = serde_json::json!({"namespace": "shop", "name": format!("s{name}")});
        let object = serde_json::json!({
            "apiVersion": "fleetprof.dev/v1alpha1", "kind": "ProfileSession", "metadata": meta, "spec": {},
        });
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn what_is_remembered_of_policies_that_are_gone_does_not_grow() {
        let memory = Memory::default();
        for n in 0_i64..1000 {
            // A policy of a namespace that lives for a minute, and one that stays.
            memory.levels(&format!("uid-{n}"), at(n * 60), |_| ());
            memory.levels("stays", at(n * 60), |_| ());
        }
        let known = memory.state().levels.len();
        assert!(known <= 12, "{known} policies are remembered");
        assert!(memory.state().levels.contains_key("stays"));
    }

    #[test]
    fn a_refused_session_is_told_once_and_tried_again_after_a_minute() {
        let memory = Memory::default();
        let one = session(1);
        assert!(!memory.is_refused(&one, at(0)));
        assert!(memory.refuse(&one, at(0)));
        assert_eq!((memory.is_refused(&one, at(59)), memory.is_refused(&one, at(60))), (true, false));
        assert!(!memory.refuse(&one, at(60)), "it was told");
        for n in 2..1000 {
            memory.refuse(&session(n), at(4000 * i64::try_from(n).unwrap()));
        }
        assert_eq!(memory.state().refused.len(), 1, "nothing is kept of refusals of long ago");
    }

    fn policy() -> ProfilingPolicy {
        serde_json::from_value(json!({
            "apiVersion": "fleetprof.dev/v1alpha1", "kind": "ProfilingPolicy",
            "metadata": {"name": "p", "namespace": "shop", "uid": "u"}, "spec": {"selector": {}},
        }))
        .unwrap()
    }

    /// A day in which an alert comes and a session is made every ten seconds, each another one.
    #[test]
    fn what_is_remembered_of_alerts_and_sessions_does_not_grow() {
        let memory = Memory::default();
        let policy = policy();
        for n in 0..8640 {
            let now = at(n * 10);
            let alert = Alert { labels: [].into(), fingerprint: n.to_string(), starts_at: now };
            let firing = vec![Arc::new(alert)];
            memory.take_alerts(Notification { firing, ..Notification::default() }, now);
            memory.created(session(usize::try_from(n).unwrap()), now);
            memory.with_created(vec![], &(&policy).into(), now);
            let state = memory.state();
            let alerts = state.alerts.all(now).len();
            assert!(alerts <= 361, "{alerts} alerts are remembered for an hour");
            assert!(state.created.len() <= 3, "{} sessions are remembered for 30 s", state.created.len());
        }
    }

    #[test]
    fn what_was_told_and_revisions_are_remembered_up_to_a_bound() {
        let memory = Memory::default();
        let policy = policy();
        let workload = Workload { kind: "Deployment".into(), name: "web".into() };
        let firing = Firing {
            trigger: Trigger::Cpu,
            source: "cpu".into(),
            namespace: "shop".into(),
            workload: workload.clone(),
            pods: vec![],
            cause: String::new(),
            key: String::new(),
            ongoing: None,
            duration: fleetprof_crds::Duration::from_secs(30),
            compare: None,
            cooldown: fleetprof_crds::Duration::from_secs(60),
            labels: [].into(),
        };
        for n in 0..2 * MAX_TOLD + 10 {
            let held = Held { firing: firing.clone(), after: n.to_string(), until: at(0) };
            assert!(memory.tell_once(&(&policy).into(), &held));
            let (workload, object) = (workload.clone(), RevisionObject::ReplicaSet("web".into()));
            let revision = Revision { namespace: "shop".into(), workload, object, label: n.to_string() };
            memory.note_revision(revision, at(0));
        }
        let state = memory.state();
        assert_eq!((state.told.len(), state.revisions.len()), (10, 10));
    }

    #[test]
    fn alerts_that_lead_nowhere_are_told_twice_an_hour_for_each_cause() {
        let memory = Memory::default();
        let told = |reach, second| memory.tell_nowhere(reach, at(second));
        assert_eq!(
            [told(Reach::NoPod, 0), told(Reach::NoPod, 1799), told(Reach::NoPod, 1800)],
            [true, false, true]
        );
        assert!(told(Reach::NoNamespace, 1));
    }

    #[test]
    fn matchers_are_compiled_once_for_each_generation() {
        let memory = Memory::default();
        let policy = |generation: i64, matcher: &str| -> ProfilingPolicy {
            serde_json::from_value(json!({
                "apiVersion": "fleetprof.dev/v1alpha1", "kind": "ProfilingPolicy",
                "metadata": {"name": "p", "namespace": "shop", "uid": "u", "generation": generation},
                "spec": {"selector": {}, "triggers": {"alerts": [{"matchers": [matcher]}]}},
            }))
            .unwrap()
        };
        let rules = |policy: &ProfilingPolicy| memory.rules(&policy.into());
        let first = rules(&policy(1, "a=~\"b.*\""));
        assert!(Arc::ptr_eq(&first, &rules(&policy(1, "a=~\"b.*\""))));
        let edited = rules(&policy(2, "a=~\"(\""));
        assert!(!Arc::ptr_eq(&first, &edited));
        assert_eq!((first.problems.len(), edited.problems.len()), (0, 1));
        memory.forget(&(&policy(2, "")).into());
        assert!(memory.state().rules.is_empty());
    }

    /// Many policies with patterns that compile to much.
    #[test]
    fn compiled_matchers_take_a_number_of_bytes() {
        let memory = Memory::default();
        let large: Vec<String> = (0..16).map(|n| format!("a=~\"{n}\\w+-\\w+-\\w+-\\w+\"")).collect();
        for n in 0..5 {
            let policy: ProfilingPolicy = serde_json::from_value(json!({
                "apiVersion": "fleetprof.dev/v1alpha1", "kind": "ProfilingPolicy",
                "metadata": {"name": "p", "namespace": "shop", "uid": n.to_string(), "generation": 1},
                "spec": {"selector": {}, "triggers": {"alerts": vec![json!({"matchers": large}); 8]}},
            }))
            .unwrap();
            let rules = memory.rules(&(&policy).into());
            assert!(rules.problems[0].contains("take too much memory together"), "{:?}", rules.problems);
            let kept: usize = memory.state().rules.values().map(|(_, rules)| rules.bytes()).sum();
            assert!(kept <= MAX_RULES && rules.bytes() > 1 << 20, "{kept} {}", rules.bytes());
        }
    }
}
