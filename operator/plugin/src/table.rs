//! How are tables printed? With the columns that the API server sends, so that those of the CRDs are the only
//! ones; in kubectl's manner: three spaces apart, no lines.

use fleetprof_core::text::is_unprintable;
use serde_json::Value;

/// What asks the API server for a table.
pub(crate) const ACCEPT: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";
/// Between two columns.
const GAP: usize = 3;

/// Rows of text under a heading. Widths only grow, so that rows of a watch stay under their heading.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Table {
    heading: Vec<String>,
    widths: Vec<usize>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these columns.
    pub(crate) fn new(heading: &[&str]) -> Self {
        let heading: Vec<String> = heading.iter().map(|name| name.to_uppercase()).collect();
        Self { widths: heading.iter().map(|name| name.chars().count()).collect(), heading, rows: Vec::new() }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        let cells: Vec<String> = cells.iter().map(|cell| plain(cell)).collect();
        for (width, cell) in self.widths.iter_mut().zip(&cells) {
            *width = (*width).max(cell.chars().count());
        }
        self.rows.push(cells);
    }

    /// Whether there are no rows.
    pub(crate) const fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The heading and all rows.
    pub(crate) fn text(&self) -> String {
        format!("{}{}", self.line(&self.heading), self.body())
    }

    /// The rows alone.
    pub(crate) fn body(&self) -> String {
        self.rows.iter().map(|row| self.line(row)).collect()
    }

    /// The rows as text, which are then forgotten.
    pub(crate) fn take(&mut self) -> String {
        let text = self.body();
        self.rows.clear();
        text
    }

    fn line(&self, cells: &[String]) -> String {
        let mut line = String::new();
        for (cell, width) in cells.iter().zip(&self.widths) {
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', width + GAP - cell.chars().count().min(*width)));
        }
        format!("{}\n", line.trim_end())
    }
}

/// Text that cannot move the cursor or break the row: what others wrote may hold anything.
fn plain(cell: &str) -> String {
    cell.chars().map(|c| if is_unprintable(c) { ' ' } else { c }).collect()
}

/// The columns of a table of the API server that are shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Columns {
    shown: Vec<(usize, String)>,
    namespaces: bool,
}

impl Columns {
    /// Those of `table`: with priority 0, or all; with the namespace of each row if it is asked for.
    pub(crate) fn of(table: &Value, wide: bool, namespaces: bool) -> Self {
        let all = table["columnDefinitions"].as_array().into_iter().flatten().enumerate();
        let shown = all.filter(|(_, column)| wide || column["priority"].as_i64().unwrap_or_default() == 0);
        let name = |column: &Value| column["name"].as_str().unwrap_or_default().to_owned();
        Self { shown: shown.map(|(at, column)| (at, name(column))).collect(), namespaces }
    }

    /// An empty table with these columns.
    pub(crate) fn table(&self) -> Table {
        let mut heading: Vec<&str> = self.shown.iter().map(|(_, name)| name.as_str()).collect();
        if self.namespaces {
            heading.insert(0, "namespace");
        }
        Table::new(&heading)
    }

    /// The cells of a row.
    pub(crate) fn cells(&self, row: &Value) -> Vec<String> {
        let mut cells: Vec<String> = self.shown.iter().map(|(at, _)| cell(&row["cells"][*at])).collect();
        if self.namespaces {
            let namespace = row["object"]["metadata"]["namespace"].as_str();
            cells.insert(0, namespace.unwrap_or_default().to_owned());
        }
        cells
    }
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_columns_of_the_api_server_are_shown_as_kubectl_does() {
        let table = json!({"columnDefinitions": [
            {"name": "Name", "priority": 0}, {"name": "Samples", "priority": 0}, {"name": "Message", "priority": 1}]});
        let row = json!({"cells": ["now-1", 42, "all good"], "object": {"metadata": {"namespace": "shop"}}});
        let text = |wide, namespaces| {
            let columns = Columns::of(&table, wide, namespaces);
            let mut out = columns.table();
            out.row(columns.cells(&row));
            out.text()
        };
        assert_eq!(text(false, false), "NAME    SAMPLES\nnow-1   42\n");
        assert_eq!(
            text(true, true),
            "NAMESPACE   NAME    SAMPLES   MESSAGE\nshop        now-1   42        all good\n"
        );
    }

    #[test]
    fn later_rows_stay_under_their_heading_and_cannot_move_the_cursor() {
        let mut table = Table::new(&["a", "b"]);
        table.row(vec!["long".into(), "1".into()]);
        assert_eq!(table.take(), "long   1\n");
        table.row(vec!["x".into(), "\u{1b}[2J\u{202e}\n".into()]);
        assert_eq!(table.take(), "x       [2J\n");
        assert!(table.is_empty());
        assert_eq!(cell(&json!(null)), "");
    }
}
