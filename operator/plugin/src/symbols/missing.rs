//! `kubectl fleetprof symbols missing`: of which files do the functions have no names? As the statuses of sessions tell.

use std::collections::BTreeMap;

use clap::Args;
use fleetprof_core::text::printable;
use fleetprof_crds::ProfileSessionStatus;
use serde_json::{Value, json};

use crate::cluster::{Ask, Cluster};
use crate::exit::{Exit, Failure};
use crate::output::{self, Format};
use crate::paths;
use crate::sessions::none_found;
use crate::table::Table;

/// What to do about it.
const NEXT: &str = "Next: send the files with symbols that your build kept; later captures have their names:
  kubectl fleetprof symbols upload FILE|FOLDER…";

/// What to list.
#[derive(Args, Debug)]
pub(super) struct MissingArgs {
    /// The sessions of all namespaces.
    #[arg(long, short = 'A')]
    all_namespaces: bool,
    /// How to print them; wide adds why they have none.
    #[arg(long, short = 'o', value_name = "FORMAT")]
    output: Option<Format>,
}

/// Lists them.
pub(super) async fn run(cluster: &Cluster, args: &MissingArgs) -> Result<Exit, Failure> {
    let namespace = match args.all_namespaces {
        true => None,
        false => Some(paths::namespace(cluster.namespace())?),
    };
    let list = cluster.json(&Ask::get(paths::sessions(namespace))).await?;
    let Found { files, sessions, unread } = missing(&list);
    let notes = notes(namespace, files.is_empty(), sessions, unread);
    notes.iter().for_each(|words| output::note(words));
    match args.output {
        Some(format @ (Format::Json | Format::Yaml)) => {
            output::print(&output::object(&json!({"missing": objects(&files)}), format)?)?;
        }
        Some(Format::Name) => {
            let ids = files.iter().map(|file| &file.build_id).filter(|id| !id.is_empty());
            output::print(&ids.map(|id| format!("{}\n", printable(id))).collect::<String>())?;
        }
        _ if files.is_empty() => {}
        wide => {
            output::print(&table(&files, wide.is_some()).text())?;
            output::note(NEXT);
        }
    }
    Ok(Exit::Data)
}

/// A file that lacks symbols.
#[derive(Clone, Debug, PartialEq, Eq)]
struct File {
    build_id: String,
    file: String,
    /// Targets whose profiles have functions of it without names.
    targets: usize,
    /// The workload of the last one.
    workload: String,
    /// Why, as the newest session says.
    message: String,
    /// When that one began.
    last: String,
}

/// What a list of sessions tells.
#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    /// The files, those of most targets first.
    files: Vec<File>,
    sessions: usize,
    /// How many of these could not be read, such as those of a newer version.
    unread: usize,
}

/// What is to be said beside the files.
fn notes(namespace: Option<&str>, no_files: bool, sessions: usize, unread: usize) -> Vec<String> {
    if sessions == 0 {
        return vec![none_found(namespace)];
    }
    let read = sessions.saturating_sub(unread);
    let none = (no_files && read > 0).then(|| "No session reports a file without symbols.".to_owned());
    let lost = (unread > 0).then(|| {
        format!(
            "{unread} of {sessions} sessions could not be read: their status has what this version of the plugin \
             does not know. Use the plugin of the operator's version."
        )
    });
    none.into_iter().chain(lost).collect()
}

/// The status of a session; one that has just been created has none.
fn status(session: &Value) -> Option<ProfileSessionStatus> {
    match &session["status"] {
        Value::Null => Some(ProfileSessionStatus::default()),
        status => serde_json::from_value(status.clone()).ok(),
    }
}

/// The files in a list of sessions.
fn missing(list: &Value) -> Found {
    let mut found = Found::default();
    let mut files: BTreeMap<(String, String), File> = BTreeMap::new();
    for session in list["items"].as_array().into_iter().flatten() {
        found.sessions += 1;
        let Some(status) = status(session) else {
            found.unread += 1;
            continue;
        };
        let started = status.start_time.map(|time| time.0.to_string()).unwrap_or_default();
        for target in &status.targets {
            for one in target.symbols.iter().flat_map(|symbols| &symbols.missing) {
                let key = (one.build_id.clone(), one.file.clone());
                let file = files.entry(key).or_insert_with(|| File {
                    build_id: one.build_id.clone(),
                    file: one.file.clone(),
                    targets: 0,
                    workload: String::new(),
                    message: String::new(),
                    last: String::new(),
                });
                file.targets += 1;
                if started >= file.last {
                    file.last.clone_from(&started);
                    file.workload.clone_from(&target.workload);
                    file.message.clone_from(&one.message);
                }
            }
        }
    }
    found.files = files.into_values().collect();
    found.files.sort_by_key(|file| std::cmp::Reverse(file.targets));
    found
}

fn table(files: &[File], wide: bool) -> Table {
    let mut heading = vec!["build id", "file", "targets", "workload"];
    heading.extend(wide.then_some("message"));
    let mut table = Table::new(&heading);
    for file in files {
        let build_id = if file.build_id.is_empty() { "-" } else { &file.build_id };
        let targets = file.targets.to_string();
        let mut cells = vec![build_id.to_owned(), file.file.clone(), targets, file.workload.clone()];
        cells.extend(wide.then(|| file.message.clone()));
        table.row(cells);
    }
    table
}

fn objects(files: &[File]) -> Vec<Value> {
    let object = |file: &File| {
        json!({
            "buildId": file.build_id, "file": file.file, "targets": file.targets, "workload": file.workload,
            "message": file.message, "lastTime": file.last,
        })
    };
    files.iter().map(object).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(started: &str, missing: &Value) -> Value {
        json!({"status": {"startTime": started, "targets": [
            {"pod": "orders-1", "workload": "Deployment/orders", "symbols": {"named": 40, "missing": missing}},
            {"pod": "python", "workload": "Deployment/py"},
        ]}})
    }

    #[test]
    fn files_are_listed_once_with_what_the_newest_session_says() {
        let shop = |message: &str| json!({"file": "/app/shop", "buildId": "abcd", "message": message});
        let list = json!({"items": [
            session("2026-12-01T10:00:00Z", &json!([shop("new"), {"file": "/lib/jit.so"}])),
            session("2026-12-01T09:00:00Z", &json!([shop("old")])),
            {"status": {}}, {}, {"status": {"targets": [{"pod": "p", "symbols": {"named": 1, "missing": "nonsense"}}]}},
        ]});
        let Found { files, sessions, unread } = missing(&list);
        assert_eq!((files.len(), sessions, unread), (2, 5, 1), "one without a status is only young");
        assert_eq!(
            (files[0].build_id.as_str(), files[0].targets, files[0].message.as_str()),
            ("abcd", 2, "new")
        );
        let shown = table(&files, true).text();
        assert!(shown.starts_with("BUILD ID   FILE"), "{shown}");
        assert!(shown.contains("abcd       /app/shop     2         Deployment/orders   new"), "{shown}");
        assert!(shown.contains("-          /lib/jit.so   1"), "{shown}");
        assert_eq!(objects(&files)[0]["lastTime"], "2026-12-01T10:00:00Z");
        assert_eq!(missing(&json!({"items": []})), Found::default());
    }

    #[test]
    fn an_empty_answer_says_why_it_is_empty() {
        let none = "No session reports a file without symbols.";
        let lost = |words: &str| format!("{words} sessions could not be read: ");
        assert_eq!(notes(Some("shop"), true, 0, 0), ["No sessions found in namespace shop."]);
        assert_eq!(notes(None, true, 0, 0), ["No sessions found."]);
        assert_eq!(notes(None, true, 3, 0), [none]);
        assert!(notes(None, false, 3, 0).is_empty());
        let some = notes(None, true, 3, 1);
        assert!(some.len() == 2 && some[0] == none && some[1].starts_with(&lost("1 of 3")), "{some:?}");
        let all = notes(None, true, 3, 3);
        assert!(all.len() == 1 && all[0].starts_with(&lost("3 of 3")), "nothing is known: {all:?}");
        assert_eq!(notes(None, false, 3, 2).len(), 1);
    }

    #[test]
    fn many_targets_say_once_of_which_workload_they_are() {
        let target = |n| {
            let missing = json!([{"file": "/app/shop", "buildId": "abcd"}]);
            json!({"pod": format!("orders-{n}"), "workload": "Deployment/orders", "phase": "Succeeded",
                "symbols": {"named": 40, "missing": missing}})
        };
        let targets: Vec<Value> = (0..6).map(target).collect();
        let status: ProfileSessionStatus = serde_json::from_value(json!({"targets": targets})).unwrap();
        let written = json!({"status": status});
        assert_eq!(written["status"]["targets"][0]["workload"], Value::Null, "{written}");
        let Found { files, .. } = missing(&json!({"items": [written]}));
        assert_eq!(files.len(), 1);
        assert_eq!((files[0].targets, files[0].workload.as_str()), (6, "Deployment/orders"));
    }
}
