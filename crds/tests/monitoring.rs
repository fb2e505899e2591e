//! Do the chart's alerts and dashboards name metrics, labels and values that there are? Does each alert have a
//! runbook and tests, and each panel what a reader needs? `tests/chart.sh` has promtool run the tests of the
//! alerts, and `crds/tests/documents.rs` holds the tables of metrics in `docs/operate.md` to the sources.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value;

/// Metrics of others that alerts may use, with their labels.
const OTHERS: &[(&str, &[&str])] = &[("apiserver_admission_webhook_fail_open_count", &["name"])];
/// Labels that Prometheus adds to what it scrapes; `cluster` is an external one.
const ADDED: &[&str] = &["cluster", "namespace", "pod"];
/// The words of PromQL that our expressions use.
const WORDS: &[&str] = &[
    "absent",
    "by",
    "count",
    "histogram_quantile",
    "increase",
    "max",
    "min",
    "offset",
    "or",
    "rate",
    "sum",
    "unless",
    "vector",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn yaml(path: &str) -> Value {
    serde_yaml::from_str(&read(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// The list in this field; empty without one.
fn list<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value[field].as_array().map_or(&[], Vec::as_slice)
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

/// What is known of a metric.
#[derive(Default)]
struct Metric {
    histogram: bool,
    /// The values of each label; none if they are not listed.
    labels: BTreeMap<String, BTreeSet<String>>,
}

/// The words in backticks.
fn quoted(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Labels of a cell such as "`a`, `b`: `x`, `y`; `c`", where `b` is one of `x` and `y`.
fn labels(cell: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut found = BTreeMap::new();
    for group in cell.split(';') {
        let (names, values) = group.split_once(':').unwrap_or((group, ""));
        let listed = if values.contains("such as") { Vec::new() } else { quoted(values) };
        let names = quoted(names);
        let last = names.len().saturating_sub(1);
        let of = |n| if n == last { listed.iter().cloned().collect() } else { BTreeSet::new() };
        found.extend(names.into_iter().enumerate().map(|(n, name)| (name, of(n))));
    }
    found
}

/// The metrics in the tables of docs/operate.md, by the name that a scrape shows.
fn metrics() -> BTreeMap<String, Metric> {
    let mut found = BTreeMap::new();
    for line in read("docs/operate.md").lines().filter(|line| line.starts_with("| `fleetprof_")) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        for name in quoted(cells[1]) {
            let histogram = cells[3].starts_with("histogram");
            found.entry(name).or_insert(Metric { histogram, labels: labels(cells[2]) });
        }
    }
    for (name, labels) in OTHERS {
        let labels = labels.iter().map(|label| ((*label).to_owned(), BTreeSet::new())).collect();
        found.insert((*name).to_owned(), Metric { histogram: false, labels });
    }
    found
}

/// A metric in an expression: its name and matchers (label, value).
type Selector = (String, Vec<(String, String)>);

/// The metrics of an expression, and the labels that it groups by.
fn parse(expression: &str) -> (Vec<Selector>, BTreeSet<String>) {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let (mut selectors, mut groups) = (Vec::<Selector>::new(), BTreeSet::new());
    let mut rest = expression;
    while let Some(first) = rest.chars().next() {
        let word = rest.split(|c| !is_word(c)).next().unwrap();
        let inside = |close| rest[1..].split_once(close).unwrap_or_else(|| panic!("{expression}"));
        if word == "by" {
            let (list, after) = rest.split_once('(').unwrap().1.split_once(')').unwrap();
            groups.extend(list.split(',').map(|label| label.trim().to_owned()));
            rest = after;
        } else if first == '{' {
            let (list, after) = inside('}');
            selectors.last_mut().unwrap().1 = list.split(", ").map(matcher).collect();
            rest = after;
        } else if first == '[' {
            rest = inside(']').1;
        } else if word.is_empty() {
            rest = &rest[first.len_utf8()..];
        } else {
            if !first.is_ascii_digit() && !WORDS.contains(&word) {
                selectors.push((word.to_owned(), Vec::new()));
            }
            rest = &rest[word.len()..];
        }
    }
    (selectors, groups)
}

/// Label and value of `label="value"`, whatever the operator.
fn matcher(text: &str) -> (String, String) {
    let (label, value) = text.split_once('"').unwrap_or_else(|| panic!("matcher {text}"));
    (label.trim_end_matches(['=', '!', '~']).to_owned(), value.trim_end_matches('"').to_owned())
}

/// What is wrong with the metrics and labels of an expression.
fn wrong(expression: &str, metrics: &BTreeMap<String, Metric>) -> Vec<String> {
    let (selectors, groups) = parse(expression);
    let mut wrong = Vec::new();
    let mut known: BTreeSet<&str> = ADDED.iter().copied().collect();
    for (name, matchers) in &selectors {
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|ending| name.strip_suffix(ending));
        let histogram = base.and_then(|base| metrics.get(base)).filter(|metric| metric.histogram);
        let Some(metric) = histogram.or_else(|| metrics.get(name).filter(|metric| !metric.histogram)) else {
            wrong.push(format!("there is no metric {name}"));
            continue;
        };
        known.extend(metric.labels.keys().map(String::as_str));
        known.extend(histogram.map(|_| "le"));
        for (label, value) in matchers.iter().filter(|(label, _)| !ADDED.contains(&label.as_str())) {
            match metric.labels.get(label) {
                None => wrong.push(format!("{name} has no label {label}")),
                Some(values) if values.is_empty() => {}
                Some(values) => wrong.extend(
                    value
                        .split('|')
                        .filter(|v| !values.contains(*v))
                        .map(|v| format!("{label} is never {v}")),
                ),
            }
        }
    }
    wrong.extend(groups.iter().filter(|g| !known.contains(g.as_str())).map(|g| format!("no label {g}")));
    wrong
}

/// The alerts of the chart.
fn alerts() -> Vec<Value> {
    let rules = yaml("charts/fleetprof/files/rules.yaml");
    list(&rules, "groups").iter().flat_map(|group| list(group, "rules")).cloned().collect()
}

/// The dashboards of the chart, by file.
fn dashboards() -> Vec<(PathBuf, Value)> {
    let files = std::fs::read_dir(root().join("charts/fleetprof/files/dashboards")).unwrap();
    let paths = files.map(|file| file.unwrap().path());
    paths.map(|path| (path.clone(), serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap())).collect()
}

/// The panels of a dashboard that show something.
fn panels(dashboard: &Value) -> impl Iterator<Item = &Value> {
    list(dashboard, "panels").iter().filter(|panel| panel["type"] != "row")
}

#[test]
fn a_wrong_metric_label_or_value_is_found() {
    let metrics = metrics();
    assert!(metrics.len() >= 28, "{} metrics", metrics.len());
    let cases = [
        ("sum by (phase) (rate(fleetprof_sessions_total{trigger=\"CPU\"}[5m])) > 0.5 or vector(0)", None),
        ("histogram_quantile(0.9, sum by (le) (rate(fleetprof_session_start_seconds_bucket[1m])))", None),
        ("fleetprof_slices_total{namespace=~\"$namespace\", outcome=~\"full|failed\"} offset 5m", None),
        ("rate(fleetprof_sessions[5m])", Some("there is no metric fleetprof_sessions")),
        (
            "rate(fleetprof_samples_total_bucket[5m])",
            Some("there is no metric fleetprof_samples_total_bucket"),
        ),
        ("fleetprof_session_start_seconds", Some("there is no metric fleetprof_session_start_seconds")),
        ("sum(go_goroutines)", Some("there is no metric go_goroutines")),
        ("fleetprof_agents{node=\"a\"}", Some("fleetprof_agents has no label node")),
        ("fleetprof_slices_total{outcome=~\"full|lost\"}", Some("outcome is never lost")),
        ("sum by (pod, phase) (fleetprof_agents)", Some("no label phase")),
    ];
    for (expression, wanted) in cases {
        assert_eq!(wrong(expression, &metrics), wanted.into_iter().collect::<Vec<_>>(), "{expression}");
    }
}

#[test]
fn alerts_and_dashboards_name_what_there_is() {
    let metrics = metrics();
    let alerts = alerts().into_iter().map(|alert| (text(&alert, "alert").to_owned(), alert));
    let mut expressions: Vec<_> =
        alerts.map(|(name, alert)| (name, text(&alert, "expr").to_owned())).collect();
    for (path, dashboard) in dashboards() {
        for panel in panels(&dashboard) {
            let at = format!("{}, panel {}", path.display(), text(panel, "title"));
            let targets = list(panel, "targets").iter().map(|target| text(target, "expr").to_owned());
            expressions.extend(targets.map(|expression| (at.clone(), expression)));
        }
    }
    assert!(expressions.len() > 50, "{} expressions", expressions.len());
    for (at, expression) in expressions {
        assert_eq!(wrong(&expression, &metrics), Vec::<String>::new(), "{at}: {expression}");
        let counts = expression.contains("_total{") || expression.contains("_bucket");
        let rated = expression.contains("rate(") || expression.contains("increase(");
        assert!(!counts || rated, "{at}: a counter alone says nothing: {expression}");
    }
}

#[test]
fn every_alert_has_a_severity_a_text_and_a_runbook() {
    let runbooks = read("docs/runbooks.md");
    let chapters: BTreeSet<&str> = runbooks.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    let alerts = alerts();
    for alert in &alerts {
        let (name, notes) = (text(alert, "alert"), &alert["annotations"]);
        let severity = text(&alert["labels"], "severity");
        assert!(["critical", "warning", "info"].contains(&severity), "{name}: severity {severity}");
        assert!(text(notes, "summary").ends_with('.') && !text(notes, "summary").contains('$'), "{name}");
        assert!(text(notes, "description").ends_with('.'), "{name}");
        let anchor = format!("docs/runbooks.md#{}", name.to_lowercase());
        assert_eq!(text(notes, "runbook_url"), anchor);
        let (_, chapter) = runbooks.split_once(&format!("## {name}\n\n")).unwrap_or_else(|| panic!("{name}"));
        assert!(chapter.to_lowercase().starts_with(&format!("*{severity}.*")), "{name} is {severity}");
    }
    assert_eq!(alerts.iter().map(|alert| text(alert, "alert")).collect::<BTreeSet<_>>(), chapters);
}

#[test]
fn every_alert_is_tested_to_fire_and_to_be_silent() {
    let tests = yaml("tests/alerts.yaml");
    let cases: Vec<&Value> =
        list(&tests, "tests").iter().flat_map(|test| list(test, "alert_rule_test")).collect();
    for alert in alerts() {
        let name = text(&alert, "alert");
        let of: Vec<_> = cases.iter().filter(|case| case["alertname"] == name).collect();
        for silent in [true, false] {
            let there = of.iter().any(|case| list(case, "exp_alerts").is_empty() == silent);
            assert!(there, "tests/alerts.yaml has no case in which {name} is silent: {silent}");
        }
    }
}

/// The label names in `{{…}}` of a legend.
fn legend_labels(legend: &str) -> Vec<&str> {
    legend.split("{{").skip(1).filter_map(|rest| rest.split("}}").next()).collect()
}

#[test]
fn every_panel_tells_what_it_shows_and_follows_the_variables() {
    for (path, dashboard) in dashboards() {
        for panel in panels(&dashboard) {
            let at = format!("{}, panel {}", path.display(), text(panel, "title"));
            assert!(!text(panel, "title").is_empty() && text(panel, "description").ends_with('.'), "{at}");
            assert!(!text(&panel["fieldConfig"]["defaults"], "unit").is_empty(), "{at} has no unit");
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{at}");
            for target in list(panel, "targets") {
                assert_eq!(target["datasource"]["uid"], "${datasource}", "{at}");
                let (selectors, groups) = parse(text(target, "expr"));
                for (name, matchers) in selectors {
                    for label in ["cluster", "namespace"] {
                        let wanted = (label.to_owned(), format!("${label}"));
                        assert!(matchers.contains(&wanted), "{at}: {name} has no matcher for ${label}");
                    }
                }
                let legend = text(target, "legendFormat");
                assert!(!legend.is_empty(), "{at} has no legend");
                let shown: BTreeSet<_> = legend_labels(legend).into_iter().map(str::to_owned).collect();
                let told_apart = groups.into_iter().filter(|label| label != "le").collect();
                assert!(panel["type"] == "stat" || shown == told_apart, "{at}: legend {legend}");
            }
        }
    }
}

#[test]
fn dashboards_can_be_loaded_by_the_sidecar_and_panels_do_not_overlap() {
    for (path, dashboard) in dashboards() {
        let at = path.display();
        // Files exported for sharing ask for a data source, and show nothing if nobody answers.
        assert!(dashboard.get("__inputs").is_none() && dashboard.get("id").is_none(), "{at}");
        assert!((1..=40).contains(&text(&dashboard, "uid").len()), "{at}");
        let variables = list(&dashboard["templating"], "list");
        let names: Vec<&str> = variables.iter().map(|variable| text(variable, "name")).collect();
        assert_eq!(names, ["datasource", "cluster", "namespace"], "{at}");
        let (mut ids, mut cells) = (BTreeSet::new(), BTreeSet::new());
        for panel in list(&dashboard, "panels") {
            assert!(ids.insert(panel["id"].as_u64()), "{at}: two panels have the id {}", panel["id"]);
            let [x, y, w, h] = ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().unwrap());
            assert!(x + w <= 24, "{at}: {} is too wide", panel["title"]);
            for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
                assert!(cells.insert(cell), "{at}: {} lies over another panel", panel["title"]);
            }
        }
    }
}
