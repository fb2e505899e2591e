//! What keeps an agent out of a pod that a policy selects? A chain of small checks; the first "no" is the
//! answer.

use fleetprof_crds::{Reason, names};
use serde_json::{Map, Value};

use super::AdmissionFacts;
use super::raw::{RawPod, array, boolean, object, objects, string};
use crate::agent::Skip;
use crate::pod::OptOut;

/// The labels that every node has for its operating system.
const OS_LABELS: [&str; 2] = ["kubernetes.io/os", "beta.kubernetes.io/os"];

/// Passes the pods that may get a sidecar, whoever its container and user turn out to be.
pub(super) fn check(pod: &RawPod<'_>, facts: &AdmissionFacts<'_>) -> Result<(), Skip> {
    opted_in(pod, facts)?;
    not_static(pod)?;
    linux(pod)?;
    namespace(facts)?;
    processes(pod)?;
    names_free(pod)
}

fn namespace(facts: &AdmissionFacts<'_>) -> Result<(), Skip> {
    if facts.cluster.excluded_namespaces.iter().any(|n| n == facts.namespace) {
        return Err(Skip::new(
            Reason::NamespaceExcluded,
            format!("the pod is in the namespace {}", facts.namespace),
        ));
    }
    Ok(())
}

/// The pod's own label wins over its namespace's. A namespace that is not known may have opted out.
fn opted_in(pod: &RawPod<'_>, facts: &AdmissionFacts<'_>) -> Result<(), Skip> {
    let own = pod.label(names::OPT_LABEL);
    let Some(labels) = facts.namespace_labels else {
        return match own {
            Some(names::OPT_DISABLED | names::OPT_ENABLED) => by_label(own, None),
            _ => Err(Skip::new(
                Reason::NamespaceUnknown,
                format!("the labels of the namespace {} are not known yet", facts.namespace),
            )),
        };
    };
    by_label(own, labels.get(names::OPT_LABEL).map(String::as_str))
}

fn by_label(of_pod: Option<&str>, of_namespace: Option<&str>) -> Result<(), Skip> {
    match OptOut::by_labels(of_pod, of_namespace) {
        Some(out) => Err(Skip::new(Reason::OptedOut, out.why())),
        None => Ok(()),
    }
}

/// A mirror pod shows what a kubelet runs from a file; changing it changes nothing on the node.
fn not_static(pod: &RawPod<'_>) -> Result<(), Skip> {
    if pod.annotation(names::MIRROR_ANNOTATION).is_some() || pod.owner_kinds().any(|kind| kind == "Node") {
        return Err(Skip::new(Reason::StaticPod, "the pod is a mirror pod of a static pod"));
    }
    Ok(())
}

fn linux(pod: &RawPod<'_>) -> Result<(), Skip> {
    let os = object(pod.spec(), "os")?.map(|os| string(os, "name")).transpose()?.flatten();
    let selector = object(pod.spec(), "nodeSelector")?;
    let selected = |key| selector.map(|s| string(s, key)).transpose().map(Option::flatten);
    let asked = [os, selected(OS_LABELS[0])?, selected(OS_LABELS[1])?];
    if asked.contains(&Some("windows")) {
        return Err(Skip::new(Reason::WindowsNode, "the pod requires Windows"));
    }
    if has_windows_options(pod)? {
        return Err(Skip::new(Reason::WindowsNode, "a security context of the pod has windowsOptions"));
    }
    if affinity_bars_linux(pod)? {
        return Err(Skip::new(
            Reason::WindowsNode,
            "the pod's required node affinity excludes all Linux nodes",
        ));
    }
    Ok(())
}

/// Whether the pod says how Windows is to run it. The API server refuses a pod in which some containers are processes
/// of the host (`hostProcess`) and others, such as an agent, are not.
fn has_windows_options(pod: &RawPod<'_>) -> Result<bool, Skip> {
    let contexts = pod.containers().iter().map(|container| container.security).chain([pod.security()?]);
    for context in contexts.flatten() {
        if object(context, "windowsOptions")?.is_some_and(|options| !options.is_empty()) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether the required node affinity leaves out every Linux node. One of its terms is enough for a node, and
/// a term without any requirement takes none.
fn affinity_bars_linux(pod: &RawPod<'_>) -> Result<bool, Skip> {
    let Some(affinity) = object(pod.spec(), "affinity")? else { return Ok(false) };
    let Some(of_nodes) = object(affinity, "nodeAffinity")? else { return Ok(false) };
    let Some(required) = object(of_nodes, "requiredDuringSchedulingIgnoredDuringExecution")? else {
        return Ok(false);
    };
    let mut some = false;
    for term in objects(required, "nodeSelectorTerms")? {
        let expressions = objects(term, "matchExpressions")?;
        if expressions.is_empty() && array(term, "matchFields")?.is_empty() {
            continue;
        }
        some = true;
        if !expressions.into_iter().map(bars_linux).collect::<Result<Vec<_>, _>>()?.contains(&true) {
            return Ok(false);
        }
    }
    Ok(some)
}

/// Whether a requirement on a node's labels leaves out every Linux node.
fn bars_linux(requirement: &Map<String, Value>) -> Result<bool, Skip> {
    let key = string(requirement, "key")?.unwrap_or_default();
    let names_linux = array(requirement, "values")?.iter().any(|value| value == "linux");
    Ok(OS_LABELS.contains(&key)
        && match string(requirement, "operator")? {
            Some("In") => !names_linux,
            Some("NotIn") => names_linux,
            _ => false,
        })
}

/// The sidecar sees its target only when the containers share one process namespace; the host's would show it
/// everything.
fn processes(pod: &RawPod<'_>) -> Result<(), Skip> {
    if boolean(pod.spec(), "hostPID")? == Some(true) {
        return Err(Skip::new(Reason::HostPid, "the pod sets hostPID: true"));
    }
    if boolean(pod.spec(), "shareProcessNamespace")? == Some(false) {
        return Err(Skip::new(Reason::ProcessNamespaceConflict, "the pod sets shareProcessNamespace: false"));
    }
    Ok(())
}

fn names_free(pod: &RawPod<'_>) -> Result<(), Skip> {
    for (list, name) in [
        ("containers", names::SIDECAR_NAME),
        ("initContainers", names::SIDECAR_NAME),
        ("volumes", names::TOKEN_VOLUME),
    ] {
        if pod.names(list).any(|taken| taken == name) {
            return Err(Skip::new(
                Reason::NameConflict,
                format!("spec.{list} of the pod already contains the name {name}"),
            ));
        }
    }
    Ok(())
}
