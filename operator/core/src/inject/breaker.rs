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
//! A pod that gets no agent is told why in an annotation. Where that is refused as well, the next ones of the workload
//! are not changed at all.
//!
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

/// Why a pod gets no agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The words of the API server, or of a kubelet.
    pub words: String,
    /// Whether the pod may carry them: the API server has not refused pods that did.
    pub is_told: bool,
}

/// What was done with the last pod of an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Done {
    /// It got an agent.
    Injected,
    /// It was told why it gets none.
    Told,
}

/// What is remembered of attempts and refusals. Bounded: what is oldest is forgotten first.
#[derive(Debug, Default)]
pub struct Breaker {
    /// By UID of the owner.
    attempts: HashMap<String, (Attempt, Done, Timestamp)>,
    /// By namespace and workload.
    refused: HashMap<(String, Workload), Refused>,
    /// Refusals from before the start, by namespace and UID of the owner: who made the attempt is not known any more.
    before: HashMap<(String, String), (String, Timestamp)>,
    /// By namespace, the image that could not be pulled last.
    images: HashMap<String, Image>,
    /// By namespace and workload, pods that were refused because they were told why they get no agent.
    untold: HashMap<(String, Workload), (Terms, Timestamp)>,
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
    /// Why pods of the workload get no agent, if that still holds; else this one gets it. What is done with it is
    /// remembered.
    pub fn attempt(&mut self, attempt: Attempt, now: Timestamp) -> Option<Held> {
        let words = self.words(&attempt, now);
        let is_untold = self
            .untold
            .get(&attempt.of)
            .is_some_and(|(terms, at)| *terms == attempt.terms && now.duration_since(*at) < HOLD);
        if !is_untold {
            self.untold.remove(&attempt.of);
        }
        let held = words.map(|words| Held { words, is_told: !is_untold });
        let done = held.as_ref().map_or(Some(Done::Injected), |held| held.is_told.then_some(Done::Told));
        if let Some(done) = done {
            if self.attempts.len() >= MOST {
                self.attempts.retain(|_, (.., at)| now.duration_since(*at) < OURS);
                oldest_out(&mut self.attempts, |(.., at)| *at);
            }
            self.attempts.insert(attempt.owner.clone(), (attempt, done, now));
        }
        held
    }

    fn words(&mut self, attempt: &Attempt, now: Timestamp) -> Option<String> {
        let owner = (attempt.of.0.clone(), attempt.owner.clone());
        if let Some((words, at)) = self.before.remove(&owner) {
            self.hold(attempt.of.clone(), Refused { words, terms: attempt.terms.clone(), at });
        }
        let image = self.images.get(&attempt.of.0).filter(|image| image.is_left_out(&attempt.image, now));
        if let Some(image) = image {
            return Some(image.words.clone());
        }
        let refused = self.refused.get(&attempt.of)?;
        if refused.terms == attempt.terms && now.duration_since(refused.at) < HOLD {
            return Some(refused.words.clone());
        }
        self.refused.remove(&attempt.of);
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
        self.attempts.get(owner).filter(|(attempt, ..)| attempt.of.0 == namespace)?;
        let (attempt, done, _) =
            self.attempts.remove(owner).filter(|(.., at)| now.duration_since(*at).abs() < OURS)?;
        if done == Done::Told {
            oldest_out(&mut self.untold, |(_, at)| *at);
            self.untold.insert(attempt.of, (attempt.terms, now));
            return None;
        }
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
mod tests;
