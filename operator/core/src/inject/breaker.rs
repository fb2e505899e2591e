//! Was a pod refused because of its agent, or did it not start? Whoever creates pods, or runs them, says so in an
//! event; from then on the pods of that workload start without one.
//!
//! ```text
//! pod with an agent ─► attempt ─► injected, and remembered for two minutes
//!                         ▲               │
//!                         │     FailedCreate of its owner: refused(words)
//!                         │               ▼
//!                         └──── the workload is left alone, while its revision, its policy and the image are
//!                               unchanged, for a day at most
//! ```
//! A pod that gets no agent is told why in an annotation. Where that is refused as well, the next ones of the workload
//! are not changed at all. What is known of one revision does not end what is known of another: both may have pods at
//! the same time, and anybody can post a pod of a revision that does not exist.
//!
//! An image that a kubelet cannot pull is left out of the namespace's pods, until no kubelet has complained for ten
//! minutes: the app of a pod that has it does not start. A container that it cannot start, or that ends as soon as it
//! was started, is left out of the pods of that workload for as long; see [`Breaker::not_started`]. An event counts in
//! its own namespace alone, since anyone who may write events there can forge it.
//!
//! No cause has to be known for a refusal: whatever refuses pods, be it a rule of the API server or the webhook of
//! somebody else, the second pod is as its owner wanted it. An event that follows no injection is ignored: a
//! workload whose pods fail without one keeps its agents.

mod attempt;
mod recent;

use jiff::{SignedDuration, Timestamp};

pub use attempt::Attempt;
use attempt::stems;
use recent::Recent;

use crate::hash::{Key, key};
use crate::text::{cut, printable};
use crate::time::after;

/// How long after an attempt a refusal is put down to it. Controllers tell at once; watches may lag.
const OURS: SignedDuration = SignedDuration::from_mins(2);
/// How long a workload is left alone that does not change.
const HOLD: SignedDuration = SignedDuration::from_hours(24);
/// How long an agent is left out after a kubelet could not pull or start it. A kubelet tries every 5 minutes at least.
const LEFT_OUT_FOR: SignedDuration = SignedDuration::from_mins(10);
/// An agent that has run for so long has started. One that cannot work ends within seconds; the next crashes come
/// 10, 20 and 40 s later.
const WORKED: SignedDuration = SignedDuration::from_mins(2);
/// Most bytes of the API server's words.
const WORDS: usize = 200;
/// Revisions of one owner that are tried side by side: a canary has two.
const REVISIONS: usize = 4;
/// What a kubelet says where the image is the cause; another event names it.
const NOT_PULLED: [&str; 4] = ["ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName"];

/// Why a pod gets no agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The words of the API server, or of a kubelet.
    pub words: String,
    /// Whether the pod may carry them: the API server has not refused pods that did.
    pub is_told: bool,
}

/// What a kubelet says of the agent's container in a pod.
#[derive(Clone, Copy, Debug)]
pub struct Said<'a> {
    /// Namespace of the event.
    pub namespace: &'a str,
    /// Name and UID of the pod.
    pub pod: (&'a str, &'a str),
    /// Reason of the event.
    pub reason: &'a str,
    /// Its message.
    pub words: &'a str,
    /// When the kubelet said it first, by its clock.
    pub first: Timestamp,
}

/// Which pods start without an agent from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeftOut {
    /// Those of the namespace that would get this image.
    Image(String),
    /// Those whose names are like that of the pod.
    Workload,
}

/// What was done with the last pod of an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Done {
    /// It got an agent.
    Injected,
    /// It was told why it gets none.
    Told,
}

/// An attempt that the next refusal may be of.
#[derive(Clone, Copy, Debug)]
struct Tried {
    of: Key,
    done: Done,
    at: Timestamp,
}

/// What is remembered of attempts and refusals. Each part has at most 10,000 entries, and of an entry no more than
/// [`WORDS`] bytes come from outside: 18 MiB in all, 3 MiB of them of attempts, which anybody can post.
#[derive(Debug, Default)]
pub struct Breaker {
    /// By owner, the latest attempt of each revision.
    attempts: Recent<[Option<Tried>; REVISIONS]>,
    /// By workload and revision, what the API server said.
    refused: Recent<Complaint>,
    /// Refusals from before the start, by owner: who made the attempt is not known any more.
    before: Recent<Complaint>,
    /// By namespace, the image that could not be pulled last.
    images: Recent<(Key, Complaint)>,
    /// By stem of the pods' names, the pod whose agent did not start last, and when that was said first.
    stuck: Recent<((Key, Timestamp), Complaint)>,
    /// By pod, when its agent started first.
    started: Recent<Timestamp>,
    /// By workload and revision, pods that were refused because they were told why they get no agent.
    untold: Recent<Timestamp>,
}

/// The words of the API server or of a kubelet.
#[derive(Clone, Debug)]
struct Complaint {
    words: Box<str>,
    at: Timestamp,
}

impl Complaint {
    fn new(words: &str, at: Timestamp) -> Self {
        Self { words: cut(&printable(cut(words, 4 * WORDS).as_str()), WORDS).into(), at }
    }

    fn holds(&self, time: SignedDuration, now: Timestamp) -> bool {
        now < after(self.at, time)
    }
}

impl Breaker {
    /// Why pods of the workload get no agent, if that still holds; else this one gets it. What is done with it is
    /// remembered.
    pub fn attempt(&mut self, attempt: Attempt, now: Timestamp) -> Option<Held> {
        if let Some(complaint) = self.before.take(&attempt.owner) {
            self.refused.put(attempt.of, complaint);
        }
        let is_told = self.untold.get(&attempt.of).is_none_or(|at| now >= after(*at, HOLD));
        let held = self.words(&attempt, now).map(|words| Held { words, is_told });
        match &held {
            None => self.remember(&attempt, Done::Injected, now),
            Some(held) if held.is_told => self.remember(&attempt, Done::Told, now),
            Some(_) => {}
        }
        held
    }

    /// An attempt under other terms stays beside it: which of them a refusal is of is not told.
    fn remember(&mut self, attempt: &Attempt, done: Done, now: Timestamp) {
        let mut all = self.attempts.take(&attempt.owner).unwrap_or_default();
        let same = all.iter().position(|tried| tried.is_none_or(|tried| tried.of == attempt.of));
        let oldest = (0..REVISIONS).min_by_key(|n| all.get(*n).copied().flatten().map(|tried| tried.at));
        if let Some(place) = same.or(oldest).and_then(|n| all.get_mut(n)) {
            *place = Some(Tried { of: attempt.of, done, at: now });
        }
        self.attempts.put(attempt.owner, all);
    }

    fn words(&self, attempt: &Attempt, now: Timestamp) -> Option<String> {
        let image = self.images.get(&attempt.namespace).filter(|(image, _)| *image == attempt.image);
        let image =
            image.map(|(_, complaint)| complaint).filter(|complaint| complaint.holds(LEFT_OUT_FOR, now));
        let stuck = self.stuck.get(&attempt.stem).filter(|((pod, first), _)| !self.worked(pod, *first));
        let stuck =
            stuck.map(|(_, complaint)| complaint).filter(|complaint| complaint.holds(LEFT_OUT_FOR, now));
        let refused = self.refused.get(&attempt.of).filter(|complaint| complaint.holds(HOLD, now));
        image.or(stuck).or(refused).map(|complaint| complaint.words.to_string())
    }

    /// The owner, by namespace of the event and UID, could not create a pod. Whether a workload is left alone from now
    /// on; not where no attempt of the last minutes can be the cause, or it is left alone already.
    pub fn refused(&mut self, (namespace, owner): (&str, &str), words: &str, now: Timestamp) -> bool {
        let all = self.attempts.take(&key(&[namespace, owner])).unwrap_or_default();
        let mut is_news = false;
        for tried in all.into_iter().flatten().filter(|tried| now.duration_since(tried.at).abs() < OURS) {
            match tried.done {
                Done::Told => self.untold.put(tried.of, now),
                Done::Injected => {
                    is_news = true;
                    self.refused.put(tried.of, Complaint::new(words, now));
                }
            }
        }
        is_news
    }

    /// An owner that could not create a pod before this process started: an attempt of another one may be the cause.
    pub fn was_refused(&mut self, (namespace, owner): (&str, &str), words: &str, now: Timestamp) {
        self.before.put(key(&[namespace, owner]), Complaint::new(words, now));
    }

    /// A kubelet has started the agent's container in a pod.
    pub fn started(&mut self, said: &Said<'_>) {
        let pod = key(&[said.namespace, said.pod.1]);
        let first = self.started.get(&pod).map_or(said.first, |known| said.first.min(*known));
        self.started.put(pod, first);
    }

    /// A kubelet could not start the agent's container in a pod, or waits before it tries again. Gives what is left out
    /// from now on; `None` where that is so already, or the agent of this pod has worked before: then the pod has
    /// started with it, and others will.
    ///
    /// The image is left out in the namespace where it cannot be pulled. Anything else may have its cause in the
    /// workload, such as its user or a profile of its security context, so its pods alone are left out: those whose
    /// names are like this one's. No attempt has to be known for that, so none that is forged can hide it.
    pub fn not_started(&mut self, said: &Said<'_>, now: Timestamp) -> Option<LeftOut> {
        let complaint = Complaint::new(cause(said.words), now);
        if let Some(name) = image_of(said.words) {
            let (of, image) = (key(&[said.namespace]), key(&[name]));
            let known = self.images.get(&of);
            let is_known = known.is_some_and(|(known, at)| *known == image && at.holds(LEFT_OUT_FOR, now));
            self.images.put(of, (image, complaint));
            return (!is_known).then(|| LeftOut::Image(cut(name, WORDS)));
        }
        let pod = key(&[said.namespace, said.pod.1]);
        let is_pulled = said.words.strip_prefix("Error: ").is_none_or(|why| !NOT_PULLED.contains(&why));
        if !matches!(said.reason, "Failed" | "BackOff") || !is_pulled || self.worked(&pod, said.first) {
            return None;
        }
        let mut is_news = false;
        for stem in stems(said.pod.0) {
            let stem = key(&[said.namespace, stem]);
            let known = self.stuck.get(&stem).map(|(_, known)| known);
            let known = known.filter(|known| known.holds(LEFT_OUT_FOR, now));
            is_news |= known.is_none();
            // That it waits before it tries again is not the cause.
            let words =
                known.filter(|_| said.reason == "BackOff").map_or(&complaint.words, |known| &known.words);
            let complaint = Complaint { words: words.clone(), at: now };
            self.stuck.put(stem, ((pod, said.first), complaint));
        }
        is_news.then_some(LeftOut::Workload)
    }

    /// Whether the agent of a pod had run for a while before its kubelet complained. Events come in any order when a
    /// process starts, so this is asked again when it matters.
    fn worked(&self, pod: &Key, complained: Timestamp) -> bool {
        self.started.get(pod).is_some_and(|started| complained.duration_since(*started) >= WORKED)
    }
}

/// The cause in the words of a kubelet: container runtimes put the names of four of their parts before it, which would
/// take all of [`WORDS`].
fn cause(words: &str) -> &str {
    let cause = words.rsplit_once("create failed: ").map(|(_, cause)| cause);
    cause.filter(|cause| !cause.is_empty()).unwrap_or(words)
}

/// The image in the words of a kubelet that cannot pull it, such as `Failed to pull image "a:1": not found`.
fn image_of(words: &str) -> Option<&str> {
    let (before, rest) = words.split_once('"')?;
    let (image, _) = rest.split_once('"')?;
    (before.to_lowercase().contains("image") && !image.is_empty()).then_some(image)
}

#[cfg(test)]
mod tests;
