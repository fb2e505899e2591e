//! Does the cluster serve what fleetprof needs, and fleetprof what its users need?

use serde_json::Value;

use super::check::{Check, Level};
use crate::cluster::{Ask, Cluster};
use crate::exit::Failure;

/// Whether the kinds of fleetprof are served.
pub(super) const INSTALLED: &str = "Installed";
const VERSION: &str = "KubernetesVersion";
const READ_API: &str = "ReadApi";
/// The oldest minor version of Kubernetes that is supported.
const OLDEST: u32 = 30;

/// The API server answers, and is not too old.
pub(super) async fn version(cluster: &Cluster) -> Result<Vec<Check>, Failure> {
    Ok(vec![of_version(&cluster.json(&Ask::get("/version")).await?)])
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

/// The two APIs.
pub(super) async fn served(cluster: &Cluster) -> Result<Vec<Check>, Failure> {
    let kinds = is_served(cluster, "/apis/fleetprof.dev/v1alpha1").await?;
    let reads = is_served(cluster, "/apis/data.fleetprof.dev/v1alpha1").await?;
    Ok(vec![
        match kinds {
            true => Check::passed(INSTALLED, "the kinds of fleetprof are served"),
            false => Check::of(
                INSTALLED,
                Level::Failed,
                "the cluster does not have the kinds of fleetprof",
                "install the chart; kubectl fleetprof doctor --pre tells whether you may",
            ),
        },
        match reads {
            true => Check::passed(READ_API, "profiles can be read"),
            false => Check::of(
                READ_API,
                Level::Failed,
                "profiles cannot be read: data.fleetprof.dev is not served",
                "check kubectl get apiservice v1alpha1.data.fleetprof.dev, and that the operator runs",
            ),
        },
    ])
}

async fn is_served(cluster: &Cluster, path: &str) -> Result<bool, Failure> {
    match cluster.json(&Ask::get(path)).await {
        Ok(_) => Ok(true),
        Err(error) if matches!(error.status(), Some(403 | 404 | 500..)) => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn old_versions_fail_and_odd_ones_do_not() {
        let level =
            |minor: &str| of_version(&json!({"major": "1", "minor": minor, "gitVersion": "v1"})).level;
        assert_eq!(level("29"), Level::Failed);
        assert_eq!((level("30"), level("31+"), level("?")), (Level::Passed, Level::Passed, Level::Passed));
    }
}
