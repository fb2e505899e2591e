//! May this replica lead, and what should it do about the Lease next?
//!
//! ```text
//! standby:  Look ─► another holds it: Wait, Look again
//!             └───► it is free, expired or already ours: Write ─► leading
//! leading:  Wait ─► Write (renew) ─► Wait …      a call that failed: Look, then Write
//!             └───► Lost: another holds it, or no renewal was confirmed within the deadline
//! ```
//! **Guarantee.** Two replicas never lead at the same moment. A leader counts from *before* it sent the last
//! write that the API server confirmed, and stops after [`Timing::deadline`]. A standby counts from when it
//! first *saw* that write, which is later, and waits for the longer [`Timing::duration`]. Every write carries
//! the resourceVersion that the decision was based on, so of two competing writes one fails.
//!
//! **Clock skew** does not matter: like client-go, each replica measures with its own monotonic clock for how
//! long *it* has seen the same resourceVersion. `renewTime` is written for people and never read. The
//! monotonic clocks of two replicas may run at speeds that differ by less than `duration / deadline`, 1.5.
//!
//! **Not covered**: a process that is frozen as a whole beyond its deadline (SIGSTOP, a paused VM) does what it
//! was about to do when it goes on, so its writes name the version that they are based on and are not sent past
//! [`Candidate::leads_until`]; and a Lease that somebody deletes or clears by hand while it is held.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};

/// How long things take in an election. The defaults are those of client-go and of Kubernetes itself.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// How long a standby lets an unchanged Lease stand before it takes it over. Whole seconds.
    pub duration: Duration,
    /// How long a leader acts after its last confirmed renewal. Less than `duration`.
    pub deadline: Duration,
    /// Time between two renewals, or two looks of a standby.
    pub period: Duration,
    /// Longest wait for an answer; several fit into `deadline`.
    pub call: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            duration: Duration::from_secs(15),
            deadline: Duration::from_secs(10),
            period: Duration::from_secs(2),
            call: Duration::from_secs(3),
        }
    }
}

/// The present, by the two clocks of a replica.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Time since the process started, by a clock that never jumps. Decides everything.
    pub steady: Duration,
    /// What `renewTime` will say. Decides nothing.
    pub wall: Timestamp,
}

/// What a replica should do next.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// Read the Lease.
    Look,
    /// Write this Lease: create it where it has no resourceVersion, else replace the one that has it.
    Write(Box<Lease>),
    /// Do nothing until the steady clock shows this.
    Wait(Duration),
    /// Stop leading at once, for good.
    Lost(Lost),
}

/// Why a replica may no longer lead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lost {
    /// Another replica holds the Lease: this one.
    Taken(String),
    /// No renewal was confirmed for [`Timing::deadline`].
    NotRenewed,
}

/// What came of a call.
#[derive(Clone, Debug)]
pub enum Answer {
    /// The Lease as it is; `None` where there is none.
    Found(Option<Box<Lease>>),
    /// The Lease as it was written.
    Written(Box<Lease>),
    /// Not written: somebody else wrote, created or deleted it first.
    Conflict,
    /// An error, or no answer in time: a write may have been made or may be made yet.
    Failed,
}

/// One replica in the election: what it knows, and since when.
#[derive(Clone, Debug)]
pub struct Candidate {
    name: String,
    identity: String,
    timing: Timing,
    /// The Lease as it was last seen.
    lease: Option<Lease>,
    /// From when on this replica may take the Lease, if it does not change before.
    free_at: Duration,
    /// Whether `lease` is as new as the last call, so that a write can be based on it.
    fresh: bool,
    /// No call before this.
    rest: Duration,
    /// When the last confirmed write was sent; `None`: never led.
    renewed: Option<Duration>,
    /// Whether the Lease may name this replica because of a write of this process.
    wrote: bool,
}

impl Candidate {
    /// A standby that knows nothing. `identity` must be this process's alone; a process that starts again
    /// under it takes its predecessor's Lease over without waiting.
    #[must_use]
    pub fn new(name: &str, identity: &str, timing: Timing) -> Self {
        Self {
            name: name.to_owned(),
            identity: identity.to_owned(),
            timing,
            lease: None,
            free_at: Duration::ZERO,
            fresh: false,
            rest: Duration::ZERO,
            renewed: None,
            wrote: false,
        }
    }

    /// What to do next.
    #[must_use]
    pub fn next(&self, now: Now) -> Decision {
        if let Some(lost) = self.lost(now.steady) {
            return Decision::Lost(lost);
        }
        if now.steady < self.rest {
            return Decision::Wait(self.leads_until().map_or(self.rest, |end| end.min(self.rest)));
        }
        if self.fresh { Decision::Write(Box::new(self.claim(now.wall))) } else { Decision::Look }
    }

    /// How to give the Lease back once the work has ended: a call, or nothing where it is not ours (any
    /// more).
    #[must_use]
    pub fn release(&self, wall: Timestamp) -> Option<Decision> {
        if !self.wrote {
            return None;
        }
        if !self.fresh {
            return Some(Decision::Look);
        }
        let mut lease = self.lease.clone().filter(|lease| holder(lease) == Some(self.identity.as_str()))?;
        let spec = lease.spec.get_or_insert_default();
        spec.holder_identity = None;
        spec.renew_time = Some(MicroTime(wall));
        Some(Decision::Write(Box::new(lease)))
    }

    /// Until when this replica leads, if it does.
    #[must_use]
    pub fn leads_until(&self) -> Option<Duration> {
        self.renewed.map(|sent| sent.saturating_add(self.timing.deadline))
    }

    /// How long a call that starts now may take: a leader waits for no answer past its deadline.
    #[must_use]
    pub fn call_limit(&self, now: Duration) -> Duration {
        let left = self.leads_until().map_or(Duration::MAX, |end| end.saturating_sub(now));
        left.min(self.timing.call)
    }

    /// Must be told before a call is made: until its answer comes, what is known may be out of date.
    pub fn calls(&mut self, decision: &Decision) {
        self.fresh = false;
        self.wrote |= matches!(decision, Decision::Write(_));
    }

    /// Takes in the answer to a call that was sent at `sent`. `random`, 0 to 1, keeps standbys from looking
    /// all at once.
    pub fn heard(&mut self, answer: Answer, sent: Duration, now: Duration, random: f64) {
        match answer {
            Answer::Written(lease) => self.written(*lease, sent, now),
            Answer::Found(lease) => self.found(lease.map(|lease| *lease), now, random),
            // Not at once: an API server that always says so must not be asked without a pause.
            Answer::Conflict => {
                self.rest = now.saturating_add(self.timing.period.checked_div(10).unwrap_or_default())
            }
            Answer::Failed => self.rest = sent.saturating_add(self.timing.period).max(now),
        }
    }

    fn written(&mut self, lease: Lease, sent: Duration, now: Duration) {
        self.lease = Some(lease);
        self.free_at = now;
        // An answer that is too old to lead by: look, and write again.
        if now < sent.saturating_add(self.timing.deadline) {
            (self.fresh, self.renewed, self.rest) =
                (true, Some(sent), sent.saturating_add(self.timing.period));
        }
    }

    fn found(&mut self, lease: Option<Lease>, now: Duration, random: f64) {
        self.free_at = match &lease {
            // Deleted: whoever held it may not know yet, and leads until its deadline.
            None => self.free_at,
            Some(found) if version(found).is_some() && version(found) == self.version() => self.free_at,
            Some(found) if self.is_anothers(found) => now.saturating_add(self.duration_of(found)),
            Some(_) => now,
        };
        self.lease = lease;
        self.fresh = self.renewed.is_some() || now >= self.free_at;
        if !self.fresh {
            let pause = self.timing.period.mul_f64(1.0 + random.clamp(0.0, 1.0) / 5.0);
            self.rest = now.saturating_add(pause).min(self.free_at);
        }
    }

    fn lost(&self, now: Duration) -> Option<Lost> {
        let until = self.leads_until()?;
        let anothers = self.lease.as_ref().filter(|lease| self.is_anothers(lease));
        match anothers.and_then(holder) {
            Some(holder) => Some(Lost::Taken(holder.to_owned())),
            None => (now >= until).then_some(Lost::NotRenewed),
        }
    }

    /// The Lease as this replica writes it to take or to renew it.
    fn claim(&self, wall: Timestamp) -> Lease {
        let mut lease = self.lease.clone().unwrap_or_else(|| Lease {
            metadata: ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() },
            spec: None,
        });
        lease.metadata.managed_fields = None;
        let known = lease.spec.is_some();
        let ours = holder(&lease) == Some(self.identity.as_str());
        let spec = lease.spec.get_or_insert_default();
        if !ours {
            spec.acquire_time = Some(MicroTime(wall));
            spec.lease_transitions =
                Some(spec.lease_transitions.unwrap_or(0).saturating_add(i32::from(known)));
        }
        spec.holder_identity = Some(self.identity.clone());
        spec.lease_duration_seconds = i32::try_from(self.timing.duration.as_secs()).ok();
        spec.renew_time = Some(MicroTime(wall));
        lease
    }

    fn is_anothers(&self, lease: &Lease) -> bool {
        holder(lease).is_some_and(|holder| holder != self.identity)
    }

    /// As its holder wrote it, who may be of another release.
    fn duration_of(&self, lease: &Lease) -> Duration {
        let seconds = spec(lease).and_then(|spec| spec.lease_duration_seconds);
        let seconds = seconds.and_then(|seconds| u64::try_from(seconds).ok());
        seconds.map_or(self.timing.duration, Duration::from_secs)
    }

    fn version(&self) -> Option<&str> {
        self.lease.as_ref().and_then(version)
    }
}

fn spec(lease: &Lease) -> Option<&LeaseSpec> {
    lease.spec.as_ref()
}

fn holder(lease: &Lease) -> Option<&str> {
    spec(lease)?.holder_identity.as_deref().filter(|holder| !holder.is_empty())
}

fn version(lease: &Lease) -> Option<&str> {
    lease.metadata.resource_version.as_deref()
}
