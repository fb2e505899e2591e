//! Why is it so? One enum, used alike as condition reason, event reason, metric label and text.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

macro_rules! reasons {
    ($($(#[doc = $doc:expr])+ $name:ident => $advice:expr),+ $(,)?) => {
        /// The reason behind a state. The doc of each says what is so; [`Reason::advice`] says what to do.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
        pub enum Reason {
            $($(#[doc = $doc])+ $name,)+
            /// A reason that this version does not know; a newer one wrote it.
            #[serde(other)]
            Unknown,
        }

        impl Reason {
            /// Every reason, in the order of their declaration.
            pub const ALL: &'static [Reason] = &[$(Reason::$name,)+ Reason::Unknown];

            /// The reason as it stands in conditions, events and metric labels.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Reason::$name => stringify!($name),)+ Reason::Unknown => "Unknown" }
            }

            /// What a person can do about it; empty where nothing needs doing.
            #[must_use]
            pub const fn advice(self) -> &'static str {
                match self { $(Reason::$name => $advice,)+ Reason::Unknown => "bring agents and operator to \
                    the same version" }
            }
        }
    };
}

reasons! {
    // Why a pod is not injected or not linked.
    /// The pod or its namespace carries `fleetprof.dev/profiling: disabled`.
    OptedOut => "remove the label fleetprof.dev/profiling=disabled to profile it",
    /// The pod shares the host's process namespace.
    HostPid => "remove hostPID, or use agent.mode Ephemeral",
    /// The pod sets `shareProcessNamespace: false`, which the sidecar needs to be true.
    ProcessNamespaceConflict => "remove shareProcessNamespace: false, or use agent.mode Ephemeral",
    /// The user id of the container is not known and the pod's security level forbids an agent that finds it
    /// out.
    UnknownUser => "set securityContext.runAsUser on the container or the pod",
    /// The container's CPU limit is below the policy's `budget.minContainerCPU`.
    TooSmall => "raise the container's CPU limit, or lower budget.minContainerCPU of the policy",
    /// The policy names an image of the agent that no admin allows.
    ImageNotAllowed => "name one of the images that the policy's condition Configured lists, or leave \
                        agent.image out",
    /// The pod runs on Windows.
    WindowsNode => "fleetprof profiles Linux containers only",
    /// No container of the pod is selected by the policy.
    NoSelectedContainer => "check containers.include and containers.exclude of the policy",
    /// The pod was created before the policy, so nothing was injected.
    CreatedBeforePolicy => "a session attaches an agent when agent.existingPods is AttachOnDemand; or \
                            restart the workload",
    /// The pod was created after the policy, but the webhook did not inject it.
    WebhookMissed => "check that the fleetprof webhook is running; a session attaches an agent meanwhile",
    /// The policy of the pod attaches agents when a session needs them.
    AttachedOnDemand => "",
    /// An older policy already serves the pod.
    Conflict => "narrow one of the two selectors",
    /// A policy of the pod's own namespace serves the pod, and wins over that of the cluster.
    Overridden => "name the policy of the namespace in spec.policyRef",
    /// The pod is managed by the kubelet itself (mirror pod).
    StaticPod => "fleetprof cannot profile a static pod; run the app as a DaemonSet",
    /// The pod already has a container or volume with a name that the agent needs.
    NameConflict => "rename the pod's container or volume that starts with fleetprof-",
    /// The pod is in a namespace where fleetprof never injects.
    NamespaceExcluded => "fleetprof never touches kube-system and its own namespace",
    /// The pod could not be read as a pod.
    MalformedPod => "see the webhook's log for the field",

    // States of a link.
    /// An agent serves the pod and reported lately.
    Linked => "",
    /// The agent of the pod has not reported yet.
    AgentStarting => "",
    /// The agent of the pod has stopped reporting.
    AgentLost => "look at the container fleetprof-agent of the pod",
    /// The pod is not running.
    PodNotRunning => "",

    // Why a session or target is where it is.
    /// Nothing selected runs now.
    NoMatchingPods => "check the selector with kubectl get pods -l, and that the pods are running",
    /// The named policy is not there.
    PolicyNotFound => "check spec.policyRef with kubectl get profilingpolicies,clusterprofilingpolicies",
    /// The policy is suspended.
    PolicySuspended => "set suspend to false on the policy",
    /// The named workload or pod is not in this namespace.
    TargetNotFound => "check spec.target",
    /// The pod is not selected by the policy that the session names.
    NotSelected => "leave out spec.policyRef, or change the policy's selector",
    /// The person that asked may not profile.
    Forbidden => "ask for the ClusterRole fleetprof-runner in the namespace",
    /// The load that the session waits for does not run yet.
    WaitingForLoad => "",
    /// The load that the session waits for did not run by its deadline.
    LoadNotStarted => "check the name or the labels in spec.startWhen, start the load, or raise \
                       spec.startWhen.deadline",
    /// The load that the session waits for has ended.
    LoadEnded => "a finished Job does not run again: delete it and create it anew, and the session with it",
    /// More captures follow.
    Repeating => "",
    /// Waiting for agents to be attached.
    Attaching => "",
    /// Orders are out; no agent has answered yet.
    WaitingForAgent => "",
    /// At least one target is being captured.
    Capturing => "",
    /// Captures are over; slices are on their way.
    Uploading => "",
    /// Slices are stored; results are being made.
    Processing => "",
    /// Everything that was wanted was captured.
    Completed => "",
    /// Some targets gave data, others did not.
    SomeTargetsFailed => "see status.targets for each one's reason",
    /// Every target failed.
    AllTargetsFailed => "see status.targets for each one's reason",
    /// No target can run the capture.
    NoCapableAgents => "see status.targets for what each agent has and needs",
    /// The capture ran but the target used no CPU.
    NoSamples => "the target was idle; profile it under load",
    /// The agent's protocol is older than the order needs.
    AgentTooOld => "restart the pod so that it gets the current agent",
    /// No agent started before the start deadline.
    StartDeadlineExceeded => "look at the agent's container of the pod, or raise spec.startDeadline",
    /// The agent started but did not end in time.
    CaptureTimedOut => "look at the log of the container fleetprof-agent",
    /// The pod ended during the session.
    PodGone => "",
    /// The container was restarted during the session.
    ContainerRestarted => "",
    /// The target process ended during the capture.
    TargetExited => "",
    /// The agent stopped during the capture.
    AgentGone => "look at the container fleetprof-agent of the pod",
    /// An agent could not be attached to the pod.
    AttachFailed => "see the message for what the API server answered",
    /// The agent's image did not start in the pod.
    AgentImageFailed => "check that the node can pull the agent's image",
    /// The agent may not look at the target process.
    PermissionDenied => "the agent must have the target's user and group: set securityContext.runAsUser and \
                         runAsGroup",
    /// No collector can read this kind of process.
    UnsupportedRuntime => "",
    /// The collector crashed; the target runs on.
    CollectorCrashed => "look at the log of the container fleetprof-agent",
    /// The gateway refused what the agent uploaded.
    UploadRejected => "see the message for the refusal",
    /// The agent's spool was full, so that its oldest slices were dropped before they could be uploaded.
    SpoolFull => "check that the agent reaches the gateway: slices wait in the spool until they are stored",
    /// The agent's spool cannot be written.
    SpoolFailed => "look at the volume fleetprof-spool of the pod",
    /// Results are later than the result timeout; they may still arrive.
    ResultsDelayed => "",
    /// Results did not arrive by the result deadline.
    ResultDeadlineExceeded => "",
    /// The volume for results is full.
    StorageFull => "free space on the results volume, enlarge it, or lower ttl",
    /// The volume for results cannot be written.
    StorageFailed => "look at the operator's log",
    /// The person that asked cancelled it.
    Cancelled => "",
    /// Other captures run on the target's node.
    NodeBusy => "profile it again later, or raise budget.maxConcurrentPerNode of the policy",
    /// Other captures take all places of the policy, the namespace or the fleet.
    BudgetExhausted => "profile it again later, or raise the budget that the message names",
    /// Too many of the last targets failed; rounds are further apart until one succeeds.
    FailureRate => "look at status.recentSessions for what fails",
    /// More pods are selected than one session captures.
    TooManyTargets => "a session captures at most 50 targets: select fewer pods, or create a session for \
                       each part of them",
    /// The spec cannot be obeyed.
    InvalidSpec => "see the message for the field",
    /// Something failed that is fleetprof's own fault.
    Internal => "look at the operator's log",
    /// An agent cannot be asked for its state right now; this stops nothing.
    StatusCheckBlocked => "",
    /// Agents answer.
    AgentsAnswer => "",
    /// Some agents do not answer.
    AgentsSilent => "see status.linkedApps",
    /// Profiles arrive.
    ProfilesArrive => "",
    /// No profile has been captured yet.
    NoProfilesYet => "",
    /// The last rounds brought no samples.
    NoActivity => "the workloads were idle while they were profiled",
    /// The policy does what it says.
    Active => "",
    /// The policy is in order.
    Valid => "",
    /// Workloads are restarted one after another, so that their pods get the agent.
    Restarting => "",
    /// Every workload has the agent that new pods get.
    UpToDate => "",
    /// `agent.existingPods` is `Restart`, but the operator may not change workloads.
    RestartDisabled => "an admin allows it with the chart's value restart.enabled=true; pods that are \
                        recreated get the agent meanwhile",
    /// No workload that lacks the agent may be restarted now.
    RestartBlocked => "",
    /// A workload did not become ready after it was restarted, so that no other one is.
    RestartFailed => "look at the workload's pods; any change of the policy's spec goes on with the next \
                      workload",
    /// A session was created.
    SessionCreated => "",
    /// The API server did not take the session of a round.
    SessionRefused => "a namespace that is being deleted or whose quota is full takes none",
    /// A tick passed while it could not be served; it is skipped, never queued.
    TickMissed => "the round before it was still going on, no operator was there to start it, or its \
                   sessions were refused; it is not made up for",
    /// An agent was attached to a pod.
    AgentAttached => "",

    // What triggers do.
    /// A trigger of the policy started a session.
    TriggerFired => "",
    /// A trigger fired for a workload that was profiled too short a time ago.
    TriggerHeldBack => "wait for the cooldown, shorten it, or profile now by hand",

    /// The policy has alert triggers, but the administrator has not turned the receiver on.
    AlertReceiverOff => "the administrator turns it on with the chart's value alerts.enabled",

    /// The policy has PromQL triggers, but the administrator has named no Prometheus.
    PrometheusUnset => "the administrator names one with the chart's value prometheus.url",
    /// Prometheus does not answer.
    PrometheusFailed => "it is asked again every 15 s",

    // Why the gateway refuses an agent's request.
    /// The request carries no credential that names a pod.
    Unauthenticated => "look at the log of the agent's container; its token may have expired, or its pod be \
                        gone",
    /// The API server could not be asked whose token it is.
    TokenReviewFailed => "look at the operator's log",
    /// The ticket of an attached agent was redeemed before.
    TicketUsed => "a new session attaches a new agent",
    /// The request is not as the protocol says.
    MalformedRequest => "check that the agent and the operator have the same version",
    /// The pod, or all of them together, ask for more than is served.
    TooManyRequests => "",
    /// The leader has not read all sessions yet.
    GatewayStarting => "",
    /// No such capture is open for the pod.
    CaptureUnknown => "",
    /// The outcome of the capture is recorded.
    CaptureSettled => "",
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_a_legal_condition_reason() {
        for reason in Reason::ALL {
            let s = reason.as_str();
            assert!(
                s.chars().next().unwrap().is_ascii_uppercase()
                    && s.chars().all(|c| c.is_ascii_alphanumeric()),
                "{s}"
            );
            assert_eq!(serde_json::to_value(reason).unwrap(), serde_json::json!(s));
        }
    }

    #[test]
    fn a_reason_of_a_newer_version_is_read_all_the_same() {
        assert_eq!(serde_json::from_str::<Reason>("\"Linked\"").unwrap(), Reason::Linked);
        assert_eq!(serde_json::from_str::<Reason>("\"InventedIn2031\"").unwrap(), Reason::Unknown);
    }
}
