//! `kubectl fleetprof apps`: which apps can be profiled, and if not, why?

use clap::Args;
use fleetprof_core::text::printable;
use fleetprof_crds::policy_status::{LinkState, LinkedApp};
use fleetprof_crds::session::PolicyKind;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::age::age;
use crate::cluster::Cluster;
use crate::exit::{Exit, Failure};
use crate::output::{self, Format};
use crate::paths;
use crate::policies::{self, Policy};
use crate::table::Table;

/// What to list.
#[derive(Args, Debug)]
pub(crate) struct AppsArgs {
    /// The apps of all namespaces.
    #[arg(long, short = 'A')]
    all_namespaces: bool,
    /// Only apps with pods that cannot be profiled.
    #[arg(long)]
    unlinked: bool,
    /// Only apps with pods whose agent is older than the operator.
    #[arg(long)]
    outdated: bool,
    /// How to print them; wide adds why an app is not linked, and what to do.
    #[arg(long, short = 'o', value_name = "FORMAT")]
    output: Option<Format>,
}

/// Lists them.
pub(crate) async fn run(cluster: &Cluster, args: &AppsArgs) -> Result<Exit, Failure> {
    let namespace = match args.all_namespaces {
        true => None,
        false => Some(paths::namespace(cluster.namespace())?),
    };
    let (all, of_cluster) = policies::seen(cluster, namespace).await?;
    if !of_cluster {
        output::note("ClusterProfilingPolicies are not included: you may not list them.");
    }
    let rows = chosen(&all, namespace, args);
    for policy in all.iter().filter(|policy| policy.status.linked_apps_truncated) {
        output::note(&format!(
            "Policy {} links {} apps; its status lists the first {}.",
            policy.reference.name,
            policy.status.linked_app_count,
            policy.status.linked_apps.len()
        ));
    }
    match args.output {
        Some(format @ (Format::Json | Format::Yaml)) => {
            output::print(&output::object(&objects(&rows), format)?)?
        }
        Some(Format::Name) => output::print(
            &rows.iter().map(|row| format!("{}\n", printable(&row.name()))).collect::<String>(),
        )?,
        _ if rows.is_empty() && (args.unlinked || args.outdated) => output::note("No apps match."),
        _ if rows.is_empty() => {
            output::note("No linked apps found: apply a ProfilingPolicy, or see kubectl fleetprof doctor.");
        }
        wide => output::print(&table(&rows, args.all_namespaces, wide.is_some(), Timestamp::now()).text())?,
    }
    Ok(Exit::Data)
}

/// An app with the policy that lists it.
struct Row<'a> {
    policy: &'a Policy,
    namespace: &'a str,
    app: &'a LinkedApp,
}

impl Row<'_> {
    fn name(&self) -> String {
        format!("{}/{}", self.app.kind, self.app.name)
    }

    fn policy(&self) -> String {
        match self.policy.reference.kind {
            PolicyKind::ClusterProfilingPolicy => format!("cppol/{}", self.policy.reference.name),
            PolicyKind::ProfilingPolicy | PolicyKind::Unknown => self.policy.reference.name.clone(),
        }
    }
}

fn chosen<'a>(all: &'a [Policy], namespace: Option<&str>, args: &AppsArgs) -> Vec<Row<'a>> {
    let rows = all
        .iter()
        .flat_map(|policy| policy.apps().map(move |(namespace, app)| Row { policy, namespace, app }));
    let mut rows: Vec<Row<'a>> = rows
        .filter(|row| namespace.is_none_or(|namespace| namespace == row.namespace))
        .filter(|row| !args.unlinked || row.app.state != LinkState::Linked)
        .filter(|row| !args.outdated || row.app.outdated > 0)
        .collect();
    rows.sort_by(|one, other| (one.namespace, one.name()).cmp(&(other.namespace, other.name())));
    rows
}

fn table(rows: &[Row<'_>], namespaces: bool, wide: bool, now: Timestamp) -> Table {
    let mut heading =
        vec!["app", "policy", "container", "runtime", "pods", "agent", "state", "reason", "profiled"];
    if namespaces {
        heading.insert(0, "namespace");
    }
    if wide {
        heading.extend(["versions", "outdated", "message"]);
    }
    let mut table = Table::new(&heading);
    for row in rows {
        table.row(cells(row, namespaces, wide, now));
    }
    table
}

fn cells(row: &Row<'_>, namespaces: bool, wide: bool, now: Timestamp) -> Vec<String> {
    let app = row.app;
    let modes: Vec<String> = app.agent_modes.iter().filter_map(|mode| text(&json!(mode))).collect();
    let profiled = app.last_profile_time.as_ref().map_or_else(|| "never".to_owned(), |time| age(now, time.0));
    let mut cells = vec![
        row.name(),
        row.policy(),
        app.container.clone(),
        app.runtime.clone().unwrap_or_default(),
        format!("{}/{}", app.linked, app.pods),
        modes.join(","),
        text(&json!(app.state)).unwrap_or_default(),
        app.reason.as_str().to_owned(),
        profiled,
    ];
    if namespaces {
        cells.insert(0, row.namespace.to_owned());
    }
    if wide {
        let said = [app.message.as_str(), app.reason.advice()].into_iter().filter(|text| !text.is_empty());
        cells.extend([
            app.agent_versions.join(","),
            app.outdated.to_string(),
            said.collect::<Vec<_>>().join("; "),
        ]);
    }
    cells
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

/// A list as in the status, with the policy and the namespace of each app.
fn objects(rows: &[Row<'_>]) -> Value {
    let item = |row: &Row<'_>| {
        let mut item = json!(row.app);
        item["namespace"] = json!(row.namespace);
        item["policyRef"] = json!(row.policy.reference);
        item
    };
    json!({"apiVersion": "v1", "kind": "List", "items": rows.iter().map(item).collect::<Vec<_>>()})
}

#[cfg(test)]
mod tests {
    use fleetprof_crds::session::PolicyRef;

    use super::*;

    fn policy(kind: PolicyKind, name: &str, namespace: &str, apps: &Value) -> Policy {
        Policy {
            reference: PolicyRef { kind, name: name.into() },
            namespace: namespace.into(),
            spec: None,
            namespaces: k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector::default(),
            created: None,
            status: serde_json::from_value(json!({"linkedApps": apps})).unwrap(),
        }
    }

    fn args() -> AppsArgs {
        AppsArgs { all_namespaces: false, unlinked: false, outdated: false, output: None }
    }

    #[test]
    fn apps_of_the_namespace_are_listed_whichever_policy_links_them() {
        let app = |name: &str, state: &str| json!({"kind": "Deployment", "name": name, "pods": 2, "linked": 1, "state": state, "reason": "WebhookMissed", "agentModes": ["Sidecar"]});
        let mut elsewhere = app("other", "Linked");
        elsewhere["namespace"] = json!("bank");
        let mut here = app("here", "Linked");
        here["namespace"] = json!("shop");
        let all = [
            policy(PolicyKind::ProfilingPolicy, "shop", "shop", &json!([app("orders", "NotLinked")])),
            policy(PolicyKind::ClusterProfilingPolicy, "fleet", "", &json!([elsewhere, here])),
        ];
        let names = |rows: &[Row<'_>]| rows.iter().map(Row::name).collect::<Vec<_>>();
        let rows = chosen(&all, Some("shop"), &args());
        assert_eq!(names(&rows), ["Deployment/here", "Deployment/orders"]);
        assert_eq!(names(&chosen(&all, None, &args())).len(), 3);
        assert_eq!(names(&chosen(&all, None, &AppsArgs { unlinked: true, ..args() })), ["Deployment/orders"]);
        assert!(chosen(&all, None, &AppsArgs { outdated: true, ..args() }).is_empty());
        let text = table(&rows, false, true, Timestamp::UNIX_EPOCH).text();
        assert!(text.starts_with("APP "), "{text}");
        assert!(text.contains("cppol/fleet") && text.contains("1/2") && text.contains("never"), "{text}");
        assert!(text.contains("check that the fleetprof webhook is running"), "advice: {text}");
        assert_eq!(objects(&rows)["items"][1]["policyRef"]["name"], "shop");
    }
}
