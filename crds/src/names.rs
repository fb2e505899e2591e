//! Which labels, annotations, fixed names and limits does fleetprof use?

/// The API group of the kinds.
pub const GROUP: &str = "fleetprof.dev";
/// The API group that serves captured profiles.
pub const DATA_GROUP: &str = "data.fleetprof.dev";
/// The version of both groups.
pub const VERSION: &str = "v1alpha1";

/// Opt-out label on a pod or namespace; value `disabled` keeps fleetprof out, `enabled` on a pod wins over
/// its namespace.
pub const OPT_LABEL: &str = "fleetprof.dev/profiling";
/// Value of [`OPT_LABEL`] that keeps fleetprof out.
pub const OPT_DISABLED: &str = "disabled";
/// Value of [`OPT_LABEL`] on a pod that lets fleetprof in although the namespace says `disabled`.
pub const OPT_ENABLED: &str = "enabled";

/// Annotation with which a kubelet marks a pod that mirrors one of a file of its node.
pub const MIRROR_ANNOTATION: &str = "kubernetes.io/config.mirror";
/// Annotation on an injected pod: the JSON of the injection report.
pub const INJECTED_ANNOTATION: &str = "fleetprof.dev/injected";
/// Label on a session: the name of the policy whose round it is.
pub const POLICY_LABEL: &str = "fleetprof.dev/policy";
/// Label on a session: the name of the cluster policy whose round it is.
pub const CLUSTER_POLICY_LABEL: &str = "fleetprof.dev/cluster-policy";
/// Annotation on a session of a schedule: the number of its round.
pub const ROUND_ANNOTATION: &str = "fleetprof.dev/round";
/// Label on a session that repeats another: the name of the session that asked for it.
pub const ROOT_LABEL: &str = "fleetprof.dev/repeats";
/// Label on a session: what started it, as in `spec.trigger`.
pub const TRIGGER_LABEL: &str = "fleetprof.dev/trigger";

/// Label on a session of a rollout: the revision, as its pods carry it.
pub const REVISION_LABEL: &str = "fleetprof.dev/revision";
/// Annotation on a session of a trigger: the workload that it is about, as in `Deployment/orders`.
pub const WORKLOAD_ANNOTATION: &str = "fleetprof.dev/workload";
/// Annotation on a session of a trigger: which trigger of the policy it was, such as `cpu`.
pub const SOURCE_ANNOTATION: &str = "fleetprof.dev/source";

/// Name of the injected native sidecar.
pub const SIDECAR_NAME: &str = "fleetprof-agent";
/// Prefix of the names of attached (ephemeral) agents.
pub const ATTACHED_PREFIX: &str = "fleetprof-agent-";
/// Name of the injected volume with the pod-bound token.
pub const TOKEN_VOLUME: &str = "fleetprof-token";
/// Name of the injected volume for the spool.
pub const SPOOL_VOLUME: &str = "fleetprof-spool";
/// Audience of the agents' service-account tokens.
pub const AUDIENCE: &str = "fleetprof.dev/gateway";

/// Annotation on the pod template of a workload that a policy restarted: the agent version that it was
/// restarted for.
pub const RESTARTED_FOR_ANNOTATION: &str = "fleetprof.dev/restarted-for";
/// Annotation on the pod template of a workload that a policy restarted: when.
pub const RESTARTED_AT_ANNOTATION: &str = "fleetprof.dev/restarted-at";

/// The annotation that names a pod's main container.
pub const DEFAULT_CONTAINER_ANNOTATION: &str = "kubectl.kubernetes.io/default-container";

/// Field manager of the controllers.
pub const FIELD_MANAGER: &str = "fleetprof-operator";

/// What can be read of an ended session: the subresources of [`DATA_GROUP`], and its `status.links`. The read
/// API has a table of the same names that says what each answers.
pub const VIEWS: [&str; 2] = ["profile", "top"];

/// Most targets of one session, and so of one round.
pub const MAX_TARGETS: usize = 50;
/// Most captures of one session with `spec.repeat`, its own included.
pub const MAX_REPEATS: i32 = 50;
/// Most rows in `status.linkedApps`.
pub const MAX_LINKED_APPS: usize = 100;
/// Most bytes of the rows in `status.linkedApps` as JSON, so that a policy stays under 20 KB.
pub const MAX_LINKED_APPS_BYTES: usize = 13_000;
/// Rows kept in `status.recentSessions`.
pub const MAX_RECENT_SESSIONS: usize = 10;
/// Rows kept in `status.topFunctions`.
pub const MAX_TOP_FUNCTIONS: usize = 5;
/// Most bytes of a message in a status; longer ones are cut with an ellipsis.
pub const MAX_MESSAGE: usize = 512;
/// Most bytes of `spec.cause` of a session.
pub const MAX_CAUSE: usize = 512;
