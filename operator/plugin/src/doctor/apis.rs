//! Does the cluster serve what fleetprof needs, and fleetprof what its users need?

use serde_json::Value;

use super::check::{Check, Level};
use crate::cluster::{Ask, Cluster};
use crate::exit::Failure;

/// Whether the kinds of fleetprof are served.
const INSTALLED: &str = "Installed";
const VERSION: &str = "KubernetesVersion";
const READ_API: &str = "ReadApi";
/// The oldest minor version of Kubernetes that is supported.
const OLDEST: u32 = 30;

/// The API server answers, and is not too old.
///
/// # Errors
/// It does not answer at all, so that there is nothing to check.
pub(super) async fn version(cluster: &Cluster) -> Result<Vec<Check>, Failure> {
    match cluster.json(&Ask::get("/version")).await {
        Err(error) if error.status().is_none() => Err(error),
        Err(error) => Ok(vec![Check::failure(VERSION, &error)]),
        Ok(version) => Ok(vec![of_version(&version)]),
    }
}

fn of_version(version: &Value) -> Check {
    let text = version["gitVersion"].as_str().unwrap_or("of an unknown version");
    let digits = |key: &str| {
        let text = version[key].as_str().unwrap_or_default();
        text.trim_end_matches(|c: char| !c.is_ascii_digit()).parse::<u32>().ok()
    };
    match (digits("major"), digits("minor")) {
        (Some(1), Some(minor)) if minor < OLDEST => Check::of(
            VERSION,
            Level::Failed,
            format!("the API server is {text}"),
            format!("upgrade it to 1.{OLDEST} or newer: older ones have no ValidatingAdmissionPolicy"),
        ),
        _ => Check::passed(VERSION, format!("the API server is {text}")),
    }
}

/// The two APIs; and whether the kinds are served, as far as the caller may see it.
pub(super) async fn served(cluster: &Cluster) -> (Vec<Check>, bool) {
    let kinds = cluster.json(&Ask::get("/apis/fleetprof.dev/v1alpha1")).await;
    let reads = cluster.json(&Ask::get("/apis/data.fleetprof.dev/v1alpha1")).await;
    let installed = !matches!(&kinds, Err(error) if is_absent(error));
    (vec![of_kinds(&kinds), of_reads(&reads)], installed)
}

/// Only this says that there is no such API; a refusal says nothing of it.
fn is_absent(error: &Failure) -> bool {
    error.status() == Some(404)
}

fn of_kinds(answer: &Result<Value, Failure>) -> Check {
    match answer {
        Ok(_) => Check::passed(INSTALLED, "the cluster serves the kinds of fleetprof"),
        Err(error) if is_absent(error) => Check::of(
            INSTALLED,
            Level::Failed,
            "the cluster does not have the kinds of fleetprof",
            "install the chart; kubectl fleetprof doctor --pre says whether you may",
        ),
        Err(error) => Check::failure(INSTALLED, error),
    }
}

fn of_reads(answer: &Result<Value, Failure>) -> Check {
    match answer {
        Ok(_) => Check::passed(READ_API, "profiles can be read"),
        // An aggregated API without an operator behind it.
        Err(error) if is_absent(error) || error.status() == Some(503) => Check::of(
            READ_API,
            Level::Failed,
            "profiles cannot be read: data.fleetprof.dev is not served",
            "check kubectl get apiservice v1alpha1.data.fleetprof.dev, and that the operator is running",
        ),
        Err(error) => Check::failure(READ_API, error),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_a_404_means_that_fleetprof_is_not_installed() {
        let refused = |status: u16| Err(Failure::refused(status, "user ada may not get it"));
        assert!(of_kinds(&refused(404)).message.contains("does not have the kinds"));
        for status in [403, 500] {
            let check = of_kinds(&refused(status));
            assert_eq!((check.level, check.message.as_str()), (Level::Failed, "user ada may not get it"));
        }
        assert!(of_reads(&refused(503)).message.contains("is not served"));
        assert_eq!(of_reads(&refused(403)).message, "user ada may not get it");
    }

    #[test]
    fn old_versions_fail_and_odd_ones_do_not() {
        let level =
            |minor: &str| of_version(&json!({"major": "1", "minor": minor, "gitVersion": "v1"})).level;
        assert_eq!(level("29"), Level::Failed);
        assert_eq!((level("30"), level("31+"), level("?")), (Level::Passed, Level::Passed, Level::Passed));
    }
}
