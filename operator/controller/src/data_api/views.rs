//! What can be read of a session? A table of views: router, discovery, OpenAPI, metrics and the guide derive
//! from it.
//!
//! A new view is one entry in [`VIEWS`] and its name in [`fleetprof_crds::names::VIEWS`]. Tests name what else
//! must follow: the chart's roles, and the guide, which `FLEETPROF_REGENERATE=1` rewrites.

use bytes::Bytes;
use fleetprof_crds::names::{DATA_GROUP, VERSION};
use fleetprof_profile::{Profile, default_value_index, render_top, top};
use serde_json::json;

use super::params::{Param, Params, Values};
use super::status::Refusal;

/// A subresource of a session, read with `get`.
#[derive(Debug)]
pub(super) struct View {
    /// The last part of its path, and its name in roles, metrics and `status.links`.
    pub(super) name: &'static str,
    /// The media types that it answers with, the default first.
    pub(super) media: &'static [&'static str],
    /// What it answers, for documents.
    pub(super) about: &'static str,
    /// What can be asked of it beside [`SELECT`].
    pub(super) params: &'static [Param],
    /// Where the answer comes from.
    pub(super) content: Content,
}

/// Where the answer of a view comes from.
#[derive(Clone, Copy, Debug)]
pub(super) enum Content {
    /// The selected profiles with all labels, as one gzipped pprof file; a single one as it is stored.
    File,
    /// Made from the stacks of the selected profiles, merged without labels, which takes less memory.
    Stacks(fn(&Profile, &Question) -> Result<Rendered, Refusal>),
}

/// What is asked of a view.
#[derive(Clone, Debug)]
pub(super) struct Question {
    /// Namespace of the session.
    pub(super) namespace: String,
    /// Name of the session.
    pub(super) name: String,
    /// The query.
    pub(super) params: Params,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rendered {
    /// Its `Content-Type`; one of the view's media types, with parameters.
    pub(super) content_type: &'static str,
    /// For files: how the name ends that a browser saves it under.
    pub(super) extension: Option<&'static str>,
    /// Its body.
    pub(super) body: Bytes,
}

impl View {
    /// All parameters that it takes.
    pub(super) fn all_params(&self) -> impl Iterator<Item = &'static Param> + Clone + use<> {
        SELECT.iter().chain(self.params)
    }

    /// The view of this name.
    pub(super) fn find(name: &str) -> Option<&'static Self> {
        VIEWS.iter().copied().find(|view| view.name == name)
    }
}

/// Only the profiles of one pod.
pub(super) const POD: Param =
    Param { name: "pod", about: "only the profiles of this pod", values: Values::Text("NAME") };

/// Only the profiles of one kind. A session's first kind is the default, so kinds are never mixed.
pub(super) const TYPE: Param = Param {
    name: "type",
    about: "the kind of profile, by default the session's first",
    values: Values::Text("cpu"),
};

/// Which profiles of a session are read; every view takes these.
pub(super) const SELECT: &[Param] = &[POD, TYPE];

/// All views, in the order in which documents list them.
pub(super) const VIEWS: &[&View] = &[&PROFILE, &TOP];

const PROFILE: View = View {
    name: "profile",
    media: &["application/octet-stream"],
    about: "all profiles of the session, merged into one gzipped pprof file",
    params: &[],
    content: Content::File,
};

const TOP: View = View {
    name: "top",
    media: &["text/plain", "application/json"],
    about: "the hottest functions of the session, as a table",
    params: &[ROWS, FORMAT, IDLE],
    content: Content::Stacks(table),
};

const ROWS: Param = Param {
    name: "n",
    about: "number of functions, 1 to 1000",
    values: Values::Number { default: 20, most: 1_000 },
};

const FORMAT: Param =
    Param { name: "format", about: "output format", values: Values::Words(&["text", "json"]) };

/// Whether a view of wall time shows the stacks of threads that have nothing to do.
pub(super) const IDLE: Param = Param {
    name: "idle",
    about: "with true, idle threads of a wall profile are shown with their stacks, not as [idle]",
    values: Values::Words(&["false", "true"]),
};

impl Rendered {
    /// A gzipped pprof file.
    pub(super) const fn pprof(body: Bytes) -> Self {
        Self { content_type: "application/octet-stream", extension: Some("pb.gz"), body }
    }

    fn text(text: String) -> Self {
        Self { content_type: "text/plain; charset=utf-8", extension: None, body: text.into() }
    }

    /// An object of this API: `fields` with kind, version, and the session's name.
    fn object(kind: &str, question: &Question, mut fields: serde_json::Value) -> Self {
        fields["kind"] = json!(kind);
        fields["apiVersion"] = json!(format!("{DATA_GROUP}/{VERSION}"));
        fields["metadata"] = json!({"namespace": question.namespace, "name": question.name});
        Self { content_type: "application/json", extension: None, body: fields.to_string().into() }
    }
}

fn table(profile: &Profile, question: &Question) -> Result<Rendered, Refusal> {
    let rows = question.params.number(&ROWS);
    let top = top(profile, default_value_index(profile), rows);
    Ok(match question.params.word(&FORMAT) {
        "json" => Rendered::object("ProfileTop", question, json!(top)),
        _ => Rendered::text(render_top(&top)),
    })
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use fleetprof_crds::names;

    use super::*;

    fn names() -> Vec<&'static str> {
        VIEWS.iter().map(|view| view.name).collect()
    }

    fn root(path: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
    }

    fn read(path: &str) -> String {
        std::fs::read_to_string(root(path)).unwrap()
    }

    #[test]
    fn sessions_link_to_every_view() {
        assert_eq!(names::VIEWS.to_vec(), names(), "crds/src/names.rs");
    }

    #[test]
    fn the_charts_roles_grant_every_view() {
        let subresources: Vec<String> =
            names().iter().map(|name| format!("profilesessions/{name}")).collect();
        let list = format!("{{{{- define \"fleetprof.views\" -}}}}\n[{}]\n", subresources.join(", "));
        assert!(
            read("charts/fleetprof/templates/_helpers.tpl").contains(&list),
            "_helpers.tpl lacks: {list}"
        );

        let roles = read("charts/fleetprof/templates/access/roles.yaml");
        let rules: Vec<&str> = roles.split("apiGroups: [data.fleetprof.dev]\n").skip(1).collect();
        assert_eq!(rules.len(), 3, "viewer, runner and admin");
        for rule in rules {
            let granted = "    resources: {{ include \"fleetprof.views\" . }}\n    verbs: [get]\n";
            assert!(rule.starts_with(granted), "roles.yaml: {rule}");
        }
    }

    /// What stands before and behind the table in docs/reference.md.
    const TABLE: (&str, &str) = (
        "<!-- views: generated from operator/controller/src/data_api/views.rs; FLEETPROF_REGENERATE=1 cargo \
         test -p fleetprof-operator --lib views -->\n",
        "<!-- end of views -->\n",
    );

    fn table() -> String {
        let row = |view: &&View| {
            let params: Vec<String> =
                view.all_params().map(|param| format!("`{}`: {}", param.usage(), param.about)).collect();
            format!("| `/{}` | {} | {} |\n", view.name, view.about, params.join("; "))
        };
        let rows: String = VIEWS.iter().map(row).collect();
        format!("| path | answer | parameters |\n|---|---|---|\n{rows}")
    }

    #[test]
    fn the_guide_lists_every_view() {
        let found = read("docs/reference.md");
        let (before, rest) = found.split_once(TABLE.0).unwrap();
        let (_, after) = rest.split_once(TABLE.1).unwrap();
        let wanted = [before, TABLE.0, &table(), TABLE.1, after].concat();
        if std::env::var_os("FLEETPROF_REGENERATE").is_some() {
            std::fs::write(root("docs/reference.md"), wanted).unwrap();
        } else {
            let how = "FLEETPROF_REGENERATE=1 cargo test -p fleetprof-operator --lib views";
            assert!(found == wanted, "docs/reference.md is stale: run {how}");
        }
    }

    /// A view's path must not collide with another's, and a parameter must mean one thing in a view.
    #[test]
    fn names_are_unique() {
        let unique = |mut names: Vec<&str>| {
            let all = names.len();
            names.sort_unstable();
            names.dedup();
            names.len() == all
        };
        assert!(unique(names()), "{:?}", names());
        for view in VIEWS {
            assert!(unique(view.all_params().map(|param| param.name).collect()), "{}", view.name);
        }
    }
}
