//! Which requests does the API server send us? As few as the policies allow: without a policy that injects
//! agents, no pod at all.
//!
//! The chart makes the `MutatingWebhookConfiguration` without webhooks, so that uninstalling removes it; the
//! leader fills it in. The namespace's own opt-out label is not a selector here, since a pod's `enabled` wins
//! over it: the handler decides.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fleetprof_core::agent::ServedNamespaces;
use fleetprof_core::view::PolicyView;
use fleetprof_crds::names;
use fleetprof_crds::names::FIELD_MANAGER;
use fleetprof_crds::policy::AgentMode;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::tls;

/// Seconds that the API server waits for us before it goes on without.
const TIMEOUT_SECONDS: u32 = 3;

/// Where the webhook is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// Name of the installation, and of the `MutatingWebhookConfiguration`.
    pub fullname: String,
    /// The operator's namespace.
    pub namespace: String,
}

/// The `.webhooks` that belong to `policies`, with every default of the API server written out, so that what
/// is and what should be can be compared. `served` are the namespaces that agents of nodes serve, and
/// `ca_bundle` is PEM.
#[must_use]
pub fn webhooks<'a>(
    policies: impl IntoIterator<Item = PolicyView<'a>>,
    served: Option<&ServedNamespaces>,
    ca_bundle: &str,
    names: &Names,
) -> Vec<Value> {
    // One selector that the API server does not understand would make it refuse all webhooks.
    let sidecar =
        policies.into_iter().filter(|p| injects(p, served) && !(p.is_cluster() && p.fault().is_some()));
    let (mut namespaces, mut cluster) = (BTreeSet::new(), BTreeMap::new());
    for policy in sidecar {
        match (policy.namespace, policy.namespace_selector) {
            (Some(namespace), _) if !excluded(names).contains(&namespace) => {
                namespaces.insert(namespace);
            }
            (None, Some(selector)) => {
                cluster.insert(policy.name, (selector, &policy.spec.selector));
            }
            _ => {}
        }
    }
    let pods = (!namespaces.is_empty()).then(|| pods(&namespaces, ca_bundle, names));
    let cluster =
        cluster.into_iter().map(|(name, selectors)| cluster_pods(name, selectors, ca_bundle, names));
    pods.into_iter().chain(cluster).chain([sessions(ca_bundle, names)]).collect()
}

/// Whether a policy may put agents into new pods.
fn injects(policy: &PolicyView<'_>, served: Option<&ServedNamespaces>) -> bool {
    match policy.spec.agent.mode {
        AgentMode::Sidecar => true,
        AgentMode::Auto => {
            let all_are_served =
                |served: &ServedNamespaces| policy.namespace.map_or(served.has_all(), |own| served.has(own));
            !served.is_some_and(all_are_served)
        }
        AgentMode::Ephemeral | AgentMode::Node | AgentMode::Unknown => false,
    }
}

fn excluded(names: &Names) -> [&str; 2] {
    ["kube-system", &names.namespace]
}

fn pods(namespaces: &BTreeSet<&str>, ca_bundle: &str, of: &Names) -> Value {
    let by_name = "kubernetes.io/metadata.name";
    let namespaces = json!({"matchExpressions": [
        {"key": by_name, "operator": "In", "values": namespaces},
        {"key": by_name, "operator": "NotIn", "values": excluded(of)},
    ]});
    let opted_in = json!({"matchExpressions": [{"key": names::OPT_LABEL, "operator": "NotIn", "values": [names::OPT_DISABLED]}]});
    webhook("pods", ("", "v1"), (namespaces, opted_in), ca_bundle, of)
}

/// One for each policy of the cluster, with its own selectors, which an `In` over all of them could not
/// express.
fn cluster_pods(
    name: &str,
    (namespaces, pods): (&LabelSelector, &LabelSelector),
    ca_bundle: &str,
    of: &Names,
) -> Value {
    let out = json!({"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": excluded(of)});
    let opted_in = json!({"key": names::OPT_LABEL, "operator": "NotIn", "values": [names::OPT_DISABLED]});
    let mut webhook =
        webhook("pods", ("", "v1"), (narrowed(namespaces, out), narrowed(pods, opted_in)), ca_bundle, of);
    webhook["name"] = json!(format!("{name}.cluster.pods.fleetprof.dev"));
    webhook
}

/// The selector with one more requirement, without the empty lists and maps that the API server leaves out.
fn narrowed(selector: &LabelSelector, requirement: Value) -> Value {
    let own = selector.match_expressions.iter().flatten().map(|r| {
        let mut own = json!({"key": r.key, "operator": r.operator});
        if let Some(values) = r.values.as_ref().filter(|v| !v.is_empty()) {
            own["values"] = json!(values);
        }
        own
    });
    let mut narrowed = json!({"matchExpressions": own.chain([requirement]).collect::<Vec<_>>()});
    if let Some(labels) = selector.match_labels.as_ref().filter(|l| !l.is_empty()) {
        narrowed["matchLabels"] = json!(labels);
    }
    narrowed
}

fn sessions(ca_bundle: &str, of: &Names) -> Value {
    webhook("profilesessions", (names::GROUP, names::VERSION), (json!({}), json!({})), ca_bundle, of)
}

fn webhook(
    resource: &str,
    (group, version): (&str, &str),
    (namespaces, objects): (Value, Value),
    ca_bundle: &str,
    of: &Names,
) -> Value {
    let path = format!("/mutate/{resource}");
    json!({
        "name": format!("{resource}.fleetprof.dev"),
        "admissionReviewVersions": ["v1"],
        "clientConfig": {
            "caBundle": STANDARD.encode(ca_bundle),
            "service": {"name": format!("{}-webhook", of.fullname), "namespace": of.namespace, "path": path, "port": 443},
        },
        "failurePolicy": "Ignore",
        "matchPolicy": "Equivalent",
        "namespaceSelector": namespaces,
        "objectSelector": objects,
        "reinvocationPolicy": "IfNeeded",
        "rules": [{"apiGroups": [group], "apiVersions": [version], "operations": ["CREATE"], "resources": [resource], "scope": "Namespaced"}],
        "sideEffects": "None",
        "timeoutSeconds": TIMEOUT_SECONDS,
    })
}

/// Writes `webhooks` where they differ from what is there; true when something was written. Never makes the
/// configuration itself: what was uninstalled stays so.
///
/// # Errors
/// When the configuration is not there, or the API server refuses.
pub async fn apply(client: &Client, names: &Names, webhooks: &[Value]) -> anyhow::Result<bool> {
    let name = names.fullname.as_str();
    let api: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    let failed = |verb: &str, error: &kube::Error| {
        anyhow::anyhow!("MutatingWebhookConfiguration {name} could not be {verb}: {}", tls::words(error))
    };
    let found = api.get_opt(name).await.map_err(|e| failed("read", &e))?;
    let found = found.with_context(|| {
        format!("MutatingWebhookConfiguration {name} not found; install or upgrade the chart")
    })?;
    if json!(found.webhooks.unwrap_or_default()) == json!(webhooks) {
        return Ok(false);
    }
    // The uid keeps a configuration that was removed in between from being made again.
    let body = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": name, "uid": found.metadata.uid}, "webhooks": webhooks,
    });
    let parameters = PatchParams::apply(FIELD_MANAGER).force();
    api.patch(name, &parameters, &Patch::Apply(body)).await.map_err(|e| failed("written", &e))?;
    tracing::info!(webhooks = webhooks.len(), "webhooks registered");
    Ok(true)
}
