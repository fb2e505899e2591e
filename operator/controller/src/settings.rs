//! What are the settings of `run`? They come from flags and the environment.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::Args;
use fleetprof_core::agent::{PodSecurity, ServedNamespaces};
use fleetprof_core::image::AgentImages;
use fleetprof_core::inject::ClusterRules;
use fleetprof_crds::{Duration, quantity};
use serde_json::Value;

/// Allowed agent images: settings of `run` and of `webhook`.
#[derive(Args, Clone, Debug)]
pub struct ImageArgs {
    /// Default agent image.
    #[arg(long, env = "FLEETPROF_AGENT_IMAGE", default_value = concat!("docker.io/library/fleetprof-agent:", env!("CARGO_PKG_VERSION")))]
    pub agent_image: String,
    /// Additional images that policies can set in agent.image; `*` matches any characters.
    #[arg(long, env = "FLEETPROF_ALLOWED_AGENT_IMAGES", default_value = "", value_delimiter = ',')]
    pub allowed_agent_images: Vec<String>,
}

impl ImageArgs {
    /// As decisions look at them.
    #[must_use]
    pub fn get(&self) -> AgentImages {
        let allowed = self.allowed_agent_images.iter().filter(|image| !image.is_empty()).cloned().collect();
        AgentImages { default: self.agent_image.clone(), allowed }
    }
}

/// What holds in the whole cluster: settings of `run` and of `webhook`, so that both say the same of a pod.
#[derive(Args, Clone, Debug)]
pub struct RulesArgs {
    /// Agent images.
    #[command(flatten)]
    pub images: ImageArgs,
    /// Excluded namespaces, in addition to the operator's own.
    #[arg(long, env = "FLEETPROF_EXCLUDED_NAMESPACES", default_value = "kube-system", value_delimiter = ',')]
    pub excluded_namespaces: Vec<String>,
    /// Pod Security level of namespaces without a label, as configured in the API server: privileged, baseline
    /// or restricted.
    #[arg(long, env = "FLEETPROF_DEFAULT_POD_SECURITY", default_value = "privileged", value_parser = level)]
    pub default_pod_security: PodSecurity,
    /// Allow injecting agents that run as root beside a target that runs as root or as an unknown user.
    #[arg(long, env = "FLEETPROF_AGENT_ALLOW_ROOT")]
    pub allow_root: bool,
    /// Resources of the injected agent as JSON. What is not set is requests of 5m CPU and 16Mi memory, and a
    /// memory limit of 256Mi.
    #[arg(long, env = "FLEETPROF_AGENT_RESOURCES", default_value = "", value_parser = resources)]
    pub agent_resources: Value,
    /// There are agents of nodes, for policies with `agent.mode: Node` or `Auto`.
    #[arg(long, env = "FLEETPROF_NODE_AGENTS")]
    pub node_agents: bool,
    /// Namespaces that agents of nodes serve; `*` matches any characters. If empty, all but the excluded ones.
    #[arg(long, env = "FLEETPROF_NODE_AGENT_NAMESPACES", default_value = "", value_delimiter = ',')]
    pub node_agent_namespaces: Vec<String>,
}

impl RulesArgs {
    /// As decisions look at them, for an operator in the namespace `own`.
    #[must_use]
    pub fn get(&self, own: &str) -> ClusterRules {
        let excluded = self.excluded_namespaces.iter().filter(|name| !name.is_empty()).cloned();
        let excluded: Vec<String> = excluded.chain([own.to_owned()]).collect();
        let named = self.node_agent_namespaces.iter().filter(|glob| !glob.is_empty()).cloned().collect();
        let served = || ServedNamespaces::new(named, excluded.clone());
        ClusterRules {
            node_agents: self.node_agents.then(served),
            excluded_namespaces: excluded,
            default_pod_security: self.default_pod_security,
            allow_root: self.allow_root,
            images: self.images.get(),
            attach_disabled: false,
            agent_resources: self.agent_resources.clone(),
        }
    }
}

/// Settings of `fleetprof-operator run`.
#[derive(Args, Clone, Debug)]
pub struct RunSettings {
    /// Namespace of the operator.
    #[arg(long, env = "FLEETPROF_NAMESPACE", default_value = "fleetprof")]
    pub namespace: String,
    /// Name prefix of Services, Secrets and webhooks.
    #[arg(long, env = "FLEETPROF_NAME", default_value = "fleetprof")]
    pub name: String,
    /// Name of this pod, used as leader election identity.
    #[arg(long, env = "POD_NAME", default_value = "fleetprof-operator")]
    pub pod_name: String,
    /// IP address of this pod, at which agents reach the leader.
    #[arg(long, env = "POD_IP", default_value = "127.0.0.1")]
    pub pod_ip: IpAddr,
    /// What holds in the whole cluster.
    #[command(flatten)]
    pub rules: RulesArgs,
    /// Pull policy of the agent image.
    #[arg(long, env = "FLEETPROF_AGENT_PULL_POLICY", default_value = "IfNotPresent")]
    pub agent_pull_policy: String,
    /// Name of the cluster, used as label of profiles and as prefix of their keys.
    #[arg(long, env = "FLEETPROF_CLUSTER", default_value = "default")]
    pub cluster: String,
    /// Path of the results volume.
    #[arg(long, env = "FLEETPROF_RESULTS", default_value = "/var/lib/fleetprof")]
    pub results: PathBuf,
    /// Maximum size of the results, such as `5Gi`, for volumes that do not enforce their size. Defaults to
    /// the size of the volume.
    #[arg(long, env = "FLEETPROF_RESULTS_CAPACITY", value_parser = bytes)]
    pub results_capacity: Option<u64>,
    /// Share of each namespace in percent of the results volume, 1 to 100.
    #[arg(long, env = "FLEETPROF_RESULTS_NAMESPACE_SHARE", default_value_t = 25, value_parser = clap::value_parser!(u8).range(1..=100))]
    pub results_share: u8,
    /// File with destinations for profiles, receivers of notifications and links, in YAML. If empty, there are none,
    /// and profiles stay on the results volume.
    #[arg(long, env = "FLEETPROF_CONFIG")]
    pub config: Option<PathBuf>,
    /// Maximum time for which ended sessions and their profiles are kept, whatever their ttl; such as `720h`.
    #[arg(long, env = "FLEETPROF_RESULTS_MAX_TTL", default_value = "720h")]
    pub max_ttl: Duration,
    /// Ended sessions to keep per namespace of those that people started.
    #[arg(long, env = "FLEETPROF_SESSION_HISTORY", default_value_t = 100)]
    pub session_history: usize,
    /// Maximum number of concurrent scheduled and triggered captures per node. Defaults to one per core.
    #[arg(long, env = "FLEETPROF_NODE_BUDGET")]
    pub node_budget: Option<usize>,
    /// Maximum number of concurrent captures per node that users requested.
    #[arg(long, env = "FLEETPROF_ON_DEMAND_BUDGET", default_value_t = 50)]
    pub on_demand_budget: usize,
    /// Maximum number of concurrent scheduled and triggered captures per namespace.
    #[arg(long, env = "FLEETPROF_NAMESPACE_BUDGET", default_value_t = 100)]
    pub namespace_budget: usize,
    /// Maximum number of concurrent scheduled and triggered captures in the cluster.
    #[arg(long, env = "FLEETPROF_FLEET_BUDGET", default_value_t = 1000)]
    pub fleet_budget: usize,
    /// Maximum number of sessions per namespace that have not ended. More are refused.
    #[arg(long, env = "FLEETPROF_SESSION_BUDGET", default_value_t = 200)]
    pub session_budget: usize,
    /// Longest duration of a session that a user starts, such as `2m`; more is refused.
    #[arg(long, env = "FLEETPROF_ON_DEMAND_DURATION", default_value = "6m")]
    pub on_demand_duration: Duration,
    /// Highest sampling frequency in Hz of a session that a user starts; more is refused.
    #[arg(long, env = "FLEETPROF_ON_DEMAND_FREQUENCY", default_value_t = 1000)]
    pub on_demand_frequency: i32,
    /// Port for agents.
    #[arg(long, env = "FLEETPROF_GATEWAY_PORT", default_value_t = 8443)]
    pub gateway_port: u16,
    /// Port of the aggregated API.
    #[arg(long, env = "FLEETPROF_DATA_PORT", default_value_t = 8444)]
    pub data_port: u16,
    /// Secret with the bearer token (`token`) or client CA (`ca.crt`) for the alert receiver. Created with a
    /// random token if missing. If empty, the alert receiver is disabled.
    #[arg(long, env = "FLEETPROF_ALERTS_SECRET", default_value = "")]
    pub alerts_secret: String,
    /// Port of the alert receiver.
    #[arg(long, env = "FLEETPROF_ALERTS_PORT", default_value_t = 8445)]
    pub alerts_port: u16,
    /// Prometheus URL for PromQL triggers, such as `http://prometheus.monitoring:9090`. If empty, PromQL
    /// triggers are disabled.
    #[arg(long, env = "FLEETPROF_PROMETHEUS_URL", default_value = "")]
    pub prometheus_url: String,
    /// Secret with the token (`token`) and the CA (`ca.crt`) for Prometheus. Empty if not needed.
    #[arg(long, env = "FLEETPROF_PROMETHEUS_SECRET", default_value = "")]
    pub prometheus_secret: String,
    /// Port for metrics and health, plain HTTP.
    #[arg(long, env = "FLEETPROF_HEALTH_PORT", default_value_t = 8080)]
    pub health_port: u16,
    /// Do not attach agents to running pods.
    #[arg(long, env = "FLEETPROF_ATTACH_DISABLED")]
    pub attach_disabled: bool,
    /// Allow workload restarts for policies with `agent.existingPods: Restart`.
    #[arg(long, env = "FLEETPROF_RESTART")]
    pub restart: bool,
    /// Secret with externally managed certificates, for example from cert-manager. If empty, the leader
    /// creates and rotates certificates.
    #[arg(long, env = "FLEETPROF_TLS_SECRET", default_value = "")]
    pub tls_secret: String,
}

impl RunSettings {
    /// URL of the gateway for agents.
    #[must_use]
    pub fn gateway_url(&self) -> String {
        format!("https://{}-leader.{}.svc:{}", self.name, self.namespace, self.gateway_port)
    }

    /// Username of the service account of node agents, where they are accepted.
    #[must_use]
    pub fn node_agent_user(&self) -> Option<String> {
        let user = || format!("system:serviceaccount:{}:{}-node-agent", self.namespace, self.name);
        self.rules.node_agents.then(user)
    }

    /// Username of the operator's service account.
    #[must_use]
    pub fn own_user(&self) -> String {
        format!("system:serviceaccount:{}:{}-operator", self.namespace, self.name)
    }
}

/// Reads a Kubernetes quantity of bytes, such as 5Gi, 1.5G or 500e6.
fn bytes(text: &str) -> Result<u64, String> {
    quantity::bytes(text).ok_or_else(|| format!("{text:?} is not a size in bytes; write it as 5Gi or 500Mi"))
}

/// Reads `resources` of a container; nothing may stand for none.
fn resources(text: &str) -> Result<Value, String> {
    if text.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_str(text)
        .map_err(|error| format!("write JSON, like `resources` of a container: {error}"))
}

/// Reads a Pod Security level.
fn level(text: &str) -> Result<PodSecurity, String> {
    match text {
        "privileged" | "baseline" | "restricted" => Ok(PodSecurity::parse(text)),
        _ => Err("write privileged, baseline or restricted".into()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        rules: RulesArgs,
    }

    #[test]
    fn the_rules_of_the_cluster_are_the_strict_ones_unless_they_are_set() {
        let rules = |words: &[&str]| {
            let line = Line::try_parse_from([&["fleetprof-operator"], words].concat());
            line.map(|line| line.rules.get("fleetprof")).map_err(|error| error.to_string())
        };
        let default = rules(&[]).unwrap();
        assert_eq!(default.excluded_namespaces, ["kube-system", "fleetprof"]);
        assert_eq!(
            (default.default_pod_security, default.allow_root),
            (PodSecurity::Privileged, false),
            "as in an API server without an AdmissionConfiguration"
        );
        let set = rules(&[
            "--default-pod-security=restricted",
            "--allow-root",
            "--excluded-namespaces=a,,b",
            "--allowed-agent-images=x:*",
            r#"--agent-resources={"limits": {"cpu": 1}}"#,
        ])
        .unwrap();
        assert_eq!(set.excluded_namespaces, ["a", "b", "fleetprof"]);
        assert_eq!((set.default_pod_security, set.allow_root), (PodSecurity::Restricted, true));
        assert_eq!(set.images.allowed, ["x:*"]);
        assert_eq!(set.agent_resources, serde_json::json!({"limits": {"cpu": 1}}));
        let refused = rules(&["--default-pod-security=strict"]).unwrap_err();
        assert!(refused.contains("write privileged, baseline or restricted"), "{refused}");
    }

    #[test]
    fn quantities_of_bytes() {
        let cases = [
            ("5Gi", 5 << 30),
            ("1.5Gi", 3 << 29),
            ("1k", 1000),
            ("7", 7),
            ("1Pi", 1 << 50),
            ("1P", 1_000_000_000_000_000),
        ];
        for (text, wanted) in cases.into_iter().chain([("5e9", 5_000_000_000), ("1500m", 1)]) {
            assert_eq!(bytes(text), Ok(wanted), "{text}");
        }
        for text in ["5 GB", "-1", "99999999Ti", "", "Gi", "NaN", "inf"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }
}
