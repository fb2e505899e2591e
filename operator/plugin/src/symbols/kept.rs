//! `kubectl fleetprof symbols ls` and `rm`: which files with symbols does the cluster have?

use clap::Args;
use fleetprof_core::text::printable;
use fleetprof_profile::resolve::is_build_id;
use jiff::Timestamp;
use serde_json::Value;

use super::size;
use crate::age::age;
use crate::cluster::{Ask, Cluster};
use crate::exit::{Exit, Failure};
use crate::output::{self, Format};
use crate::paths;
use crate::table::Table;

/// What to list.
#[derive(Args, Debug)]
pub(super) struct LsArgs {
    /// How to print them; wide adds when they came, and their SHA-256.
    #[arg(long, short = 'o', value_name = "FORMAT")]
    output: Option<Format>,
}

/// What to delete.
#[derive(Args, Debug)]
pub(super) struct RmArgs {
    /// Build IDs, as ls lists them.
    #[arg(value_name = "BUILD_ID", required = true, value_parser = build_id)]
    build_ids: Vec<String>,
}

/// Lists them.
pub(super) async fn list(cluster: &Cluster, args: &LsArgs) -> Result<Exit, Failure> {
    let list = cluster.json(&Ask::get(paths::symbols())).await?;
    match args.output {
        Some(format @ (Format::Json | Format::Yaml)) => output::print(&output::object(&list, format)?)?,
        Some(Format::Name) => {
            let names = items(&list).filter_map(|item| item["metadata"]["name"].as_str());
            output::print(&names.map(|name| format!("{}\n", printable(name))).collect::<String>())?;
        }
        _ if items(&list).next().is_none() => output::note("No symbols are uploaded."),
        wide => output::print(&table(&list, wide.is_some(), Timestamp::now()).text())?,
    }
    super::warn(&list);
    Ok(Exit::Data)
}

/// Deletes them, one after the other.
pub(super) async fn remove(cluster: &Cluster, args: &RmArgs) -> Result<Exit, Failure> {
    for build_id in &args.build_ids {
        cluster.json(&Ask::delete(format!("{}/{build_id}", paths::symbols()))).await?;
        output::print(&format!("symbols.data.fleetprof.dev \"{build_id}\" deleted\n"))?;
    }
    Ok(Exit::Data)
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list["items"].as_array().into_iter().flatten()
}

fn table(list: &Value, wide: bool, now: Timestamp) -> Table {
    let mut heading = vec!["build id", "file", "size", "age", "by", "source"];
    heading.extend(wide.then_some(["time", "sha256"]).into_iter().flatten());
    let mut table = Table::new(&heading);
    for item in items(list) {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let time = text(&item["metadata"]["creationTimestamp"]);
        let since = time.parse().map(|then| age(now, then)).unwrap_or_default();
        let bytes = size(item["bytes"].as_u64().unwrap_or_default());
        let source = text(&item["source"]).to_lowercase();
        let (name, by) = (text(&item["metadata"]["name"]), text(&item["uploadedBy"]));
        let mut cells = vec![name, text(&item["file"]), bytes, since, by, source];
        cells.extend(wide.then(|| [time, text(&item["sha256"])]).into_iter().flatten());
        table.row(cells);
    }
    table
}

/// Reads a build id; anything else could lead to another path.
fn build_id(text: &str) -> Result<String, String> {
    match is_build_id(text) {
        true => Ok(text.to_owned()),
        false => Err("a build ID has 8 to 64 lower-case hex digits, an even number".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_row_says_who_sent_a_file_and_when() {
        let list = json!({"kind": "SymbolsList", "items": [{
            "metadata": {"name": "abcdef01", "creationTimestamp": "2026-12-01T10:00:00Z"}, "file": "shop\u{1b}[2J",
            "bytes": 3 << 20, "sha256": "00ff", "uploadedBy": "ann", "source": "Upload"}]});
        let now = "2026-12-01T10:05:03Z".parse().unwrap();
        let text = table(&list, false, now).text();
        assert!(text.contains("abcdef01   shop [2J   3.0 MiB   5m3s   ann   upload\n"), "{text}");
        assert!(table(&list, true, now).text().contains("2026-12-01T10:00:00Z   00ff"));
    }

    #[test]
    fn only_a_build_id_can_be_deleted() {
        assert_eq!(build_id("abcdef01").as_deref(), Ok("abcdef01"));
        for bad in ["", "..", "a/b", "ABCDEF01", "abc", "abcdef01?x"] {
            assert!(build_id(bad).is_err(), "{bad}");
        }
    }
}
