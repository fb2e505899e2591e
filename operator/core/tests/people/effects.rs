//! What comes of what a session's step asks for.

use std::sync::Arc;

use fleetprof_core::capture::CaptureScope;
use fleetprof_core::pod::{AgentContainer, AgentContainerState};
use fleetprof_core::session::{self, Action, Assembled, CaptureFacts, Outcome, Slices};
use fleetprof_crds::session_status::StoredProfile;

use crate::agent::Agent;
use crate::sim::Sim;

impl Sim {
    /// Carries out an action of a session.
    pub fn act(&mut self, n: usize, action: Action) -> Outcome {
        match action {
            Action::CheckPermission => return Outcome::Permission(session::Permission::Allowed),
            Action::Claim(claim) => {
                let capture = claim.capture.clone();
                let place = self.ledger.claim(*claim, self.now);
                for (namespace, name) in self.ledger.yielding_to(&capture) {
                    let now = self.now;
                    let live = self.sessions.values_mut().find(|live| live.is(&namespace, &name)).unwrap();
                    live.due = Some(now);
                }
                return Outcome::Place { capture, place };
            }
            Action::Record => {
                let written = (self.sessions[&n].status().clone(), self.now);
                self.live(n).written = written;
                return Outcome::Recorded;
            }
            Action::Open { scope, order, place } => {
                match place {
                    Some(claim) => self.ledger.hold(*claim),
                    None => self.ledger.release(&order.capture),
                }
                self.captures.entry(order.capture.clone()).or_insert((n, CaptureFacts::default()));
                if let Some(agent) = self.agents.get_mut(&scope.pod_uid) {
                    agent.orders.insert(order.capture.clone(), order);
                }
            }
            Action::Close { capture } => self.close(&capture),
            Action::Attach { pod_uid, container, name, .. } => self.attach(&pod_uid, container, name),
            Action::Assemble { target, scope, uploaded, overdue, .. } => {
                return self.assemble(target, &scope, (uploaded, overdue));
            }
            Action::Summarize { .. } => return Outcome::Summarized(vec![]),
            Action::Forget => self.delete(n),
            // No policy here compares revisions or names a destination, and nobody is told of ends.
            Action::Repeat { .. }
            | Action::Compare(_)
            | Action::Watch(_)
            | Action::Deliver { .. }
            | Action::Notify { .. } => {}
        }
        Outcome::Done
    }

    fn close(&mut self, capture: &str) {
        self.ledger.release(capture);
        self.captures.remove(capture);
        self.agents.values_mut().for_each(|agent| agent.forget(capture));
    }

    fn attach(&mut self, pod_uid: &str, target: String, name: String) {
        let pod = self.pods.values_mut().flatten().find(|pod| pod.uid == pod_uid).unwrap();
        let attached = AgentContainer { name, target, state: AgentContainerState::Running };
        Arc::make_mut(pod).attached.push(attached);
        self.agents.insert(pod_uid.to_owned(), Agent::attached(self.now));
    }

    fn assemble(&mut self, target: usize, scope: &CaptureScope, (uploaded, overdue): (u32, bool)) -> Outcome {
        let report = self.captures.get(&scope.capture).and_then(|(_, facts)| facts.report.as_ref());
        let slices = report.map_or(0, |report| report.slices);
        let one = |kind| {
            if slices == 0 {
                return (kind, Assembled::Nothing);
            }
            match self.volume.put((&scope.session_namespace, &scope.session_uid), self.now) {
                Ok(bytes) => {
                    let samples = i64::from(slices);
                    (
                        kind,
                        Assembled::Profile(StoredProfile {
                            kind,
                            uri: "k".into(),
                            bytes,
                            samples,
                            destinations: vec![],
                            failed: vec![],
                        }),
                    )
                }
                Err(problem) => (kind, Assembled::Delayed(problem.reason, problem.message)),
            }
        };
        let assembled = scope.profiles.iter().copied().map(one).collect();
        Outcome::Assembled {
            target,
            assembled,
            slices: Slices { uploaded, found: Some(uploaded), left_out: 0 },
            overdue,
            symbols: Vec::new(),
        }
    }

    /// A session is deleted, and the leader learns of it.
    pub fn delete(&mut self, n: usize) {
        let Some(gone) = self.sessions.remove(&n) else { return };
        for target in gone.object.status.iter().flat_map(|s| &s.targets) {
            *self.outcomes.entry(target.phase).or_default() += 1;
        }
        let captures: Vec<String> = self
            .captures
            .iter()
            .filter(|(_, (of, _))| *of == n)
            .map(|(capture, _)| capture.clone())
            .collect();
        captures.iter().for_each(|capture| self.close(capture));
        let uid = gone.object.metadata.uid.as_deref().unwrap_or_default();
        self.ledger.retain_sessions(|lives| lives != uid);
        self.volume.delete(uid);
    }
}
