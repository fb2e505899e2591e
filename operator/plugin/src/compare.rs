//! `kubectl fleetprof diff` and `regress`: did a session get slower than another? Both end with the codes of
//! `kubectl diff`: 0 within bounds, 1 a regression, more than 1 an error, of which 3 is that it cannot be told.

use clap::Args;
use fleetprof_profile::Diff;
use fleetprof_profile::verdict::{Outcome, Verdict};
use serde::Deserialize;

use crate::bound::{Bound, by_order, exceeding, unchecked};
use crate::cluster::{Ask, Cluster};
use crate::exit::{Exit, Failure, after};
use crate::output::{self, Format};
use crate::paths;
use crate::read::{Part, view};

/// Most functions that the read API lists.
const ALL: &str = "1000";

/// What to compare.
#[derive(Args, Debug)]
pub(crate) struct DiffArgs {
    /// Name of the session.
    #[arg(value_parser = paths::session_name)]
    session: String,
    #[command(flatten)]
    part: Part,
    /// The session to compare with; by default, the old revision, or the last session of another one.
    #[arg(long, value_name = "SESSION", value_parser = paths::session_name)]
    base: Option<String>,
    /// End with code 1 if a function's share rose by more, such as self>5% or total>10%, in percentage
    /// points of all samples. Changes that may be chance do not count. May be given several times.
    #[arg(long, value_name = "BOUND")]
    fail_on: Vec<Bound>,
    /// How many functions, 1 to 1000.
    #[arg(long, value_name = "N", default_value = "20")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=1000))]
    rows: u16,
    /// How to print it: json or yaml instead of the table.
    #[arg(long, short = 'o', value_name = "FORMAT")]
    output: Option<Format>,
}

/// Shows what changed, and checks the bounds.
pub(crate) async fn diff(cluster: &Cluster, args: &DiffArgs) -> Result<Exit, Failure> {
    let rows = args.rows.to_string();
    let mut query = args.part.query();
    query.extend(args.base.as_deref().map(|base| ("base", base)));
    let mut shown = query.clone();
    shown.push(("n", &rows));
    let printed = view(cluster, &args.session, "diff", shown, args.output).await;
    if args.fail_on.is_empty() || printed.as_ref().is_err_and(|failure| !failure.is_closed()) {
        return after(printed, Exit::Data);
    }
    query.extend([("n", ALL), ("format", "json"), ("basis", "share")]);
    let namespace = paths::namespace(cluster.namespace())?;
    let (mut over, mut unsure) = (Vec::new(), Vec::new());
    for (order, bounds) in by_order(&args.fail_on) {
        let query = [&query[..], &[("order", order)]].concat();
        let diff: Diff = read(cluster, &paths::view(namespace, &args.session, "diff", &query)).await?;
        over.extend(exceeding(&diff, &bounds));
        unsure.extend(unchecked(&diff, &bounds));
    }
    for said in over.iter().chain(&unsure) {
        output::note(said);
    }
    after(printed, checked(!over.is_empty(), unsure.is_empty()))
}

/// What is found is a regression, whatever could not be looked at.
const fn checked(is_over: bool, is_sure: bool) -> Exit {
    match (is_over, is_sure) {
        (true, _) => Exit::Error,
        (false, true) => Exit::Data,
        (false, false) => Exit::Partial,
    }
}

/// What to judge.
#[derive(Args, Debug)]
pub(crate) struct RegressArgs {
    /// Name of the session.
    #[arg(value_parser = paths::session_name)]
    session: String,
    /// The session to compare with; by default, the old revision, or the last session of another one.
    #[arg(long, value_name = "SESSION", value_parser = paths::session_name)]
    base: Option<String>,
    /// How to print it: json or yaml instead of a sentence.
    #[arg(long, short = 'o', value_name = "FORMAT")]
    output: Option<Format>,
}

/// A verdict as the read API says it.
#[derive(Deserialize)]
struct Said {
    #[serde(flatten)]
    verdict: Verdict,
    #[serde(default)]
    message: String,
}

/// Says whether a revision is slower, and how sure that is.
pub(crate) async fn regress(cluster: &Cluster, args: &RegressArgs) -> Result<Exit, Failure> {
    let mut query = vec![("test", "true"), ("format", "json")];
    query.extend(args.base.as_deref().map(|base| ("base", base)));
    let namespace = paths::namespace(cluster.namespace())?;
    let object = cluster.json(&Ask::get(paths::view(namespace, &args.session, "diff", &query))).await?;
    let said: Said = serde_json::from_value(object.clone()).map_err(|error| newer(&error))?;
    let printed = match args.output {
        Some(Format::Name) => {
            return Err(Failure::usage("--output name is for lists of objects: use json or yaml"));
        }
        Some(format @ (Format::Json | Format::Yaml)) => output::print(&output::object(&object, format)?),
        None | Some(Format::Wide) => output::print(&format!("{}\n", said.message)),
    };
    after(printed, exit(said.verdict.outcome))
}

/// 3 where it is inconclusive: neither a pass nor a regression.
const fn exit(outcome: Outcome) -> Exit {
    match outcome {
        Outcome::NotRegressed => Exit::Data,
        Outcome::Regressed => Exit::Error,
        Outcome::Inconclusive(_) => Exit::Partial,
    }
}

async fn read<T: for<'de> Deserialize<'de>>(cluster: &Cluster, path: &str) -> Result<T, Failure> {
    serde_json::from_value(cluster.json(&Ask::get(path)).await?).map_err(|error| newer(&error))
}

fn newer(error: &serde_json::Error) -> Failure {
    Failure::error(format!(
        "the comparison cannot be read ({error}): the operator and this plugin have different versions, \
         upgrade the older one"
    ))
}

#[cfg(test)]
mod tests {
    use fleetprof_profile::verdict::{Revision, Why};

    use super::*;

    #[test]
    fn a_gate_ends_like_kubectl_diff() {
        assert_eq!(exit(Outcome::NotRegressed).code(), 0);
        assert_eq!(exit(Outcome::Regressed).code(), 1);
        assert!(exit(Outcome::Inconclusive(Why::FewPods)).code() > 1, "not told is neither");
        assert_eq!(checked(true, false).code(), 1);
        assert_eq!(checked(false, true).code(), 0);
        assert_eq!(checked(false, false).code(), exit(Outcome::Inconclusive(Why::FewPods)).code());
    }

    #[test]
    fn a_verdict_is_read_as_the_read_api_writes_it() {
        let revision = Revision { pods: 3, captures: 3, samples: 900, coverage: Some(0.97) };
        let verdict = |outcome| Verdict {
            outcome,
            p: Some(0.01),
            arrangements: 20,
            every: true,
            smallest: Some(0.02),
            enough: None,
            load: None,
            dispersion: Some(1.2),
            functions: Vec::new(),
            old: revision.clone(),
            new: revision.clone(),
        };
        for outcome in [Outcome::Regressed, Outcome::NotRegressed, Outcome::Inconclusive(Why::FewPods)] {
            let mut object = serde_json::to_value(verdict(outcome)).unwrap();
            object["kind"] = "ProfileVerdict".into();
            object["baseRevision"] = "a".into();
            object["message"] = "So it is.".into();
            let said: Said = serde_json::from_value(object).unwrap();
            assert_eq!((said.verdict.outcome, said.message.as_str()), (outcome, "So it is."));
        }
    }
}
