//! What keeps an agent out of a pod that a policy selects? A chain of small checks; the first "no" is the answer.

use fleetprof_crds::{Reason, names};

use super::raw::{RawPod, boolean, object, string};
use super::{AdmissionFacts, Skip};

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
        return Err(Skip::new(Reason::NamespaceExcluded, format!("the pod is in the namespace {}", facts.namespace)));
    }
    Ok(())
}

/// The pod's own label wins over its namespace's.
fn opted_in(pod: &RawPod<'_>, facts: &AdmissionFacts<'_>) -> Result<(), Skip> {
    let of_namespace = facts.namespace_labels.get(names::OPT_LABEL).map(String::as_str);
    match (pod.label(names::OPT_LABEL), of_namespace) {
        (Some(names::OPT_DISABLED), _) => Err(Skip::new(Reason::OptedOut, "the pod carries the label fleetprof.dev/profiling=disabled")),
        (Some(names::OPT_ENABLED), _) => Ok(()),
        (_, Some(names::OPT_DISABLED)) => {
            Err(Skip::new(Reason::OptedOut, "the namespace carries the label fleetprof.dev/profiling=disabled"))
        }
        _ => Ok(()),
    }
}

/// A mirror pod shows what a kubelet runs from a file; changing it changes nothing on the node.
fn not_static(pod: &RawPod<'_>) -> Result<(), Skip> {
    if pod.annotation(names::MIRROR_ANNOTATION).is_some() || pod.owner_kinds().any(|kind| kind == "Node") {
        return Err(Skip::new(Reason::StaticPod, "the pod mirrors a static pod of a node"));
    }
    Ok(())
}

fn linux(pod: &RawPod<'_>) -> Result<(), Skip> {
    let os = object(pod.spec(), "os")?.map(|os| string(os, "name")).transpose()?.flatten();
    let selector = object(pod.spec(), "nodeSelector")?;
    let selected = |key| selector.map(|s| string(s, key)).transpose().map(Option::flatten);
    let asked = [os, selected("kubernetes.io/os")?, selected("beta.kubernetes.io/os")?];
    if asked.contains(&Some("windows")) {
        return Err(Skip::new(Reason::WindowsNode, "the pod asks for Windows"));
    }
    Ok(())
}

/// The sidecar sees its target only when the containers share one process namespace; the host's would show it everything.
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
        ("volumes", names::SPOOL_VOLUME),
    ] {
        if pod.names(list).any(|taken| taken == name) {
            return Err(Skip::new(Reason::NameConflict, format!("spec.{list} of the pod already has the name {name}")));
        }
    }
    Ok(())
}
