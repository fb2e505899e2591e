//! `kubectl fleetprof doctor`: what is wrong, and what to do about it?
//!
//! ```text
//! doctor         cluster (version, APIs) ─► rights ─► status of policies, apps and sessions
//! doctor --pre   cluster ─► rights to install
//! doctor POD     the pod, by the operator's own rules (fleetprof-core), and its app in the status
//! ```

use clap::{Args, ValueEnum};
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use crate::cluster::{Ask, Cluster};
use crate::exit::{Exit, Failure, after};
use crate::output;
use crate::paths;
use crate::policies;

mod apis;
mod check;
mod pod;
mod rights;
mod statuses;

use check::{Check, Level};

/// What to look at.
#[derive(Args, Debug)]
pub(crate) struct DoctorArgs {
    /// A pod: why has it no agent, or why can it not be profiled?
    #[arg(value_name = "POD", value_parser = pod_name)]
    pod: Option<String>,
    /// Look whether fleetprof can be installed.
    #[arg(long, conflicts_with = "pod")]
    pre: bool,
    /// How to print the checks: json, or short for those that did not pass.
    #[arg(long, short = 'o', value_name = "FORMAT")]
    output: Option<Printed>,
}

/// How checks are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Printed {
    Short,
    Json,
}

fn pod_name(text: &str) -> Result<String, String> {
    paths::name(["pod/", "pods/", "po/"].iter().find_map(|kind| text.strip_prefix(kind)).unwrap_or(text))
}

/// Runs the checks. Ends with 1 if one failed; warnings do not count.
pub(crate) async fn run(cluster: &Cluster, args: &DoctorArgs) -> Result<Exit, Failure> {
    let namespace = paths::namespace(cluster.namespace())?;
    let checks = match (&args.pod, args.pre) {
        (Some(name), _) => of_pod(cluster, namespace, name).await?,
        (None, true) => {
            let mut checks = apis::version(cluster).await?;
            let rights = rights::install(cluster).await;
            checks.extend(rights.unwrap_or_else(|error| vec![Check::failure(rights::RIGHTS, &error)]));
            checks
        }
        (None, false) => of_namespace(cluster, namespace).await?,
    };
    let shown: Vec<&Check> = match args.output {
        Some(Printed::Short) => checks.iter().filter(|check| check.level != Level::Passed).collect(),
        _ => checks.iter().collect(),
    };
    let printed = match args.output {
        Some(Printed::Json) => output::print(&format!("{:#}\n", json!({"checks": shown}))),
        _ => output::coloured(&shown.iter().map(|check| check.text()).collect::<String>()),
    };
    let failed = checks.iter().any(|check| check.level == Level::Failed);
    after(printed, if failed { Exit::Error } else { Exit::Data })
}

async fn of_namespace(cluster: &Cluster, namespace: &str) -> Result<Vec<Check>, Failure> {
    let mut checks = apis::version(cluster).await?;
    let (served, installed) = apis::served(cluster).await;
    checks.extend(served);
    if !installed {
        return Ok(checks);
    }
    let rights = rights::profile(cluster, namespace).await;
    checks.extend(rights.unwrap_or_else(|error| vec![Check::failure(rights::RIGHTS, &error)]));
    let all = policies::list(cluster, Some(namespace)).await;
    checks.extend(match all {
        Ok(all) => statuses::policies(&all, namespace),
        Err(error) => vec![Check::failure(statuses::POLICIES, &error)],
    });
    let sessions = cluster.json(&Ask::get(paths::sessions(Some(namespace)))).await;
    checks.extend(match sessions {
        Ok(sessions) => statuses::sessions(&sessions),
        Err(error) => vec![Check::failure(statuses::SESSIONS, &error)],
    });
    Ok(checks)
}

async fn of_pod(cluster: &Cluster, namespace: &str, name: &str) -> Result<Vec<Check>, Failure> {
    let object = cluster.json(&Ask::get(format!("/api/v1/namespaces/{namespace}/pods/{name}"))).await?;
    let pod: Pod = serde_json::from_value(object)
        .map_err(|error| Failure::error(format!("the pod {name} cannot be read: {error}")))?;
    let labels = policies::labels(cluster, namespace).await;
    let all = policies::list(cluster, Some(namespace)).await;
    Ok(match (labels, all) {
        (Ok(labels), Ok(all)) => pod::checks(&pod, namespace, labels.as_ref(), &all),
        (Err(error), _) | (_, Err(error)) => vec![Check::failure(statuses::POLICIES, &error)],
    })
}
