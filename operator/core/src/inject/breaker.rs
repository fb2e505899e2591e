//! Was a pod refused because of its agent? Whoever creates pods says so in an event; from then on the pods of that
//! workload start without one.
//!
//! ```text
//! pod with an agent ─► attempt ─► injected, and remembered for two minutes
//!                         ▲               │
//!                         │     FailedCreate of its owner: refused(words)
//!                         │               ▼
//!                         └──── the workload is left alone, until its revision or its policy changes
//! ```
//! An image that a kubelet cannot pull is left out of the namespace's pods, until no kubelet has complained for ten
//! minutes: the app of a pod that has it does not start. An event counts in its own namespace alone, since anyone who
//! may write events there can forge it.
//!
//! No cause has to be known for a refusal: whatever refuses pods, be it a rule of the API server or the webhook of
//! somebody else, the second pod is as its owner wanted it. An event that follows no injection is ignored: a
//! workload whose pods fail without one keeps its agents.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::hash::short_name;
use crate::pod::{Workload, controller, workload};
use crate::text::{cut, printable};
use crate::time::after;
use crate::view::PolicyView;

/// How long after an attempt a refusal is put down to it. Controllers tell at once; watches may lag.
const OURS: SignedDuration = SignedDuration::from_mins(2);
/// How long a workload is left alone that does not change.
const HOLD: SignedDuration = SignedDuration::from_hours(24);
/// Most attempts, refused workloads, refusals from before the start, and namespaces with an image that cannot be pulled;
/// about 1 KiB each.
const MOST: usize = 10_000;
/// How long an image is left out after a kubelet could not pull it. A kubelet tries every 5 minutes at least.
const IMAGE_HOLD: SignedDuration = SignedDuration::from_mins(10);
/// Most bytes of the API server's words.
const WORDS: usize = 200;

/// The label of a revision's pods where one owner serves all revisions.
const REVISION: &str = "controller-revision-hash";

/// A pod of a workload that is about to get an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// UID of the pod's controller, such as a ReplicaSet: events name it.
    pub owner: String,
    /// The workload, which stays when its controller changes.
    pub of: (String, Workload),
    /// Image of the agent.
    pub image: String,
    /// What another attempt would be made under, once it changed.
    pub terms: Terms,
}

/// What refused pods depend on: while it is as it was, the next pod would be refused as well.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    policy: String,
    generation: Option<i64>,
    revision: String,
}

impl Attempt {
    /// The attempt on a pod; `None` for a pod without a controller, whose creator gets the refusal as an answer.
    #[must_use]
    pub fn of(
        (pod, namespace): (&Value, &str),
        (policy, image): (&PolicyView<'_>, &str),
        now: Timestamp,
    ) -> Option<Self> {
        let meta = ObjectMeta::deserialize(pod.get("metadata")?).ok()?;
        // A run of a CronJob is known by the minute in its name, beside which its pod was made.
        let creation_timestamp = meta.creation_timestamp.clone().or(Some(Time(now)));
        let typed = Pod { metadata: ObjectMeta { creation_timestamp, ..meta }, ..Pod::default() };
        let owner = controller(&typed).filter(|owner| !owner.uid.is_empty())?;
        let revision = revision(owner, &typed.metadata, &pod["spec"]);
        Some(Self {
            owner: owner.uid.clone(),
            of: (namespace.to_owned(), workload(&typed)),
            image: image.to_owned(),
            terms: Terms { policy: policy.uid.to_owned(), generation: policy.generation, revision },
        })
    }
}

/// What is another one once the workload's template changed: the owner that is made for each revision, else the
/// label. Each run of a CronJob has a Job of its own, so that only what the pod itself asks for tells.
fn revision(owner: &OwnerReference, meta: &ObjectMeta, spec: &Value) -> String {
    if owner.kind == "Job" {
        let parts = ["containers", "initContainers", "securityContext", "resources"].map(|key| &spec[key]);
        return short_name(&[&json!(parts).to_string()]);
    }
    let label = meta.labels.as_ref().and_then(|labels| labels.get(REVISION)).map_or("", String::as_str);
    short_name(&[&owner.name, label])
}

/// What is remembered of attempts and refusals. Bounded: what is oldest is forgotten first.
#[derive(Debug, Default)]
pub struct Breaker {
    /// By UID of the owner.
    attempts: HashMap<String, (Attempt, Timestamp)>,
    /// By namespace and workload.
    refused: HashMap<(String, Workload), Refused>,
    /// Refusals from before the start, by namespace and UID of the owner: who made the attempt is not known any more.
    before: HashMap<(String, String), (String, Timestamp)>,
    /// By namespace, the image that could not be pulled last.
    images: HashMap<String, Image>,
}

/// An image that a kubelet could not pull.
#[derive(Debug)]
struct Image {
    name: String,
    words: String,
    at: Timestamp,
}

impl Image {
    fn is_left_out(&self, name: &str, now: Timestamp) -> bool {
        self.name == name && now < after(self.at, IMAGE_HOLD)
    }
}

#[derive(Debug)]
struct Refused {
    words: String,
    terms: Terms,
    at: Timestamp,
}

impl Breaker {
    /// The words with which pods of the workload were refused, if they still hold: then this one gets no agent. Else
    /// the attempt is remembered.
    pub fn attempt(&mut self, attempt: Attempt, now: Timestamp) -> Option<String> {
        let owner = (attempt.of.0.clone(), attempt.owner.clone());
        if let Some((words, at)) = self.before.remove(&owner) {
            self.hold(attempt.of.clone(), Refused { words, terms: attempt.terms.clone(), at });
        }
        let image = self.images.get(&attempt.of.0).filter(|image| image.is_left_out(&attempt.image, now));
        if let Some(image) = image {
            return Some(image.words.clone());
        }
        if let Some(refused) = self.refused.get(&attempt.of) {
            if refused.terms == attempt.terms && now.duration_since(refused.at) < HOLD {
                return Some(refused.words.clone());
            }
            self.refused.remove(&attempt.of);
        }
        if self.attempts.len() >= MOST {
            self.attempts.retain(|_, (_, at)| now.duration_since(*at) < OURS);
            oldest_out(&mut self.attempts, |(_, at)| *at);
        }
        self.attempts.insert(attempt.owner.clone(), (attempt, now));
        None
    }

    /// The owner, by namespace of the event and UID, could not create a pod. Gives the workload that is left alone from
    /// now on; `None` where no attempt of the last minutes can be the cause, or it is left alone already.
    pub fn refused(
        &mut self,
        (namespace, owner): (&str, &str),
        words: &str,
        now: Timestamp,
    ) -> Option<(String, Workload)> {
        self.attempts.get(owner).filter(|(attempt, _)| attempt.of.0 == namespace)?;
        let (attempt, _) =
            self.attempts.remove(owner).filter(|(_, at)| now.duration_since(*at).abs() < OURS)?;
        let words = cut(&printable(words), WORDS);
        self.hold(attempt.of.clone(), Refused { words, terms: attempt.terms, at: now });
        Some(attempt.of)
    }

    /// A kubelet could not start the agent's container in a pod of the namespace. Gives the image that is left out there
    /// from now on; `None` where the words name none, or it is left out already.
    pub fn not_started(&mut self, namespace: &str, words: &str, now: Timestamp) -> Option<String> {
        let name = image_of(words)?.to_owned();
        let is_known = self.images.get(namespace).is_some_and(|image| image.is_left_out(&name, now));
        if !self.images.contains_key(namespace) {
            oldest_out(&mut self.images, |image| image.at);
        }
        let image = Image { name: name.clone(), words: cut(&printable(words), WORDS), at: now };
        self.images.insert(namespace.to_owned(), image);
        (!is_known).then_some(name)
    }

    /// An owner that could not create a pod before this process started: an attempt of another one may be the cause.
    pub fn was_refused(&mut self, (namespace, owner): (&str, &str), words: &str, now: Timestamp) {
        oldest_out(&mut self.before, |(_, at)| *at);
        self.before.insert((namespace.to_owned(), owner.to_owned()), (cut(&printable(words), WORDS), now));
    }

    fn hold(&mut self, of: (String, Workload), refused: Refused) {
        oldest_out(&mut self.refused, |refused| refused.at);
        self.refused.insert(of, refused);
    }
}

/// The image in the words of a kubelet that cannot pull it, such as `Failed to pull image "a:1": not found`.
fn image_of(words: &str) -> Option<&str> {
    let (before, rest) = words.split_once('"')?;
    let (image, _) = rest.split_once('"')?;
    (before.to_lowercase().contains("image") && !image.is_empty()).then_some(image)
}

/// Makes room for one, if there is none.
fn oldest_out<K: Clone + Eq + std::hash::Hash, V>(map: &mut HashMap<K, V>, at: impl Fn(&V) -> Timestamp) {
    if map.len() < MOST {
        return;
    }
    let oldest = map.iter().min_by_key(|(_, value)| at(value)).map(|(key, _)| key.clone());
    oldest.map(|key| map.remove(&key));
}

#[cfg(test)]
mod tests {
    use fleetprof_crds::ProfilingPolicy;
    use proptest::prelude::*;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_796_000_000 + second).unwrap()
    }

    fn policy(generation: i64) -> ProfilingPolicy {
        serde_json::from_value(json!({
            "apiVersion": "fleetprof.dev/v1alpha1", "kind": "ProfilingPolicy", "spec": {"selector": {}},
            "metadata": {"namespace": "shop", "name": "all", "uid": "p", "generation": generation},
        }))
        .unwrap()
    }

    fn owned(kind: &str, name: &str, labels: Value) -> Value {
        let owner = json!({"apiVersion": "v1", "kind": kind, "name": name, "uid": name, "controller": true});
        json!({
            "metadata": {"labels": labels, "ownerReferences": [owner]},
            "spec": {"containers": [{"name": "a"}], "volumes": [{"name": "random"}]},
        })
    }

    fn web(hash: &str) -> Value {
        owned("ReplicaSet", &format!("web-{hash}"), json!({"pod-template-hash": hash}))
    }

    fn db(hash: &str) -> Value {
        owned("StatefulSet", "db", json!({"controller-revision-hash": hash}))
    }

    fn attempt(pod: &Value, generation: i64) -> Attempt {
        let policy = policy(generation);
        Attempt::of((pod, "shop"), (&PolicyView::from(&policy), "agent:1"), at(0)).unwrap()
    }

    #[test]
    fn pods_that_were_refused_start_without_an_agent_until_workload_or_policy_change() {
        for (now, later) in [(web("1"), web("2")), (db("1"), db("2"))] {
            let mut breaker = Breaker::default();
            let first = attempt(&now, 1);
            assert_eq!(breaker.attempt(first.clone(), at(0)), None);
            assert_eq!(
                breaker.refused(("shop", &first.owner), "no\n\u{1b}[1m", at(1)),
                Some(first.of.clone())
            );
            assert_eq!(
                breaker.refused(("shop", &first.owner), "again", at(2)),
                None,
                "nothing was tried since"
            );
            assert_eq!(breaker.attempt(first.clone(), at(2)).as_deref(), Some("no [1m"));
            assert_eq!(breaker.attempt(first.clone(), at(24 * 3600)).as_deref(), Some("no [1m"));
            assert_eq!(breaker.attempt(attempt(&later, 1), at(3)), None, "the workload changed");
            assert_eq!(breaker.attempt(first.clone(), at(3)), None, "and changed back");
            assert!(breaker.refused(("shop", &first.owner), "no", at(4)).is_some());
            assert_eq!(breaker.attempt(attempt(&now, 2), at(5)), None, "the policy changed");
            assert!(breaker.refused(("shop", &first.owner), "no", at(6)).is_some());
            assert_eq!(breaker.attempt(attempt(&now, 2), at(6 + 24 * 3600)), None, "after a day");
        }
    }

    #[test]
    fn a_failure_without_an_attempt_is_not_ours() {
        let mut breaker = Breaker::default();
        let web = attempt(&web("1"), 1);
        assert_eq!(breaker.refused(("shop", &web.owner), "exceeded quota", at(0)), None);
        assert_eq!(breaker.attempt(web.clone(), at(1)), None);
        assert_eq!(breaker.refused(("shop", &web.owner), "exceeded quota", at(121)), None, "long after it");
        assert_eq!(breaker.attempt(web, at(122)), None);
    }

    #[test]
    fn what_was_refused_before_the_start_is_left_alone_as_well() {
        let mut breaker = Breaker::default();
        let web = attempt(&web("1"), 1);
        breaker.was_refused(("evil", &web.owner), "forged", at(0));
        breaker.was_refused(("shop", &web.owner), "no", at(0));
        assert_eq!(breaker.attempt(web.clone(), at(1)).as_deref(), Some("no"));
        assert_eq!(breaker.attempt(attempt(&super::tests::web("1"), 2), at(2)), None, "the policy changed");
    }

    #[test]
    fn runs_of_a_cron_job_are_one_workload_and_pods_without_an_owner_none() {
        let minute = at(0).as_second() / 60;
        let run = |n: i64| owned("Job", &format!("tick-{}", minute + n), json!({}));
        let mut breaker = Breaker::default();
        assert_eq!(breaker.attempt(attempt(&run(0), 1), at(0)), None);
        let of = breaker.refused(("shop", &format!("tick-{minute}")), "no", at(1)).unwrap();
        assert_eq!(of.1.to_string(), "CronJob/tick");
        assert!(breaker.attempt(attempt(&run(1), 1), at(60)).is_some());
        let mut larger = run(2);
        larger["spec"]["containers"][0]["resources"] = json!({"limits": {"cpu": "1"}});
        assert_eq!(breaker.attempt(attempt(&larger, 1), at(120)), None, "its template changed");
        let policy = policy(1);
        let bare = json!({"metadata": {"name": "a"}, "spec": {}});
        assert_eq!(Attempt::of((&bare, "shop"), (&PolicyView::from(&policy), "agent:1"), at(0)), None);
    }

    #[test]
    fn an_image_that_cannot_be_pulled_is_left_out_until_nobody_complains() {
        let mut breaker = Breaker::default();
        let web = attempt(&web("1"), 1);
        let words = "Failed to pull image \"agent:1\": not found";
        for unknown in
            ["Failed to pull image \"agent:2\": not found", "Error: ErrImagePull", "say \"agent:1\""]
        {
            breaker.not_started("shop", unknown, at(0));
            assert_eq!(breaker.attempt(web.clone(), at(0)), None, "{unknown}");
        }
        assert!(breaker.not_started("evil", words, at(0)).is_some());
        assert_eq!(breaker.attempt(web.clone(), at(0)), None, "an event of another namespace");
        assert_eq!(breaker.not_started("shop", words, at(0)).as_deref(), Some("agent:1"));
        assert_eq!(breaker.not_started("shop", words, at(300)), None, "it is left out already");
        assert_eq!(breaker.attempt(web.clone(), at(899)).as_deref(), Some(words));
        assert_eq!(breaker.attempt(web, at(900)), None);
        assert!(breaker.not_started("shop", words, at(1000)).is_some());
    }

    #[test]
    fn an_event_of_another_namespace_ends_nothing() {
        let mut breaker = Breaker::default();
        let web = attempt(&web("1"), 1);
        assert_eq!(breaker.attempt(web.clone(), at(0)), None);
        assert_eq!(breaker.refused(("evil", &web.owner), "forged", at(1)), None);
        assert_eq!(breaker.attempt(web.clone(), at(2)), None);
        assert!(breaker.refused(("shop", &web.owner), "no", at(3)).is_some(), "and hides nothing");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut breaker = Breaker::default();
        let name = |n: usize| format!("web-{n}");
        for n in 0..MOST + 10 {
            let now = at(n as i64 / 100);
            breaker.was_refused(("shop", &name(n)), "no", now);
            breaker.not_started(&name(n), "image \"a\"", now);
            let pod = owned("ReplicaSet", &name(n), json!({}));
            breaker.attempt(attempt(&pod, 1), now);
            breaker.attempt(attempt(&owned("ReplicaSet", &format!("x{n}"), json!({})), 1), now);
            breaker.refused(("shop", &format!("x{n}")), "no", now);
            breaker.attempt(attempt(&owned("ReplicaSet", &format!("y{n}"), json!({})), 1), now);
        }
        let held =
            [breaker.attempts.len(), breaker.refused.len(), breaker.before.len(), breaker.images.len()];
        assert!(held.into_iter().all(|n| n <= MOST), "{held:?}");
    }

    proptest! {
        /// However attempts and refusals follow one another: after a refusal no pod of the same revision and policy
        /// gets an agent within the hour, and a workload that was never refused always gets one.
        #[test]
        fn a_refusal_ends_the_injection_of_its_workload_alone(
            steps in proptest::collection::vec((0usize..3, 0i64..2, any::<bool>()), 1..60),
        ) {
            let mut breaker = Breaker::default();
            let mut tried: [Option<Terms>; 3] = Default::default();
            let mut refused: [Option<Terms>; 3] = Default::default();
            for (second, (who, generation, fails)) in steps.into_iter().enumerate() {
                let attempt = attempt(&owned("ReplicaSet", &format!("web{who}"), json!({})), generation);
                let now = at(second as i64);
                if fails {
                    let known = breaker.refused(("shop", &attempt.owner), "no", now).is_some();
                    prop_assert_eq!(known, tried[who].is_some());
                    if let Some(terms) = tried[who].take() {
                        refused[who] = Some(terms);
                    }
                    continue;
                }
                let held = refused[who].as_ref() == Some(&attempt.terms);
                prop_assert_eq!(breaker.attempt(attempt.clone(), now).is_some(), held);
                if !held {
                    (tried[who], refused[who]) = (Some(attempt.terms), None);
                }
            }
        }
    }
}
