//! Which reasons are there? One enum, used for condition reasons, event reasons, metric labels and text.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

macro_rules! reasons {
    ($($(#[doc = $doc:expr])+ $name:ident => $advice:expr),+ $(,)?) => {
        /// The reason for a state. The doc comment of each is its meaning; [`Reason::advice`] says what to do.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
        pub enum Reason {
            $($(#[doc = $doc])+ $name,)+
            /// A reason unknown to this version, written by a newer one.
            #[serde(other)]
            Unknown,
        }

        impl Reason {
            /// All reasons, in the order of declaration.
            pub const ALL: &'static [Reason] = &[$(Reason::$name,)+ Reason::Unknown];

            /// The reason as used in conditions, events and metric labels.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Reason::$name => stringify!($name),)+ Reason::Unknown => "Unknown" }
            }

            /// What to do about it; empty if nothing.
            #[must_use]
            pub const fn advice(self) -> &'static str {
                match self { $(Reason::$name => $advice,)+ Reason::Unknown => "upgrade the older of agent \
                                                                               and operator" }
            }
        }
    };
}

reasons! {
    // Why a pod is not injected or not linked.
    /// The pod or its namespace has the label `fleetprof.dev/profiling: disabled`, or the namespace has more than 16 KiB
    /// of labels.
    OptedOut => "remove the label fleetprof.dev/profiling=disabled, or labels of a namespace that has more than 16 KiB",
    /// The pod shares the host's process namespace (hostPID).
    HostPid => "remove hostPID, or use agent.mode Ephemeral",
    /// The pod sets `shareProcessNamespace: false`, but the sidecar requires true.
    ProcessNamespaceConflict => "remove shareProcessNamespace: false, or use agent.mode Ephemeral",
    /// The container's user ID is unknown, and the pod's security level does not allow an agent that detects
    /// it.
    UnknownUser => "set securityContext.runAsUser on the container or the pod",
    /// The container's CPU limit is below the policy's `budget.minContainerCPU`.
    TooSmall => "raise the container's CPU limit, or lower budget.minContainerCPU of the policy",
    /// The policy uses an agent image that the administrator does not allow.
    ImageNotAllowed => "use one of the images listed in the policy's condition Configured, or unset \
                        agent.image",
    /// The pod has no agent, and the administrator does not allow attaching one.
    AttachDisabled => "set attach.enabled in the values of the fleetprof chart, or use agent.mode Sidecar and \
                       recreate the pod",
    /// The pod has no agent that reports, and had as many attached as it may have in its lifetime.
    AttachLimit => "recreate the pod, or use agent.mode Sidecar with agent.existingPods Restart",
    /// The pod runs on Windows.
    WindowsNode => "only Linux containers can be profiled",
    /// The policy selects no container of the pod.
    NoSelectedContainer => "check containers.include and containers.exclude of the policy",
    /// The pod was created before the policy, so it has no sidecar.
    CreatedBeforePolicy => "use agent.existingPods AttachOnDemand, or restart the workload",
    /// The pod was created after the policy, but the webhook did not inject it.
    WebhookMissed => "check that the fleetprof webhook is running; meanwhile sessions attach an agent",
    /// The policy attaches agents to the pod when a session needs them.
    AttachedOnDemand => "",
    /// The policy leaves the pod to the agent of its node, as `agent.mode` `Node` and `Auto` do.
    ServedByNode => "",
    /// The policy leaves the pod to the agent of its node, but none reports the container.
    NoNodeAgent => "set nodeAgent.enabled in the values of the fleetprof chart, and check that the DaemonSet \
                    fleetprof-node-agent runs on the pod's node and serves its namespace",
    /// An older policy applies to the pod.
    Conflict => "narrow one of the two selectors",
    /// A policy in the pod's namespace takes precedence over the cluster policy.
    Overridden => "set spec.policyRef to the policy in the namespace",
    /// The pod is a static pod (mirror pod of the kubelet).
    StaticPod => "use agent.mode Node where agents of nodes are installed, or run the app as a DaemonSet",
    /// The pod already has a container or volume with a name that the agent uses.
    NameConflict => "rename the pod's container or volume that starts with fleetprof-",
    /// A LimitRange or ResourceQuota of the namespace, or the pod's own resources, leave no room for the agent,
    /// or the pod would lose its QoS class `Guaranteed`.
    ResourcesConflict => "change what the message names or agent.resources, or use agent.mode Ephemeral",
    /// Pods of the workload that had an agent were refused by the API server, or the kubelet could not pull the
    /// agent's image or start it, so that this one was created without.
    InjectionRefused => "remove the cause in the message, then restart the workload to get the sidecar",
    /// The pod is in a namespace that is excluded from injection.
    NamespaceExcluded => "fleetprof profiles nothing in kube-system and its own namespace",
    /// The webhook did not know the pod's namespace yet, so the namespace may have opted out of profiling.
    NamespaceUnknown => "pods that are created later get the agent; meanwhile sessions attach one",
    /// The pod could not be parsed.
    MalformedPod => "see the webhook log for the field",

    // States of a link.
    /// The pod has an agent that reports.
    Linked => "",
    /// The agent of the pod has not reported yet.
    AgentStarting => "",
    /// The agent of the pod has stopped reporting.
    AgentLost => "check the container fleetprof-agent of the pod",
    /// The pod is not running.
    PodNotRunning => "",

    // Why a session or target is where it is.
    /// The session asks for more than the policy or the administrator allows to users.
    LimitExceeded => "ask for no more than the message says",
    /// No running pod matches.
    NoMatchingPods => "check the selector with kubectl get pods -l, and that the pods are running",
    /// The policy does not exist.
    PolicyNotFound => "check spec.policyRef with kubectl get profilingpolicies,clusterprofilingpolicies",
    /// The policy is suspended.
    PolicySuspended => "set suspend to false on the policy",
    /// The workload or pod does not exist in this namespace.
    TargetNotFound => "check spec.target",
    /// The policy in spec.policyRef does not select the pod.
    NotSelected => "unset spec.policyRef, or change the policy's selector",
    /// The requesting user lacks permission to profile.
    Forbidden => "ask for the ClusterRole fleetprof-runner in the namespace",
    /// Waiting for the load in spec.startWhen to run.
    WaitingForLoad => "",
    /// The load in spec.startWhen was not running by the deadline.
    LoadNotStarted => "check the name or the labels in spec.startWhen, start the load, or raise \
                       spec.startWhen.deadline",
    /// The load in spec.startWhen has ended.
    LoadEnded => "finished Jobs do not run again: delete and recreate the Job and the session",
    /// More captures will follow.
    Repeating => "",
    /// Waiting for agents to be attached.
    Attaching => "",
    /// Waiting for an agent to start the capture.
    WaitingForAgent => "",
    /// At least one target is being captured.
    Capturing => "",
    /// Captures have ended; slices are being uploaded.
    Uploading => "",
    /// All slices are stored; results are being assembled.
    Processing => "",
    /// All targets returned data.
    Completed => "",
    /// Some targets returned data, others failed.
    SomeTargetsFailed => "see status.targets for the reasons",
    /// All targets failed.
    AllTargetsFailed => "see status.targets for the reasons",
    /// No agent can run the capture.
    NoCapableAgents => "see status.targets for what each agent supports and lacks",
    /// The target used no CPU during the capture.
    NoSamples => "profile the target under load",
    /// The profile holds less than half of the CPU time that the container used, or none of it.
    LowCoverage => "see the message for what is missing; profile again when the node is less busy, or for \
                    longer",
    /// The agent's protocol version is too old for the capture.
    AgentTooOld => "restart the pod to get the current agent",
    /// No agent started the capture before the start deadline.
    StartDeadlineExceeded => "check the container fleetprof-agent of the pod, or raise spec.startDeadline",
    /// The agent started the capture but did not finish in time.
    CaptureTimedOut => "see the log of the container fleetprof-agent",
    /// The pod ended during the session.
    PodGone => "",
    /// The container restarted during the session.
    ContainerRestarted => "",
    /// The target process exited during the capture.
    TargetExited => "",
    /// The agent stopped during the capture.
    AgentGone => "check the container fleetprof-agent of the pod",
    /// The agent could not be attached to the pod.
    AttachFailed => "see the message for the error from the API server",
    /// The agent image could not be started in the pod.
    AgentImageFailed => "check that the node can pull the agent image and run it",
    /// The agent lacks permission to inspect the target process.
    PermissionDenied => "the agent needs the target's user and group: set securityContext.runAsUser and \
                         runAsGroup",
    /// The kernel lets no process without CAP_SYS_PTRACE look at the target: it changed its user and did not
    /// start a program after that, or its program has capabilities or cannot be read.
    NotDumpable => "start the program after the change of user (setpriv, gosu, su-exec), call \
                    prctl(PR_SET_DUMPABLE, 1) after it, or set securityContext.runAsUser instead",
    /// Another profiler is at work in the target, and the data of both would mix.
    OtherProfiler => "stop the profiler that the message names, or use what it records",
    /// No collector supports this kind of process.
    UnsupportedRuntime => "",
    /// The collector crashed; the target is not affected.
    CollectorCrashed => "see the log of the container fleetprof-agent",
    /// The gateway rejected an upload of the agent, or a destination rejected a profile.
    UploadRejected => "see the message for the cause",
    /// The agent's spool was full, so it dropped its oldest slices before they were uploaded.
    SpoolFull => "check that the agent can reach the gateway: slices stay in the spool until they are stored",
    /// The agent's spool is not writable.
    SpoolFailed => "check that /dev/shm or /tmp of the agent's container is writable and has free space",
    /// A capture could take memory that the app needs.
    NotEnoughMemory => "raise the memory limit that the message names",
    /// Results have not arrived by the result timeout; they may still arrive.
    ResultsDelayed => "",
    /// Results did not arrive by the result deadline.
    ResultDeadlineExceeded => "",
    /// The results volume is full.
    StorageFull => "free space on the results volume, enlarge it, or lower ttl",
    /// The namespace keeps more than its share of the results volume, or than its quota.
    NamespaceStorageFull => "delete old sessions, lower ttl, or ask an administrator to raise results.size, \
                             results.namespaceShare or results.quotas of the fleetprof chart",
    /// Some of the uploaded slices are missing from the profile.
    SlicesLost => "profile again; see the message for how many are missing and why",
    /// All uploaded slices are gone from the results volume.
    StorageLost => "profile again; enable results.persistence in the fleetprof chart so that results outlive \
                    the operator's pod",
    /// The results volume is not writable.
    StorageFailed => "see the operator log",
    /// A destination in spec.destinations is not configured.
    DestinationUnknown => "use a destination that the message names, or ask an administrator to add it to the \
                           chart value destinations",
    /// A destination does not accept profiles now; they wait on the results volume and are sent again.
    DestinationFailed => "ask an administrator to check the destination, its credentials and the operator log",
    /// More profiles wait for a destination than are kept for it, so the oldest are not sent any more.
    BacklogFull => "download the profiles while the session exists, and ask an administrator to check the \
                    destination",
    /// Profiles are being sent to the destinations.
    Delivering => "",
    /// All destinations hold the profiles.
    Delivered => "",
    /// Receivers are being notified of the end of the session.
    Notifying => "",
    /// All receivers were notified of the end of the session.
    Notified => "",
    /// A receiver does not accept the notification now; it is sent again.
    NotificationFailed => "ask an administrator to check the receiver in the chart value notifications, its \
                           Secret, networkPolicy.notificationPorts and the operator log",
    /// A receiver could not be notified of the end of the session; fleetprof has stopped trying.
    NotificationGivenUp => "read the outcome in the status; ask an administrator to check the receiver",
    /// The session was cancelled.
    Cancelled => "",
    /// Other captures use all slots of the target's node.
    NodeBusy => "retry later, or raise the limit named in the message",
    /// Other captures use all slots of the policy, the namespace or the fleet.
    BudgetExhausted => "retry later, or raise the budget named in the message",
    /// Another session is capturing the target's container.
    ContainerBusy => "retry when the session named in the message has ended",
    /// The capture stopped because a user requested one of the same container.
    Yielded => "",
    /// Too many recent targets failed; rounds are spaced out until one succeeds.
    FailureRate => "check status.recentSessions for the failures",
    /// The namespace already has as many sessions that have not ended as an administrator allows.
    TooManySessions => "wait until some of them end, delete those that nobody needs, or ask an administrator to \
                        raise the chart value budgets.sessions",
    /// A status held a time in the future; it counts as the current time from then on.
    ClockWentBack => "check that the clocks of all nodes are synchronized",
    /// The session selects more pods than it can capture.
    TooManyTargets => "a session captures at most 50 targets: select fewer pods, or create multiple sessions",
    /// The ttl of the session exceeds the administrator's maximum, which applies instead.
    TtlLimited => "lower spec.ttl, or download the profiles before they are deleted",
    /// The session has the annotation `fleetprof.dev/keep`: it and its profiles are kept until that is removed.
    Kept => "remove the annotation fleetprof.dev/keep when the profiles are no longer needed",
    /// The spec is invalid.
    InvalidSpec => "see the message for the field",
    /// The object exists, but this version of the operator cannot decode it and leaves it as it is.
    Unreadable => "correct the named field, or run the version of fleetprof that wrote it",
    /// Internal error of fleetprof.
    Internal => "see the operator log",
    /// The state of an agent is currently unknown; profiling is not blocked.
    StatusCheckBlocked => "",
    /// All agents report.
    AgentsAnswer => "",
    /// Some agents do not report.
    AgentsSilent => "see status.linkedApps",
    /// Profiles are being received.
    ProfilesArrive => "",
    /// No profile has been captured yet.
    NoProfilesYet => "",
    /// The last rounds returned no samples.
    NoActivity => "the workloads were idle while they were profiled",
    /// The policy is active.
    Active => "",
    /// The spec is valid.
    Valid => "",
    /// Workloads are being restarted one at a time so that their pods get the agent.
    Restarting => "",
    /// All workloads have the current agent.
    UpToDate => "",
    /// `agent.existingPods` is `Restart`, but the operator has no permission to patch workloads.
    RestartDisabled => "ask an administrator to set the chart value restart.enabled=true; recreated pods get \
                        the agent anyway",
    /// No workload without the current agent can be restarted now.
    RestartBlocked => "",
    /// A workload did not become ready or was changed back, so restarts have stopped.
    RestartFailed => "check the workload's pods; change the policy's spec to continue with the next workload",
    /// A session was created.
    SessionCreated => "",
    /// A session of a round, trigger or repeat could not be created.
    SessionRefused => "check whether the namespace is terminating, its quota is exhausted, or other sessions \
                       have the name",
    /// A scheduled round did not run; missed rounds are skipped, not rescheduled.
    TickMissed => "the previous round was still running, there was no leader, or all sessions of the round \
                   were rejected",
    /// An agent was attached to a pod.
    AgentAttached => "",

    // What triggers do.
    /// A trigger of the policy started a session.
    TriggerFired => "",
    /// A trigger fired for a workload that is in its cooldown.
    TriggerHeldBack => "wait for the cooldown, shorten it, or create a session manually",

    /// Alerts were received that start no session.
    AlertUnmatched => "see the chapter Alerts of docs/triggers.md for the labels that identify a workload, and \
                       the metric fleetprof_alerts_total",

    /// The policy has alert triggers, but the alert receiver is disabled.
    AlertReceiverOff => "ask an administrator to set the chart value alerts.enabled=true",

    /// The policy has PromQL triggers, but no Prometheus is configured.
    PrometheusUnset => "ask an administrator to set the chart value prometheus.url",
    /// Prometheus does not respond.
    PrometheusFailed => "queries are retried, slow ones less often",
    /// No linked container has the signal that a trigger waits for.
    SignalUnavailable => "see the message for what the signal needs, or use another trigger",

    // What a comparison of two revisions came to.
    /// At least one function of the new revision costs more, by enough to count, and chance rarely does that.
    Regressed => "see status.comparison for the functions, and the view diff for the call tree",
    /// No function got slower, and a change of twice the size that counts would have been seen.
    NotRegressed => "",
    /// Too few pods of a revision were captured for a verdict.
    FewPods => "capture as many pods of both revisions as the message says, at the same time",
    /// The revisions were captured at different times, and at too few of them.
    FewMoments => "use the baseline Stable, or capture the old revision as often as the message says",
    /// There are too few samples to see a change of the size that counts.
    NotEnoughSamples => "use a longer duration, a higher frequencyHz or more pods, as the message says",
    /// The revisions ran under different loads, or the load changed over the sessions.
    DifferentLoad => "compare under the same load",
    /// At least one function uses more and more from session to session, and chance rarely does that.
    Growing => "see status.growth for the functions, and the view diff with the first session as its base",
    /// No function grows, and a growth of twice the size that counts would have been seen.
    NotGrowing => "",
    /// There are too few sessions of the revision for a look, or an earlier one has not ended.
    FewSessions => "the next sessions of the schedule add to them",
    /// A function rose in a step, in a cycle, or less and less.
    NotSteady => "compare the first and the last session with the view diff; with sessions of different hours, \
                  use a schedule of one session a day",
    /// The sessions could not be looked at for growth.
    GrowthFailed => "see the message for the cause; the next session of the schedule looks again",
    /// The revisions could not be compared.
    ComparisonFailed => "see the message for the cause, then compare again with the view diff and test=true",

    // Why the gateway refuses an agent's request.
    /// The request has no valid credential for a pod.
    Unauthenticated => "see the log of the container fleetprof-agent; the token may have expired, or the pod \
                        may be gone",
    /// The TokenReview request to the API server failed.
    TokenReviewFailed => "see the operator log",
    /// The ticket of the attached agent was already used.
    TicketUsed => "create a new session to attach a new agent",
    /// The request does not conform to the protocol.
    MalformedRequest => "check that the agent and the operator have the same version",
    /// The pod, or all pods together, exceed the request limit.
    TooManyRequests => "",
    /// The leader is still loading sessions.
    GatewayStarting => "",
    /// The pod has no open capture with this ID.
    CaptureUnknown => "",
    /// The outcome of the capture is already recorded.
    CaptureSettled => "",
}

impl Reason {
    /// Whether slices wait, or profiles are not stored, because of the results volume.
    #[must_use]
    pub const fn is_storage(self) -> bool {
        matches!(
            self,
            Self::StorageFull | Self::NamespaceStorageFull | Self::StorageFailed | Self::DestinationFailed
        )
    }
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
