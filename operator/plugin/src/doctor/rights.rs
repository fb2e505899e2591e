//! What may the caller do? By what the API server itself says.

use serde_json::{Value, json};

use super::check::{Check, Level};
use crate::cluster::{Ask, Cluster};
use crate::exit::Failure;
use crate::refusal::{Denied, command, role};

const ID: &str = "Forbidden";
/// What the caller may do.
pub(super) const RIGHTS: &str = "Rights";

/// What a person needs to profile: verb, group, resource, subresource, and what it is for.
const TO_PROFILE: [(&str, &str, &str, &str, &str); 5] = [
    ("list", "fleetprof.dev", "profilesessions", "", "see sessions"),
    ("list", "fleetprof.dev", "profilingpolicies", "", "see policies and linked apps"),
    ("get", "data.fleetprof.dev", "profilesessions", "top", "read profiles"),
    ("create", "fleetprof.dev", "profilesessions", "", "start sessions"),
    ("profile", "fleetprof.dev", "profilingpolicies", "", "profile under the policies of the namespace"),
];

/// What an installation creates for the whole cluster: group and resource.
const TO_INSTALL: [(&str, &str); 6] = [
    ("apiextensions.k8s.io", "customresourcedefinitions"),
    ("rbac.authorization.k8s.io", "clusterroles"),
    ("rbac.authorization.k8s.io", "clusterrolebindings"),
    ("admissionregistration.k8s.io", "validatingadmissionpolicies"),
    ("admissionregistration.k8s.io", "mutatingwebhookconfigurations"),
    ("apiregistration.k8s.io", "apiservices"),
];

/// The rights to profile in the namespace.
pub(super) async fn profile(cluster: &Cluster, namespace: &str) -> Result<Vec<Check>, Failure> {
    let mut checks = Vec::new();
    let mut user = None;
    for (verb, group, resource, subresource, purpose) in TO_PROFILE {
        let attributes = json!({
            "namespace": namespace, "verb": verb,
            "group": group, "resource": resource, "subresource": subresource,
        });
        if may(cluster, &attributes).await? {
            checks.push(Check::passed(RIGHTS, format!("you may {purpose}")));
            continue;
        }
        if user.is_none() {
            user = Some(whoami(cluster).await);
        }
        let user = user.as_deref().unwrap_or_default();
        let denied = Denied { user, verb, resource, group, namespace: Some(namespace) };
        let refused = format!("you may not {purpose} in namespace {namespace}");
        checks.push(match role(&denied) {
            Some(role) => {
                let message = format!("{refused}; the ClusterRole {role} grants it");
                Check::of(ID, Level::Warning, message, command(role, &denied))
            }
            None => Check::of(ID, Level::Warning, refused, "ask an administrator for this permission"),
        });
    }
    Ok(checks)
}

/// The rights to install fleetprof.
pub(super) async fn install(cluster: &Cluster) -> Result<Vec<Check>, Failure> {
    let mut missing = Vec::new();
    for (group, resource) in TO_INSTALL {
        if !may(cluster, &json!({"verb": "create", "group": group, "resource": resource})).await? {
            missing.push(format!("{resource}.{group}"));
        }
    }
    Ok(vec![match missing.is_empty() {
        true => Check::passed(RIGHTS, "you may create everything that the chart installs cluster-wide"),
        false => Check::of(
            ID,
            Level::Failed,
            format!("you may not create {}", missing.join(", ")),
            "ask an administrator with the ClusterRole cluster-admin to install the chart",
        ),
    }])
}

async fn may(cluster: &Cluster, attributes: &Value) -> Result<bool, Failure> {
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    });
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    Ok(cluster.json(&Ask::create(path, &review)).await?["status"]["allowed"] == true)
}

async fn whoami(cluster: &Cluster) -> String {
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let answer =
        cluster.json(&Ask::create("/apis/authentication.k8s.io/v1/selfsubjectreviews", &review)).await;
    let name =
        answer.ok().and_then(|answer| answer["status"]["userInfo"]["username"].as_str().map(str::to_owned));
    name.unwrap_or_else(|| "USER".to_owned())
}
