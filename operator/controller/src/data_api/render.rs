//! What do views make of stacks?

use bytes::Bytes;
use fleetprof_crds::ProfileKind;
use fleetprof_crds::names::{DATA_GROUP, VERSION};
use fleetprof_profile::{
    Basis, BasisError, CallTree, Differ, Grower, Order, Side, Totals, TreeLimits, default_value_index,
    encode, render_diff, render_top, top,
};
use serde::Serialize;
use serde_json::{Value, json};

use super::bounded::{self, LARGEST};
use super::page::page;
use super::status::Refusal;
use super::views::{
    BASE_SESSION, BASIS, DIFF_FORMAT, FLAMEGRAPH_FORMAT, FORMAT, NODES, ORDER, Question, ROOT, ROWS,
    Rendered, SESSION,
};
use crate::results::{Load, Stacks};

/// An object of this API.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Object<'a, T> {
    kind: &'static str,
    api_version: String,
    metadata: Value,
    #[serde(flatten)]
    fields: &'a T,
}

impl<'a, T: Serialize> Object<'a, T> {
    /// `fields` with kind, version, and the names of the session and of what it is compared with.
    pub(super) fn new(kind: &'static str, question: &Question, fields: &'a T) -> Self {
        let mut metadata = json!({"namespace": question.namespace, "name": question.name});
        if let Some(base) = &question.base {
            metadata["base"] = json!(base);
        }
        Self { kind, api_version: format!("{DATA_GROUP}/{VERSION}"), metadata, fields }
    }

    pub(super) fn json(&self) -> Result<Rendered, Refusal> {
        let body = bounded::json(self)?.into();
        Ok(Rendered { content_type: "application/json", extension: None, policy: None, body })
    }
}

/// The hottest functions.
pub(super) fn table(load: Load<'_>, question: &Question) -> Result<Rendered, Refusal> {
    let profile = load(SESSION)?.profile;
    let top = top(&profile, default_value_index(&profile), question.params.number(&ROWS));
    match question.params.word(&FORMAT) {
        "json" => Object::new("ProfileTop", question, &top).json(),
        _ => Ok(Rendered::text(render_top(&top))),
    }
}

/// The call tree.
pub(super) fn flamegraph(load: Load<'_>, question: &Question) -> Result<Rendered, Refusal> {
    let mut grower = Grower::new(TreeLimits::default());
    grow(&mut grower, Side::After, load(SESSION)?);
    let html = question.html || question.params.word(&FLAMEGRAPH_FORMAT) == "html";
    columns(grower.finish(), None, html, question)
}

/// The stacks as text.
pub(super) fn folded(load: Load<'_>, _: &Question) -> Result<Rendered, Refusal> {
    let mut grower = Grower::new(TreeLimits::default());
    grow(&mut grower, Side::After, load(SESSION)?);
    grower.finish().fold(LARGEST).map(Rendered::text).map_err(|_| bounded::too_large())
}

/// What changed.
pub(super) fn diff(load: Load<'_>, question: &Question) -> Result<Rendered, Refusal> {
    let format = if question.html { "html" } else { question.params.word(&DIFF_FORMAT) };
    if let "flamegraph" | "html" = format {
        let mut grower = Grower::new(TreeLimits::default());
        grow(&mut grower, Side::Base, load(BASE_SESSION)?);
        grow(&mut grower, Side::After, load(SESSION)?);
        let tree = grower.finish();
        let totals = |side| tree.totals(side).unwrap_or_default();
        let basis = basis(question, totals(Side::Base), totals(Side::After))?;
        return columns(tree, Some(basis), format == "html", question);
    }
    let mut differ = Differ::default();
    for (side, number) in [(Side::Base, BASE_SESSION), (Side::After, SESSION)] {
        let Stacks { profile, pod_nanos } = load(number)?;
        differ.add(side, &profile, default_value_index(&profile), pod_nanos);
    }
    let basis = basis(question, differ.totals(Side::Base), differ.totals(Side::After))?;
    let order = match question.params.word(&ORDER) {
        "total" => Order::Total,
        _ => Order::Own,
    };
    let diff = differ.finish(basis, order, question.params.number(&ROWS));
    match format {
        "json" => Object::new("ProfileDiff", question, &diff).json(),
        _ => Ok(Rendered::text(render_diff(&diff))),
    }
}

/// A CPU profile for the Go compiler.
pub(super) fn pgo(load: Load<'_>, question: &Question) -> Result<Rendered, Refusal> {
    if question.kind != ProfileKind::Cpu {
        return Err(Refusal::bad_request(format!(
            "pgo=true needs a CPU profile, and {} was asked for: use type=cpu",
            question.kind
        )));
    }
    let profile = load(SESSION)?.profile;
    if profile.function.iter().all(|function| function.start_line <= 0) {
        return Err(Refusal::not_found(
            "the profile does not say on which line functions begin, which the Go compiler needs: profile a \
             Go program that serves net/http/pprof",
        ));
    }
    // A profile is always encoded; that it is written to memory cannot fail.
    let file = encode(&profile).map_err(|error| Refusal::unavailable(format!("{error}: try again")))?;
    Ok(Rendered::pprof(Bytes::from(file)))
}

fn grow(grower: &mut Grower, side: Side, stacks: Stacks) {
    let Stacks { profile, pod_nanos } = stacks;
    grower.add(side, &profile, default_value_index(&profile), pod_nanos);
}

/// The part of a tree that is asked for, as JSON or as a page.
fn columns(
    tree: CallTree,
    basis: Option<Basis>,
    html: bool,
    question: &Question,
) -> Result<Rendered, Refusal> {
    let params = &question.params;
    let tree = match params.path(&ROOT) {
        None => tree,
        Some(path) => tree.at(&path).ok_or_else(|| {
            Refusal::not_found(
                "the call tree has no such node: take root from the order of children in a response to the \
                 same parameters without root",
            )
        })?,
    };
    let all = params.has(&ROOT) && !params.has(&NODES);
    let columns = tree.columns(if all { usize::MAX } else { params.number(&NODES) }, basis);
    let object = Object::new("ProfileFlamegraph", question, &columns);
    if html { page(&object) } else { object.json() }
}

fn basis(question: &Question, base: Totals, after: Totals) -> Result<Basis, Refusal> {
    let asked = match question.params.word(&BASIS) {
        "perPodSecond" => Some(Basis::PerPodSecond),
        "share" => Some(Basis::Share),
        "absolute" => Some(Basis::Absolute),
        _ => None,
    };
    Basis::choose(asked, question.kind, base, after)
        .map_err(|error: BasisError| Refusal::bad_request(error.to_string()))
}
