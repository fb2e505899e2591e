//! What can be read of a session? A table of views: router, discovery, OpenAPI, metrics and the guide derive
//! from it.
//!
//! A new view is one entry in [`VIEWS`] and its name in [`fleetprof_crds::names::VIEWS`]. Tests name what else
//! must follow: the chart's roles, and the guide, which `FLEETPROF_REGENERATE=1` rewrites.

use bytes::Bytes;
use fleetprof_crds::ProfileKind;

use super::params::{Param, Params, Values};
use super::render;
use super::status::Refusal;
use crate::results::Load;

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
    /// Made from the stacks of the selected profiles, merged without labels, which takes less memory: reading
    /// [`SESSION`].
    Stacks(Render),
    /// The same of two sessions: also reading [`BASE_SESSION`], which [`BASE`] names.
    Comparison(Render),
    /// The verdict on two sessions, from the captures of single pods.
    Verdict,
}

/// Makes an answer from stacks, which it loads by their number.
pub(super) type Render = fn(Load<'_>, &Question) -> Result<Rendered, Refusal>;

/// The reading of the session that is asked for.
pub(super) const SESSION: usize = 0;
/// The reading of the session that it is compared with.
pub(super) const BASE_SESSION: usize = 1;

/// What is asked of a view.
#[derive(Clone, Debug)]
pub(super) struct Question {
    /// Namespace of the session.
    pub(super) namespace: String,
    /// Name of the session.
    pub(super) name: String,
    /// Name of the session that it is compared with, where a view compares.
    pub(super) base: Option<String>,
    /// The kind of profile.
    pub(super) kind: ProfileKind,
    /// The query.
    pub(super) params: Params,
    /// Whether the client is a browser, which wants a page.
    pub(super) html: bool,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rendered {
    /// Its `Content-Type`; one of the view's media types, with parameters.
    pub(super) content_type: &'static str,
    /// For files: how the name ends that a browser saves it under.
    pub(super) extension: Option<&'static str>,
    /// For pages: their `Content-Security-Policy`.
    pub(super) policy: Option<&'static str>,
    /// Its body.
    pub(super) body: Bytes,
}

impl View {
    /// All parameters that it takes.
    pub(super) fn all_params(&self) -> impl Iterator<Item = &'static Param> + Clone + use<> {
        SELECT.iter().chain(self.params)
    }

    /// Where the answer to these parameters comes from.
    pub(super) fn content(&self, params: &Params) -> Content {
        match self.content {
            Content::File if params.word(&PGO) == "true" => Content::Stacks(render::pgo),
            Content::Comparison(_) if params.word(&TEST) == "true" => Content::Verdict,
            content => content,
        }
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

/// Only the samples of processes of one name.
pub(super) const PROCESS: Param = Param {
    name: "process",
    about: "only the samples of processes of this name",
    values: Values::Text("NAME"),
};

/// Which profiles of a session are read; every view takes these.
pub(super) const SELECT: &[Param] = &[POD, TYPE, PROCESS];

/// All views, in the order in which documents list them.
pub(super) const VIEWS: &[&View] = &[&PROFILE, &TOP, &FLAMEGRAPH, &FOLDED, &DIFF];

const PROFILE: View = View {
    name: "profile",
    media: &["application/octet-stream"],
    about: "all profiles of the session, merged into one gzipped pprof file",
    params: &[PGO],
    content: Content::File,
};

const TOP: View = View {
    name: "top",
    media: &["text/plain", "application/json"],
    about: "the hottest functions of the session, as a table",
    params: &[ROWS, FORMAT, IDLE],
    content: Content::Stacks(render::table),
};

const FLAMEGRAPH: View = View {
    name: "flamegraph",
    media: &["application/json", "text/html"],
    about: "the call tree of the session, as columns or as a page for browsers",
    params: &[NODES, ROOT, FLAMEGRAPH_FORMAT, IDLE],
    content: Content::Stacks(render::flamegraph),
};

const FOLDED: View = View {
    name: "folded",
    media: &["text/plain"],
    about: "the stacks of the session as folded text, for other flame graph tools",
    params: &[IDLE],
    content: Content::Stacks(render::folded),
};

const DIFF: View = View {
    name: "diff",
    media: &["text/plain", "application/json", "text/html"],
    about: "what changed from another session to this one, as a table or a call tree",
    params: &[BASE, BASE_POD, BASIS, TEST, ROWS, ORDER, DIFF_FORMAT, NODES, ROOT, IDLE],
    content: Content::Comparison(render::diff),
};

/// Whether a file is made for the Go compiler.
pub(super) const PGO: Param = Param {
    name: "pgo",
    about: "with true, a CPU profile without labels for profile-guided optimization of Go programs",
    values: Values::Words(&["false", "true"]),
};

/// How many functions a table has.
pub(super) const ROWS: Param = Param {
    name: "n",
    about: "number of functions, 1 to 1000",
    values: Values::Number { default: 20, most: 1_000 },
};

/// Which changes a table of a comparison begins with.
pub(super) const ORDER: Param = Param {
    name: "order",
    about: "which functions the table begins with: those whose own values changed most, or those whose totals did",
    values: Values::Words(&["self", "total"]),
};

/// What a table comes as.
pub(super) const FORMAT: Param =
    Param { name: "format", about: "output format", values: Values::Words(&["text", "json"]) };

/// What a call tree comes as.
pub(super) const FLAMEGRAPH_FORMAT: Param = Param {
    name: "format",
    about: "output format, by default html for browsers",
    values: Values::Words(&["json", "html"]),
};

/// What a comparison comes as.
pub(super) const DIFF_FORMAT: Param = Param {
    name: "format",
    about: "output format, by default html for browsers; json is the table, flamegraph the columns of a call \
            tree",
    values: Values::Words(&["text", "json", "flamegraph", "html"]),
};

/// Most nodes of a call tree.
pub(super) const NODES: Param = Param {
    name: "nodes",
    about: "most nodes of a call tree, 1 to 400000; what lighter ones used counts as pruned",
    values: Values::Number { default: 100_000, most: 400_000 },
};

/// Which part of a call tree.
pub(super) const ROOT: Param = Param {
    name: "root",
    about: "only the part of a call tree below this node, and all of it: for each level, which child, 0 \
            being the heaviest",
    values: Values::Path("0.2"),
};

/// What a session is compared with.
pub(super) const BASE: Param = Param {
    name: "base",
    about: "the session to compare with; by default, for sessions that captured two revisions, the old one, \
            and for other sessions of rollouts, the last one of another revision",
    values: Values::Text("NAME"),
};

/// Which pod of that session.
pub(super) const BASE_POD: Param = Param {
    name: "basePod",
    about: "only the profiles of this pod of that session",
    values: Values::Text("NAME"),
};

/// How sessions are compared.
pub(super) const BASIS: Param = Param {
    name: "basis",
    about: "compare values by pod and second captured, shares of the totals, or values as they are; auto is \
            perPodSecond where that is known, else share",
    values: Values::Words(&["auto", "perPodSecond", "share", "absolute"]),
};

/// Whether a comparison is a test of the revisions.
pub(super) const TEST: Param = Param {
    name: "test",
    about: "with true, a verdict as JSON: is this session slower than the other one, in which functions, and how \
            sure is that? Of CPU profiles; with format=text as a sentence",
    values: Values::Words(&["false", "true"]),
};

/// Whether a view of wall time shows the stacks of threads that have nothing to do.
pub(super) const IDLE: Param = Param {
    name: "idle",
    about: "with true, idle threads of a wall profile are shown with their stacks, not as [idle]",
    values: Values::Words(&["false", "true"]),
};

impl Rendered {
    /// A gzipped pprof file.
    pub(super) const fn pprof(body: Bytes) -> Self {
        let extension = Some("pb.gz");
        Self { content_type: "application/octet-stream", extension, policy: None, body }
    }

    /// Plain text.
    pub(super) fn text(text: String) -> Self {
        Self { content_type: "text/plain; charset=utf-8", extension: None, policy: None, body: text.into() }
    }
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
        let rules = roles.split("apiGroups: [data.fleetprof.dev]\n").skip(1);
        let rules: Vec<&str> = rules.filter(|rule| !rule.starts_with("    resources: [symbols")).collect();
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
