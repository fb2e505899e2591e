//! Which labels, annotations, fixed names and limits does fleetprof use?

/// The API group of the kinds.
pub const GROUP: &str = "fleetprof.dev";
/// The API group that serves captured profiles.
pub const DATA_GROUP: &str = "data.fleetprof.dev";
/// The version of both groups.
pub const VERSION: &str = "v1alpha1";

/// Opt-out label on a pod or namespace: `disabled` opts out, `enabled` on a pod overrides its namespace.
pub const OPT_LABEL: &str = "fleetprof.dev/profiling";
/// Value of [`OPT_LABEL`] that opts out.
pub const OPT_DISABLED: &str = "disabled";
/// Value of [`OPT_LABEL`] that the operator keeps in place of the labels of a namespace that are too large to be kept. No
/// label can have it, since it has spaces.
pub const OPT_OVERSIZED: &str = "labels are too large";
/// Most bytes of the labels of an object, keys and values. Usual ones have 1 KiB.
pub const MAX_LABELS: usize = 16 << 10;
/// Value of [`OPT_LABEL`] on a pod that overrides `disabled` on its namespace.
pub const OPT_ENABLED: &str = "enabled";

/// Annotation of mirror pods, which the kubelet creates for static pods.
pub const MIRROR_ANNOTATION: &str = "kubernetes.io/config.mirror";
/// Annotation on an injected pod: the JSON of the injection report.
pub const INJECTED_ANNOTATION: &str = "fleetprof.dev/injected";
/// Annotation on a pod that got no agent because pods of its workload were refused with one: the API server's words.
pub const REFUSED_ANNOTATION: &str = "fleetprof.dev/injection-refused";
/// Label on a session: the name of the policy whose round it is.
pub const POLICY_LABEL: &str = "fleetprof.dev/policy";
/// Label on a session: the name of the cluster policy whose round it is.
pub const CLUSTER_POLICY_LABEL: &str = "fleetprof.dev/cluster-policy";
/// Annotation on a scheduled session: the round number.
pub const ROUND_ANNOTATION: &str = "fleetprof.dev/round";
/// Label on a session that repeats another: the name of the first session.
pub const ROOT_LABEL: &str = "fleetprof.dev/repeats";
/// Label on a session: what started it, as in `spec.trigger`.
pub const TRIGGER_LABEL: &str = "fleetprof.dev/trigger";

/// Label on a rollout session: the revision, as in the labels of its pods.
pub const REVISION_LABEL: &str = "fleetprof.dev/revision";
/// Annotation on a triggered session: the workload, as in `Deployment/orders`.
pub const WORKLOAD_ANNOTATION: &str = "fleetprof.dev/workload";
/// Annotation on a triggered session: the trigger of the policy, such as `cpu`.
pub const SOURCE_ANNOTATION: &str = "fleetprof.dev/source";

/// Annotation on a session, whose value says why: it and its profiles are kept beyond ttl, history and quotas. Needs
/// [`KEEP_VERB`].
pub const KEEP_ANNOTATION: &str = "fleetprof.dev/keep";
/// The verb on `profilesessions` that [`KEEP_ANNOTATION`] needs.
pub const KEEP_VERB: &str = "keep";

/// Name of the injected native sidecar.
pub const SIDECAR_NAME: &str = "fleetprof-agent";
/// Prefix of the names of attached (ephemeral) agents.
pub const ATTACHED_PREFIX: &str = "fleetprof-agent-";
/// Name of the injected volume with the pod-bound token.
pub const TOKEN_VOLUME: &str = "fleetprof-token";
/// Audience of the agents' service-account tokens.
pub const AUDIENCE: &str = "fleetprof.dev/gateway";

/// Annotation on the pod template of a workload that a policy restarted: the agent version that it was
/// restarted for.
pub const RESTARTED_FOR_ANNOTATION: &str = "fleetprof.dev/restarted-for";
/// Annotation on the pod template of a workload that a policy restarted: the time.
pub const RESTARTED_AT_ANNOTATION: &str = "fleetprof.dev/restarted-at";

/// The annotation that names a pod's main container.
pub const DEFAULT_CONTAINER_ANNOTATION: &str = "kubectl.kubernetes.io/default-container";

/// Field manager of the controllers.
pub const FIELD_MANAGER: &str = "fleetprof-operator";

/// What can be read of an ended session: the subresources of [`DATA_GROUP`], and its `status.links`. The read
/// API has a table of the same names that says what each answers.
pub const VIEWS: [&str; 5] = ["profile", "top", "flamegraph", "folded", "diff"];

/// The uploaded files with symbols: a resource of [`DATA_GROUP`] without a namespace.
pub const SYMBOLS: &str = "symbols";
/// What a file with symbols is sent to, in pieces: a subresource of [`SYMBOLS`].
pub const SYMBOLS_CONTENT: &str = "content";
/// Most bytes of one piece: it arrives within the 60 s that API servers give a request, also over a slow line.
pub const MAX_SYMBOLS_PIECE: usize = 2 << 20;
/// The ClusterRole that may upload, list and delete files with symbols.
pub const SYMBOLS_ROLE: &str = "fleetprof-symbols";

/// Maximum number of agents that are attached to a pod in its lifetime: Kubernetes never removes an ephemeral
/// container from a pod, and each takes about 3 KB of the pod's object.
pub const MAX_ATTACHED: usize = 10;
/// Maximum of `spec.resultDeadline`, in hours.
pub const MAX_RESULT_DEADLINE_HOURS: i64 = 168;
/// Digits of the id of a container that `crictl ps` prints, and that the status of many targets keeps after the
/// end.
pub const SHORT_CONTAINER_ID: usize = 13;
/// Maximum number of targets per session.
pub const MAX_TARGETS: usize = 50;
/// Maximum number of captures of a session with `spec.repeat`, including its own.
pub const MAX_REPEATS: i32 = 50;
/// Maximum number of entries in `status.linkedApps`.
pub const MAX_LINKED_APPS: usize = 100;
/// Maximum bytes of the message of a row of `linkedApps`.
pub const MAX_LINK_MESSAGE: usize = 256;
/// Maximum size of `status.linkedApps` and `status.failingNamespaces` as JSON, in bytes, so that a policy
/// stays below 20 KB.
pub const MAX_LINKED_APPS_BYTES: usize = 13_000;
/// Maximum number of entries in `status.recentSessions`.
pub const MAX_RECENT_SESSIONS: usize = 10;
/// Maximum number of entries in `status.topFunctions`.
pub const MAX_TOP_FUNCTIONS: usize = 5;
/// Maximum size of a status message, in bytes; longer ones are truncated with an ellipsis.
pub const MAX_MESSAGE: usize = 512;
/// Maximum size of `spec.cause`, in bytes.
pub const MAX_CAUSE: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_result_deadline_is_that_of_the_schema() {
        let rule = format!("spec.resultDeadline must be at most {MAX_RESULT_DEADLINE_HOURS}h");
        assert!(include_str!("../profilesessions.yaml").contains(&rule), "{rule}");
    }
}
