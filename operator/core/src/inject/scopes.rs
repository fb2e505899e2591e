//! Does a quota count a pod? By its scopes, as the API server matches them.
//!
//! An agent asks for something, so a pod with one is never `BestEffort`. Where a quota tells such pods from
//! others, the agent would move the pod: into a quota that other pods need and that wants numbers from every
//! container, or out of one that bounds such pods. Then the pod is left alone.

use fleetprof_crds::Reason;
use k8s_openapi::api::core::v1::ResourceQuota;
use serde_json::{Map, Value};

use super::raw::{RawPod, string};
use super::resources::PodResources;
use crate::agent::Skip;

const BEST_EFFORT: &str = "BestEffort";
const NOT_BEST_EFFORT: &str = "NotBestEffort";

/// One condition of a quota's scopes.
struct Scope<'a> {
    name: &'a str,
    operator: &'a str,
    values: &'a [String],
}

/// Whether a quota counts the pod once it has an agent.
///
/// # Errors
/// `ResourcesConflict` where the agent would change that.
pub(super) fn counts(quota: &ResourceQuota, pod: &RawPod<'_>, asks: &PodResources) -> Result<bool, Skip> {
    let (of_class, others): (Vec<_>, Vec<_>) =
        scopes(quota).partition(|scope| [BEST_EFFORT, NOT_BEST_EFFORT].contains(&scope.name));
    for scope in &others {
        if !scope.holds(pod)? {
            return Ok(false);
        }
    }
    match of_class.first() {
        Some(scope) if asks.is_best_effort() => Err(moved(quota, scope)),
        _ => Ok(of_class.iter().all(|scope| scope.name == NOT_BEST_EFFORT)),
    }
}

fn scopes(quota: &ResourceQuota) -> impl Iterator<Item = Scope<'_>> {
    let spec = quota.spec.as_ref();
    let named = spec.and_then(|spec| spec.scopes.as_ref()).into_iter().flatten();
    let selected = spec.and_then(|spec| spec.scope_selector.as_ref()?.match_expressions.as_ref());
    let selected = selected.into_iter().flatten().map(|selected| Scope {
        name: &selected.scope_name,
        operator: &selected.operator,
        values: selected.values.as_deref().unwrap_or_default(),
    });
    named.map(|name| Scope { name, operator: "Exists", values: &[] }).chain(selected)
}

impl Scope<'_> {
    /// A scope that is not known holds: a quota counts too much rather than too little.
    fn holds(&self, pod: &RawPod<'_>) -> Result<bool, Skip> {
        let deadline = || pod.spec().get("activeDeadlineSeconds").is_some_and(|seconds| seconds.is_number());
        Ok(match self.name {
            "Terminating" => deadline(),
            "NotTerminating" => !deadline(),
            "PriorityClass" => {
                let class = string(pod.spec(), "priorityClassName")?.filter(|class| !class.is_empty());
                let is_listed = class.is_some_and(|class| self.values.iter().any(|value| value == class));
                match self.operator {
                    "Exists" => class.is_some(),
                    "DoesNotExist" => class.is_none(),
                    "In" => is_listed,
                    "NotIn" => !is_listed,
                    _ => true,
                }
            }
            "CrossNamespacePodAffinity" => names_namespaces(pod.spec()),
            _ => true,
        })
    }
}

/// Whether the pod wants to be near, or far from, pods of namespaces that it names.
fn names_namespaces(spec: &Map<String, Value>) -> bool {
    let affinity = spec.get("affinity");
    let list = |kind: &str, list: &str| {
        affinity.and_then(|affinity| affinity.get(kind)?.get(list)?.as_array()).into_iter().flatten()
    };
    ["podAffinity", "podAntiAffinity"].into_iter().any(|kind| {
        let required = list(kind, "requiredDuringSchedulingIgnoredDuringExecution");
        let preferred = list(kind, "preferredDuringSchedulingIgnoredDuringExecution");
        required.chain(preferred.filter_map(|item| item.get("podAffinityTerm"))).any(|term| {
            let has = |key: &str| term.get(key).filter(|value| !value.is_null());
            has("namespaceSelector").is_some()
                || has("namespaces").and_then(Value::as_array).is_some_and(|names| !names.is_empty())
        })
    })
}

fn moved(quota: &ResourceQuota, scope: &Scope<'_>) -> Skip {
    let name = quota.metadata.name.as_deref().unwrap_or_default();
    let cause = format!(
        "the ResourceQuota {name} (scope {}) tells BestEffort pods from others, and the agent's resources \
         would make this one Burstable; agent.mode Ephemeral leaves it as it is",
        scope.name
    );
    Skip::new(Reason::ResourcesConflict, cause)
}
