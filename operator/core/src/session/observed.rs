//! What does a step take into account, which actions can it ask for, and which settings apply?

use std::collections::HashMap;
use std::sync::Arc;

use fleetprof_crds::compare::Baseline;
use fleetprof_crds::session::PolicyRef;
use fleetprof_crds::session_status::{Phase, StoredProfile};
use fleetprof_crds::wire::{CaptureReport, Order, Problem};
use fleetprof_crds::{
    DEFAULT_DESTINATION, Duration, ProfileKind, ProfileSession, ProfilingPolicySpec, Reason,
};
use jiff::{SignedDuration, Timestamp};

use super::compare::Comparing;
use super::efforts::has_goal;
use super::event::Notification;
use super::links::LinkTemplate;
use super::notify::Receiver;
use super::trend::{self, Watching};
use crate::agent::{AgentFacts, AgentUser, NodeAgents};
use crate::budget::{Claim, Place};
use crate::capture::CaptureScope;
use crate::inject::{ClusterRules, ResourceRules};
use crate::pod::PodFacts;
use crate::view::{Labels, Policies};

/// Everything that a step looks at beside the session itself.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The time.
    pub now: Timestamp,
    /// Whether every agent has had the time to report since this leader took over; until then silence means
    /// nothing.
    pub settled: bool,
    /// Why slices of the session's namespace are refused, where it is for want of room on the results volume.
    pub no_room: Option<Problem>,
    /// Whether who asked may profile.
    pub permission: Permission,
    /// The policy that the session names.
    pub policy: PolicyFacts,
    /// The labels of the session's namespace.
    pub namespace_labels: Labels,
    /// What its namespace demands of the resources of its pods.
    pub resources: ResourceRules,
    /// The pods of the session's namespace.
    pub pods: Vec<Arc<PodFacts>>,
    /// Agents that report, by pod UID.
    pub agents: HashMap<String, AgentFacts>,
    /// The agents of nodes.
    pub node_agents: NodeAgents,
    /// Captures of the session, by capture.
    pub captures: HashMap<String, CaptureFacts>,
    /// Answers to the claims of targets that were made since the reconcile began, by capture.
    pub places: HashMap<String, Place>,
    /// Captures that stop because a person requested one of the same container, with that person's session.
    pub yields: HashMap<String, String>,
    /// Allocatable CPU of the targets' nodes, in thousandths of a core; without those that are not known.
    pub node_cpu: HashMap<String, i64>,
    /// How long it is until places that were granted may be written down; `None`: now. Nothing is done with a
    /// place before it is on record.
    pub until_record: Option<SignedDuration>,
    /// The phase that is on record. Nobody is told of an end before it is.
    pub recorded: Phase,
    /// The Job that `spec.startWhen.jobRef` names.
    pub job: JobFacts,
    /// Sessions that were made to repeat this one.
    pub follow_ups: Vec<Arc<ProfileSession>>,
    /// How many sessions of the namespace that were created before this one have not ended; 0 once it waits
    /// or has started.
    pub earlier: usize,
    /// The sessions of the namespace, where the session is looked at beside earlier ones, or begins as a round of a
    /// policy with a goal for samples; else none.
    pub sessions: Vec<Arc<ProfileSession>>,
}

/// The Job that `spec.startWhen.jobRef` of a session names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum JobFacts {
    /// Jobs were not listed yet, or the operator may not list them.
    #[default]
    Unlisted,
    /// There is none of that name.
    Missing,
    /// It is suspended.
    Suspended,
    /// It runs, or will.
    Active,
    /// It has ended; the text says how, as in `has completed`.
    Ended(String),
}

/// Whether who asked may profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Permission {
    /// Nobody asked the API server yet.
    Unchecked,
    /// They may.
    Allowed,
    /// They may not; the sentence names what is missing.
    Denied(String),
}

/// The policy that a session names.
#[derive(Clone, Debug)]
pub enum PolicyFacts {
    /// The session names none.
    Unnamed,
    /// There is none of that name.
    Missing,
    /// It is one of the cluster, and does not select the session's namespace.
    Elsewhere,
    /// It is there.
    Found {
        /// Its uid: the seed of picks.
        uid: String,
        /// When it was created.
        created: Option<Timestamp>,
        /// Its spec.
        spec: Box<ProfilingPolicySpec>,
        /// Pods that it selects but another policy serves, by uid, with the reason.
        yielded: HashMap<String, Reason>,
    },
}

/// Whether the next step of a session looks at the other sessions of its namespace: at those that it is compared
/// with, or at those whose samples say how much it captures.
#[must_use]
pub fn needs_earlier(session: &ProfileSession, policy: &PolicyFacts) -> bool {
    let status = session.status.as_ref();
    let has_begun = status.is_some_and(|status| status.start_time.is_some());
    let has_ended = status.is_some_and(|status| status.phase.is_terminal());
    let compares = session.spec.compare.as_ref().is_some_and(|c| c.rules.baseline == Baseline::Sessions);
    let begins = !has_begun && has_goal(session, policy);
    !has_ended && (compares || begins || trend::watches(session, policy))
}

impl PolicyFacts {
    /// The policy that `reference` names, for a session in `namespace`; `policies` are all that may select
    /// pods there. `labels` are the namespace's; `None` for one that no cluster policy reaches.
    #[must_use]
    pub fn find(
        reference: &PolicyRef,
        namespace: &str,
        labels: Option<&Labels>,
        policies: &Policies<'_>,
        pods: &[Arc<PodFacts>],
    ) -> Self {
        let named = policies.near(namespace).find(|p| p.kind == reference.kind && p.name == reference.name);
        let Some(policy) = named else { return Self::Missing };
        if !policy.covers(namespace, labels) {
            return Self::Elsewhere;
        }
        let yielded =
            pods.iter().filter_map(|pod| Some((pod.uid.clone(), policy.yields(pod, labels, policies)?)));
        Self::Found {
            uid: policy.uid.to_owned(),
            created: policy.created,
            spec: Box::new(policy.spec.clone()),
            yielded: yielded.collect(),
        }
    }
}

/// What is known of a capture.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CaptureFacts {
    /// The agent's last report.
    pub report: Option<CaptureReport>,
}

/// Settings of the operator that a step obeys.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Length of a slice in seconds, 10 to 15.
    pub slice_seconds: u32,
    /// Most scheduled and triggered captures of a node at the same time; `None`: by its cores.
    pub node_budget: Option<usize>,
    /// Most scheduled and triggered captures of a namespace at the same time.
    pub namespace_budget: usize,
    /// Most scheduled and triggered captures at the same time.
    pub fleet_budget: usize,
    /// Most captures of a node at the same time that people requested.
    pub on_demand_budget: usize,
    /// Most sessions of a namespace that have not ended.
    pub session_budget: usize,
    /// Longest duration, and highest frequency in Hz, of a session that a user starts.
    pub on_demand_limits: (Duration, i32),
    /// How long an ended session is kept at most, whatever its ttl.
    pub max_ttl: Duration,
    /// Names of the destinations that are configured.
    pub destinations: Vec<String>,
    /// Who is told of the end of sessions.
    pub receivers: Vec<Receiver>,
    /// Links to the results of sessions.
    pub links: Vec<LinkTemplate>,
    /// Name of the cluster.
    pub cluster: String,
    /// What holds for agents in the whole cluster.
    pub rules: ClusterRules,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            slice_seconds: 10,
            node_budget: None,
            namespace_budget: 100,
            fleet_budget: 1000,
            on_demand_budget: 50,
            session_budget: 200,
            on_demand_limits: (Duration::from_secs(6 * 60), 1000),
            max_ttl: Duration::from_secs(30 * 24 * 3600),
            destinations: vec![DEFAULT_DESTINATION.to_owned()],
            receivers: Vec::new(),
            links: Vec::new(),
            cluster: "default".to_owned(),
            rules: ClusterRules::default(),
        }
    }
}

/// What a step asks for. Each may be done twice without harm.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Ask the API server whether who asked may profile.
    CheckPermission,
    /// Make the session that captures once more.
    Repeat {
        /// Which capture it is, the root's own being the first.
        number: i32,
        /// The session.
        session: Box<ProfileSession>,
    },
    /// Ask for a place in the budgets.
    Claim(Box<Claim>),
    /// Write the status before anything else is done: places were granted, and the next leader must know.
    Record,
    /// Attach an agent to a pod.
    Attach {
        /// Index of the target.
        target: usize,
        /// The pod's name.
        pod: String,
        /// The pod's uid.
        pod_uid: String,
        /// The container to attach to.
        container: String,
        /// Name of the new ephemeral container.
        name: String,
        /// Image of the agent.
        image: String,
        /// The user that the agent runs as.
        user: AgentUser,
        /// Whether the pod shares the node's network.
        host_network: bool,
    },
    /// Keep an order open.
    Open {
        /// What is captured.
        scope: Box<CaptureScope>,
        /// The order.
        order: Order,
        /// The place that the capture takes; `None` once it is over.
        place: Option<Box<Claim>>,
    },
    /// Make one profile of each kind from the stored slices.
    Assemble {
        /// Index of the target.
        target: usize,
        /// What was captured.
        scope: Box<CaptureScope>,
        /// Slices that the gateway has stored, as the agent says.
        uploaded: u32,
        /// Kinds that are settled already: of these, only the slices are counted.
        done: Vec<ProfileKind>,
        /// The result deadline has passed: what is there now is all that counts.
        overdue: bool,
    },
    /// Close an order: its outcome is recorded.
    Close {
        /// The capture.
        capture: String,
    },
    /// Compare two revisions by these captures.
    Compare(Box<Comparing>),
    /// Look at these sessions for growth.
    Watch(Box<Watching>),
    /// Compute the hottest functions over all targets, then end the session.
    Summarize {
        /// The kind of their profiles.
        kind: ProfileKind,
        /// Where they are stored; empty: there is none.
        profiles: Vec<String>,
    },
    /// Send a stored profile to a destination, or ask what became of that.
    Deliver {
        /// Index of the target.
        target: usize,
        /// The profile.
        profile: StoredProfile,
        /// Name of the destination.
        destination: String,
    },
    /// Tell a receiver of the end of the session, or ask what became of that.
    Notify {
        /// Name of the receiver.
        receiver: String,
        /// What it is told.
        notification: Box<Notification>,
    },
    /// Delete the session and its profiles: its ttl is over.
    Forget,
}
