//! What was the webhook told? Its settings, from flags and environment.

use clap::Args;
use fleetprof_core::inject::{AgentSettings, ClusterRules};

use crate::settings::RulesArgs;

/// Settings of `fleetprof-operator webhook`.
#[derive(Args, Clone, Debug)]
pub struct WebhookArgs {
    /// Namespace of the operator.
    #[arg(long, env = "FLEETPROF_NAMESPACE", default_value = "fleetprof")]
    pub namespace: String,
    /// Name prefix of Services, Secrets and webhooks.
    #[arg(long, env = "FLEETPROF_NAME", default_value = "fleetprof")]
    pub name: String,
    /// What holds in the whole cluster.
    #[command(flatten)]
    pub rules: RulesArgs,
    /// Pull policy of the agent image.
    #[arg(long, env = "FLEETPROF_AGENT_PULL_POLICY", default_value = "IfNotPresent")]
    pub agent_pull_policy: String,
    /// Lifetime of the agent's token in seconds; 600 to 86400.
    #[arg(long, env = "FLEETPROF_AGENT_TOKEN_TTL", default_value_t = 3600, value_parser = clap::value_parser!(u32).range(600..=86_400))]
    pub agent_token_ttl: u32,
    /// URL of the gateway for agents. Defaults to port 8443 of the leader's Service.
    #[arg(long, env = "FLEETPROF_GATEWAY_URL", default_value = "")]
    pub gateway_url: String,
    /// Secret with externally managed certificates, for example from cert-manager. Defaults to the Secret
    /// managed by the leader.
    #[arg(long, env = "FLEETPROF_TLS_SECRET", default_value = "")]
    pub tls_secret: String,
    /// Port for the API server.
    #[arg(long, env = "FLEETPROF_WEBHOOK_PORT", default_value_t = 9443)]
    pub port: u16,
    /// Port of the read API, served if there is no leader.
    #[arg(long, env = "FLEETPROF_DATA_PORT", default_value_t = 8444)]
    pub data_port: u16,
    /// Port for metrics and health, plain HTTP.
    #[arg(long, env = "FLEETPROF_HEALTH_PORT", default_value_t = 8080)]
    pub health_port: u16,
}

impl WebhookArgs {
    /// Settings of injected agents; the CA bundle comes with the certificate.
    pub(super) fn agent(&self) -> AgentSettings {
        let gateway = if self.gateway_url.is_empty() {
            format!("https://{}-leader.{}.svc:8443", self.name, self.namespace)
        } else {
            self.gateway_url.clone()
        };
        AgentSettings {
            pull_policy: self.agent_pull_policy.clone(),
            gateway,
            ca_bundle: String::new(),
            token_ttl_seconds: self.agent_token_ttl,
        }
    }

    /// What holds in the whole cluster.
    pub(super) fn rules(&self) -> ClusterRules {
        self.rules.get(&self.namespace)
    }

    pub(super) fn tls_secret(&self) -> String {
        if self.tls_secret.is_empty() { format!("{}-tls", self.name) } else { self.tls_secret.clone() }
    }

    /// Name of the leader election Lease.
    pub(super) fn lease(&self) -> String {
        format!("{}-operator", self.name)
    }

    /// Username of the operator, which may set the requester of sessions it creates.
    pub(super) fn own_user(&self) -> String {
        format!("system:serviceaccount:{}:{}-operator", self.namespace, self.name)
    }
}
