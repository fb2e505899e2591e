//! `kubectl fleetprof sessions`: which sessions are there? The table is the API server's, so its columns are
//! those of the CRD; the newest session is the last row.

use std::collections::HashMap;
use std::time::Duration;

use clap::Args;
use serde_json::Value;

use crate::cluster::{Ask, Cluster};
use crate::exit::{Exit, Failure};
use crate::follow::patient;
use crate::lines::WATCH;
use crate::output::{self, Format};
use crate::paths;
use crate::table::{ACCEPT, Columns, Table};

/// Before a watch that ended is begun again.
const PAUSE: Duration = Duration::from_secs(1);
/// The resource version is no longer known.
const GONE: u16 = 410;

/// What to list.
#[derive(Args, Debug)]
pub(crate) struct SessionsArgs {
    /// The sessions of all namespaces.
    #[arg(long, short = 'A')]
    all_namespaces: bool,
    /// Only sessions with these labels, such as fleetprof.dev/trigger=CPU.
    #[arg(long, short = 'l', value_name = "SELECTOR")]
    selector: Option<String>,
    /// Show changes as they happen.
    #[arg(long, short = 'w')]
    watch: bool,
    /// How to print them.
    #[arg(long, short = 'o', value_name = "FORMAT")]
    output: Option<Format>,
}

/// Lists them.
pub(crate) async fn run(cluster: &Cluster, args: &SessionsArgs) -> Result<Exit, Failure> {
    let namespace = match args.all_namespaces {
        true => None,
        false => Some(paths::namespace(cluster.namespace())?),
    };
    let path = paths::sessions(namespace);
    match args.output {
        Some(format @ (Format::Json | Format::Yaml | Format::Name)) => {
            if args.watch {
                return Err(Failure::usage("--watch shows a table: omit it, or use --output wide"));
            }
            let list = cluster.json(&Ask::get(paths::with(&path, &query(args, &[])))).await?;
            output::print(&output::object(&kinds(list), format)?)?;
        }
        None | Some(Format::Wide) => table(cluster, args, &path, namespace).await?,
    }
    Ok(Exit::Data)
}

fn query<'a>(args: &'a SessionsArgs, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    args.selector
        .iter()
        .map(|selector| ("labelSelector", selector.as_str()))
        .chain(more.iter().copied())
        .collect()
}

/// What is said where there is no session; `None` stands for all namespaces.
pub(crate) fn none_found(namespace: Option<&str>) -> String {
    match namespace {
        Some(namespace) => format!("No sessions found in namespace {namespace}."),
        None => "No sessions found.".to_owned(),
    }
}

/// The items of a list with their kinds, which the API server leaves out.
fn kinds(mut list: Value) -> Value {
    let version = list["apiVersion"].clone();
    for item in list["items"].as_array_mut().into_iter().flatten() {
        item["apiVersion"] = version.clone();
        item["kind"] = "ProfileSession".into();
    }
    list
}

async fn table(
    cluster: &Cluster,
    args: &SessionsArgs,
    path: &str,
    namespace: Option<&str>,
) -> Result<(), Failure> {
    let mut list = cluster.json(&Ask::get(paths::with(path, &query(args, &[]))).accept(ACCEPT)).await?;
    let columns = Columns::of(&list, args.output == Some(Format::Wide), args.all_namespaces);
    let mut table = columns.table();
    let mut seen = Seen::default();
    add(&mut table, &columns, &mut list, &mut seen);
    if table.is_empty() && !args.watch {
        output::note(&none_found(namespace));
        return Ok(());
    }
    output::print(&table.text())?;
    table.take();
    match args.watch {
        true => Watch { cluster, args, path, columns, table, seen }.run(version(&list)).await,
        false => Ok(()),
    }
}

/// The rows of a list that are not known yet, oldest first.
fn add(table: &mut Table, columns: &Columns, list: &mut Value, seen: &mut Seen) {
    let mut rows: Vec<Value> = list["rows"].as_array_mut().map(std::mem::take).unwrap_or_default();
    let created =
        |row: &Value| row["object"]["metadata"]["creationTimestamp"].as_str().unwrap_or_default().to_owned();
    rows.sort_by_key(created);
    for row in rows.iter().filter(|row| seen.is_new(row)) {
        table.row(columns.cells(row));
    }
}

fn version(object: &Value) -> Option<String> {
    object["metadata"]["resourceVersion"].as_str().filter(|version| !version.is_empty()).map(str::to_owned)
}

/// The version in which each session was printed last.
#[derive(Default)]
struct Seen(HashMap<String, String>);

impl Seen {
    /// Whether this version was not printed yet.
    fn is_new(&mut self, row: &Value) -> bool {
        let metadata = &row["object"]["metadata"];
        let text = |key: &str| metadata[key].as_str().unwrap_or_default().to_owned();
        let version = text("resourceVersion");
        self.0.insert(text("uid"), version.clone()).is_none_or(|before| before != version)
    }
}

/// A watch that goes on when the API server ends it, or has forgotten where it was.
struct Watch<'a> {
    cluster: &'a Cluster,
    args: &'a SessionsArgs,
    path: &'a str,
    columns: Columns,
    table: Table,
    seen: Seen,
}

impl Watch<'_> {
    async fn run(&mut self, mut from: Option<String>) -> Result<(), Failure> {
        loop {
            from = match from {
                Some(version) => self.follow(version).await?,
                None => self.list().await?,
            };
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn list(&mut self) -> Result<Option<String>, Failure> {
        let ask = Ask::get(paths::with(self.path, &query(self.args, &[]))).accept(ACCEPT);
        let mut list = patient(async || self.cluster.json(&ask).await).await?;
        add(&mut self.table, &self.columns, &mut list, &mut self.seen);
        output::print(&self.table.take())?;
        Ok(version(&list))
    }

    /// Prints what changes, until the connection ends. The version to go on from; nothing to list again.
    async fn follow(&mut self, mut at: String) -> Result<Option<String>, Failure> {
        let watch = [&WATCH[..], &[("resourceVersion", at.as_str())]].concat();
        let ask = Ask::get(paths::with(self.path, &query(self.args, &watch))).accept(ACCEPT);
        let mut lines = match patient(async || self.cluster.lines(&ask).await).await {
            Ok(lines) => lines,
            Err(error) if error.status() == Some(GONE) => return Ok(None),
            Err(error) => return Err(error),
        };
        while let Some(mut event) = lines.event().await {
            if event["type"] == "ERROR" {
                return Ok(None);
            }
            let row = &event["object"]["rows"][0]["object"];
            if let Some(version) = version(row).or_else(|| version(&event["object"])) {
                at = version;
            }
            if event["type"] != "BOOKMARK" {
                add(&mut self.table, &self.columns, &mut event["object"], &mut self.seen);
                output::print(&self.table.take())?;
            }
        }
        Ok(Some(at))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_version_is_printed_once_and_the_newest_last() {
        let columns =
            Columns::of(&json!({"columnDefinitions": [{"name": "Name", "priority": 0}]}), false, false);
        let row = |name: &str, version: &str, created: &str| json!({"cells": [name], "object": {"metadata": {"uid": name, "resourceVersion": version, "creationTimestamp": created}}});
        let (mut table, mut seen) = (columns.table(), Seen::default());
        let mut list =
            json!({"rows": [row("b", "2", "2026-01-02T00:00:00Z"), row("a", "1", "2026-01-01T00:00:00Z")]});
        add(&mut table, &columns, &mut list, &mut seen);
        assert_eq!(table.take(), "a\nb\n");
        let mut list = json!({"rows": [row("a", "3", ""), row("b", "2", "")]});
        add(&mut table, &columns, &mut list, &mut seen);
        assert_eq!(table.take(), "a\n", "a list after a break shows what changed meanwhile");
    }
}
