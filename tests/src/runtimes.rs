//! What is captured of which runtime in a pod? What the suite `runtimes` found, in `tests/runtimes.json`, and
//! the table of it in the guide.
//!
//! The file holds what does not change from run to run: the collector, and whether lines are told. Numbers of
//! samples and coverage of the last run are in `target/runtimes.json`.

use std::fmt::Write;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::root;

/// How an agent gets at a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Way {
    /// Injected when the pod is created.
    Sidecar,
    /// Attached when a session needs it.
    Ephemeral,
    /// None in the pod: that of its node.
    Node,
}

/// All ways that are tested, in the order of the table.
pub const WAYS: [Way; 3] = [Way::Sidecar, Way::Ephemeral, Way::Node];

impl Way {
    /// As the API says it.
    #[must_use]
    pub const fn mode(self) -> &'static str {
        match self {
            Self::Sidecar => "Sidecar",
            Self::Ephemeral => "Ephemeral",
            Self::Node => "Node",
        }
    }

    /// As a part of names of objects.
    #[must_use]
    pub fn name(self) -> String {
        self.mode().to_lowercase()
    }
}

/// A kind of profile of a runtime that was captured by a way, with the guilty function where it belongs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The runtime with its version.
    pub runtime: String,
    /// The kind, as the API says it.
    pub kind: String,
    /// The way.
    pub way: Way,
    /// The collector that the session's status names.
    pub collector: String,
    /// Whether the guilty function has its file and line.
    pub lines: bool,
}

impl Finding {
    fn is_of(&self, other: &Self) -> bool {
        (&self.runtime, &self.kind, self.way) == (&other.runtime, &other.kind, other.way)
    }

    /// What of a recorded finding is lost with this one.
    fn loses(&self, recorded: &Self) -> Option<String> {
        let place = format!("{}, {} by {}", self.runtime, self.kind, self.way.mode());
        if self.collector != recorded.collector {
            return Some(format!(
                "{place}: captured by {}, where {} is recorded",
                self.collector, recorded.collector
            ));
        }
        (recorded.lines && !self.lines).then(|| format!("{place}: the guilty function has no line any more"))
    }
}

/// Where the recorded findings are.
#[must_use]
pub fn file() -> PathBuf {
    root().join("tests/runtimes.json")
}

/// The recorded findings, in the order of the table.
///
/// # Errors
/// When the file cannot be read.
pub fn recorded() -> Result<Vec<Finding>> {
    let text = std::fs::read_to_string(file()).context("tests/runtimes.json cannot be read")?;
    serde_json::from_str(&text).context("tests/runtimes.json is not a list of findings")
}

/// Writes findings in place of the recorded ones, one a line.
///
/// # Errors
/// When the file cannot be written.
pub fn record(findings: &[Finding]) -> Result<()> {
    let lines: Vec<String> = findings.iter().map(serde_json::to_string).collect::<Result<_, _>>()?;
    std::fs::write(file(), format!("[\n{}\n]\n", lines.join(",\n"))).context("tests/runtimes.json")
}

/// What is worse than recorded, of what was `tried`; and what is new.
#[must_use]
pub fn compare(recorded: &[Finding], found: &[Finding], tried: impl Fn(&Finding) -> bool) -> Comparison {
    let now = |wanted: &Finding| found.iter().find(|finding| finding.is_of(wanted));
    let worse = recorded.iter().filter(|finding| tried(finding)).filter_map(|wanted| match now(wanted) {
        Some(finding) => finding.loses(wanted),
        None => {
            let (runtime, kind, way) = (&wanted.runtime, &wanted.kind, wanted.way.mode());
            Some(format!("{runtime}, {kind} by {way}: not captured, where {} did before", wanted.collector))
        }
    });
    let is_new = |finding: &&Finding| !recorded.contains(finding);
    Comparison { worse: worse.collect(), new: found.iter().filter(is_new).cloned().collect() }
}

/// How findings differ from the recorded ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// A sentence on each that is worse.
    pub worse: Vec<String>,
    /// Those that are not recorded as they are.
    pub new: Vec<Finding>,
}

/// The table of the guide: a row for each kind of each runtime.
#[must_use]
pub fn table(findings: &[Finding]) -> String {
    let mut text = String::from("| runtime | type | Sidecar | Ephemeral | Node |\n|---|---|---|---|---|\n");
    let mut rows: Vec<&Finding> = Vec::new();
    for finding in findings {
        if !rows.iter().any(|row| (&row.runtime, &row.kind) == (&finding.runtime, &finding.kind)) {
            rows.push(finding);
        }
    }
    for row in rows {
        let cell = |way| {
            let wanted = Finding { way, ..row.clone() };
            let found = findings.iter().find(|finding| finding.is_of(&wanted));
            // The matrix tries every runtime by each of its ways.
            let is_tried = findings.iter().any(|finding| finding.way == way);
            let nothing = if is_tried { "no" } else { "not tried" };
            found.map_or(nothing.to_owned(), |finding| {
                format!("`{}`, {}", finding.collector, if finding.lines { "lines" } else { "functions" })
            })
        };
        let [sidecar, ephemeral, node] = WAYS.map(cell);
        let _ = writeln!(text, "| {} | {} | {sidecar} | {ephemeral} | {node} |", row.runtime, row.kind);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What stands before and behind the table in docs/runtimes.md.
    const TABLE: (&str, &str) = (
        "<!-- runtimes: generated from tests/runtimes.json; FLEETPROF_REGENERATE=1 cargo test -p \
         fleetprof-tests --lib -->\n",
        "<!-- end of runtimes -->\n",
    );

    fn finding(kind: &str, way: Way, collector: &str, lines: bool) -> Finding {
        Finding { runtime: "Ruby 3.1".into(), kind: kind.into(), way, collector: collector.into(), lines }
    }

    #[test]
    fn the_table_of_runtimes_is_what_was_found() {
        let path = root().join("docs/runtimes.md");
        let found = std::fs::read_to_string(&path).unwrap();
        let (before, rest) = found.split_once(TABLE.0).unwrap();
        let (_, after) = rest.split_once(TABLE.1).unwrap();
        let wanted = [before, TABLE.0, &table(&recorded().unwrap()), TABLE.1, after].concat();
        if std::env::var_os("FLEETPROF_REGENERATE").is_some() {
            std::fs::write(&path, &wanted).unwrap();
        } else {
            assert!(found == wanted, "docs/runtimes.md is stale: run make generate");
        }
    }

    #[test]
    fn a_kind_that_is_lost_loses_its_lines_or_changes_its_collector_is_worse() {
        let recorded = [finding("cpu", Way::Sidecar, "rbspy", true)];
        let worse = |found: &[Finding]| compare(&recorded, found, |_| true).worse.join("");
        assert_eq!(worse(&recorded), "");
        assert!(worse(&[]).contains("Ruby 3.1, cpu by Sidecar: not captured, where rbspy did before"));
        assert!(worse(&[finding("cpu", Way::Ephemeral, "rbspy", true)]).contains("not captured"));
        assert!(worse(&[finding("cpu", Way::Sidecar, "rbspy", false)]).contains("has no line any more"));
        assert!(worse(&[finding("cpu", Way::Sidecar, "ptrace", true)]).contains("captured by ptrace"));
        assert_eq!(compare(&recorded, &[], |_| false), Comparison::default(), "it was not tried");
    }

    #[test]
    fn what_is_better_or_new_is_told_apart_from_what_is_worse() {
        let recorded = [finding("cpu", Way::Sidecar, "rbspy", false)];
        let found =
            [finding("cpu", Way::Sidecar, "rbspy", true), finding("wall", Way::Sidecar, "rbspy", false)];
        let comparison = compare(&recorded, &found, |_| true);
        assert_eq!((comparison.worse.len(), comparison.new), (0, found.to_vec()));
    }

    #[test]
    fn the_table_has_a_row_for_each_kind_and_says_which_way_does_not_work() {
        let found = [
            finding("cpu", Way::Sidecar, "rbspy", true),
            finding("cpu", Way::Ephemeral, "ptrace", false),
            finding("wall", Way::Ephemeral, "rbspy", true),
        ];
        let rows = |found: &[Finding]| table(found).lines().skip(2).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(
            rows(&found),
            [
                "| Ruby 3.1 | cpu | `rbspy`, lines | `ptrace`, functions | not tried |",
                "| Ruby 3.1 | wall | no | `rbspy`, lines | not tried |",
            ]
        );
        let node = Finding { runtime: "Go".into(), ..finding("wall", Way::Node, "perf", true) };
        let by_node = [found.as_slice(), &[finding("wall", Way::Node, "rbspy", true), node]].concat();
        assert!(rows(&by_node)[0].ends_with("| no |") && rows(&by_node)[1].ends_with("| `rbspy`, lines |"));
        assert_eq!(rows(&by_node)[2], "| Go | wall | no | no | `perf`, lines |");
    }
}
