//! Which collectors capture a process? For each kind the first one that offers it, and what the kernel
//! allows.

use fleetprof_crds::ProfileKind;
use fleetprof_crds::wire::Offer;

use super::collector::{ATTACHING, Ask, Attached, Attaches, Capture};
use super::member::guarded;
use super::protocol::{Failure, FailureReason, Started};
use super::session::unix_nanos;
use crate::proc;

/// A capture that has begun, and what it is of.
pub struct Begun {
    /// The kinds.
    pub kinds: Vec<ProfileKind>,
    /// The capture.
    pub capture: Box<dyn Capture>,
}

/// How a process is captured.
pub struct Attachment {
    /// How, for people.
    pub started: Started,
    /// The captures; at least one.
    pub begun: Vec<Begun>,
    /// The kinds that are not captured, and why.
    pub unmet: Vec<(ProfileKind, Failure)>,
}

/// Has the kinds of `ask` captured, all by the collector of the name `only` where one is given.
///
/// # Errors
/// None of the kinds can be captured: the reason for the first of them.
pub fn attach(ask: &Ask<'_>, only: Option<&str>) -> Result<Attachment, Failure> {
    let mut choice =
        Choice { ask: *ask, only, left: ask.kinds.to_vec(), unmet: Vec::new(), done: Vec::new() };
    ATTACHING.iter().for_each(|collector| choice.try_one(*collector));
    choice.finish()
}

/// The kinds for which a collector is looked for.
struct Choice<'a> {
    ask: Ask<'a>,
    only: Option<&'a str>,
    left: Vec<ProfileKind>,
    unmet: Vec<(ProfileKind, Failure)>,
    done: Vec<(Begun, Said)>,
}

/// What a capture says of its beginning.
struct Said {
    collector: &'static str,
    method: &'static str,
    why: String,
}

impl Choice<'_> {
    fn try_one(&mut self, collector: &dyn Attaches) {
        let kinds = self.wanted_of(collector);
        if kinds.is_empty() {
            return;
        }
        match guarded(|| collector.attach(&Ask { kinds: &kinds, ..self.ask })) {
            Ok(attached) => self.begun(collector, kinds, attached),
            Err(failure) => {
                kinds.into_iter().for_each(|kind| self.refuse_by(collector, kind, failure.clone()));
            }
        }
    }

    /// The kinds that this collector is the first to offer; the problems of others are remembered. One that is
    /// asked for by name has to try.
    fn wanted_of(&mut self, collector: &dyn Attaches) -> Vec<ProfileKind> {
        let can: Vec<ProfileKind> = match self.only {
            Some(name) if name == collector.name() => collector.kinds().to_vec(),
            Some(_) => Vec::new(),
            None => {
                let (good, bad): (Vec<Offer>, Vec<Offer>) =
                    collector.offers(self.ask.sight).into_iter().partition(|offer| offer.problem.is_none());
                for Offer { kind, problem, .. } in bad {
                    let text = problem.map(|problem| problem.message).unwrap_or_default();
                    self.note(kind, Failure::new(FailureReason::UnsupportedRuntime, text));
                }
                good.into_iter().map(|offer| offer.kind).collect()
            }
        };
        self.left.iter().copied().filter(|kind| can.contains(kind)).collect()
    }

    fn begun(&mut self, collector: &dyn Attaches, kinds: Vec<ProfileKind>, attached: Attached) {
        let Attached { method, why, capture, refused } = attached;
        let kinds: Vec<ProfileKind> =
            kinds.into_iter().filter(|kind| refused.iter().all(|(k, _)| k != kind)).collect();
        for (kind, failure) in refused {
            self.refuse_by(collector, kind, failure);
        }
        let (name, instead_of) = (collector.name(), self.unmet.iter().find(|(kind, _)| kinds.contains(kind)));
        let why = match instead_of {
            Some((_, failure)) => format!("{failure}; captured by {name} instead: {why}"),
            None => why,
        };
        self.left.retain(|kind| !kinds.contains(kind));
        self.unmet.retain(|(kind, _)| !kinds.contains(kind));
        self.done.push((Begun { kinds, capture }, Said { collector: name, method, why }));
    }

    /// A collector cannot capture a kind; the next may, unless the reason holds for all of them.
    fn refuse_by(&mut self, collector: &dyn Attaches, kind: ProfileKind, failure: Failure) {
        let failure = with_cause(self.ask.sight.pid, failure);
        let waits = collector.waits_for_start() && !self.ask.is_last_try;
        if waits || failure.reason != FailureReason::UnsupportedRuntime {
            self.left.retain(|left| *left != kind);
        }
        self.refuse(kind, failure);
    }

    /// Remembers why a kind is not captured as it might be, where somebody still may.
    fn note(&mut self, kind: ProfileKind, failure: Failure) {
        if self.left.contains(&kind) {
            self.refuse(kind, failure);
        }
    }

    /// The first reason stays.
    fn refuse(&mut self, kind: ProfileKind, failure: Failure) {
        if self.unmet.iter().all(|(known, _)| *known != kind) {
            self.unmet.push((kind, failure));
        }
    }

    fn finish(mut self) -> Result<Attachment, Failure> {
        for kind in std::mem::take(&mut self.left) {
            let failure = self.unsupported(kind);
            self.refuse(kind, failure);
        }
        if self.done.is_empty() {
            let first = self.ask.kinds.iter().find_map(|kind| self.unmet.iter().find(|(k, _)| k == kind));
            let none = || Failure::internal("nothing was asked to be captured");
            return Err(first.map_or_else(none, |(_, failure)| failure.clone()));
        }
        let (begun, said): (Vec<Begun>, Vec<Said>) = self.done.into_iter().unzip();
        let list = |text: &dyn Fn(&Said) -> String, between: &str| {
            said.iter().map(text).collect::<Vec<_>>().join(between)
        };
        let started = Started {
            runtime: self.ask.sight.runtime.to_string(),
            collector: list(&|said| said.collector.to_owned(), ", "),
            method: list(&|said| said.method.to_owned(), ", "),
            why: list(&|said| said.why.clone(), "; "),
            start_nanos: unix_nanos(),
        };
        Ok(Attachment { started, begun, unmet: self.unmet })
    }

    /// Why no collector was tried for a kind.
    fn unsupported(&self, kind: ProfileKind) -> Failure {
        let sight = self.ask.sight;
        let offers = ATTACHING.iter().flat_map(|collector| collector.offers(sight));
        let said = offers.filter(|offer| offer.kind == kind).find_map(|offer| offer.problem);
        let none = || format!("no collector captures {kind} profiles of {} processes", sight.runtime);
        let message = said.map_or_else(none, |problem| problem.message);
        Failure::new(FailureReason::UnsupportedRuntime, message)
    }
}

/// The same user is not enough for a process that gave up the rights of another one.
fn with_cause(pid: i32, failure: Failure) -> Failure {
    match failure.reason {
        FailureReason::PermissionDenied if proc::is_dumpable(pid) == Some(false) => {
            not_dumpable(pid, &failure)
        }
        _ => failure,
    }
}

fn not_dumpable(pid: i32, refusal: &Failure) -> Failure {
    let text = format!(
        "process {pid} is not dumpable, so the kernel lets only root with CAP_SYS_PTRACE look at it: it \
         changed its user (setuid) and did not start a program after that, or its program has file \
         capabilities or is not readable. Start the program after the change of user (setpriv, gosu, su-exec) \
         or call prctl(PR_SET_DUMPABLE, 1) after it ({refusal})"
    );
    Failure::new(FailureReason::NotDumpable, text)
}
