//! What does the status of a session say of growth?

use fleetprof_crds::growth::{GrownFunction, GrowthResult, WorkloadGrowth};
use fleetprof_crds::{ProfileKind, ProfileSession, ProfileSessionStatus, Reason};
use fleetprof_profile::trend::words::amount;
use fleetprof_profile::trend::{Growth, Outcome, Trend, What, Why};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{Subject, is_told};
use crate::conditions::{self, GROWING, Truth, Wanted};
use crate::text::{advised, counted, cut, printable};

/// Most functions of a row.
const MAX_NAMED: usize = 3;
/// Most bytes of a row's message.
const MAX_MESSAGE: usize = 1_024;
/// Most bytes of the condition's message.
const MAX_SAID: usize = 2_048;
/// Most bytes of a name in the status.
const MAX_NAME: usize = 256;

/// Writes what came of a look, or why nothing did, into the status; with how many profiles could not be read.
pub fn record(
    session: &ProfileSession,
    status: &mut ProfileSessionStatus,
    (subject, sessions, made, unread): (&Subject, usize, &Result<Trend, String>, usize),
    now: Timestamp,
) {
    let row = match made {
        Ok(trend) => of_trend(subject, trend, unread, now),
        Err(cause) => {
            let cause = printable(cause.trim_end_matches('.'));
            let cause = format!("The sessions could not be looked at for growth: {cause}");
            let said = advised(cause, Reason::GrowthFailed);
            WorkloadGrowth {
                message: cut(&said, MAX_MESSAGE),
                ..empty(subject, Reason::GrowthFailed, sessions, now)
            }
        }
    };
    add(session, status, row, subject, now);
}

/// Writes that there are only so many sessions since the last look.
pub(super) fn waits(
    session: &ProfileSession,
    status: &mut ProfileSessionStatus,
    (subject, sessions): (&Subject, usize),
    now: Timestamp,
) {
    add(session, status, empty(subject, Reason::FewSessions, sessions, now), subject, now);
}

fn add(
    session: &ProfileSession,
    status: &mut ProfileSessionStatus,
    row: WorkloadGrowth,
    subject: &Subject,
    now: Timestamp,
) {
    if is_told(status, subject) {
        return;
    }
    status.growth.push(row);
    let wanted = wanted(&status.growth);
    conditions::set(&mut status.conditions, GROWING, wanted, session.metadata.generation, now);
}

/// The condition over all rows: `True` if one grows, `Unknown` if of one that cannot be told, or not yet.
fn wanted(rows: &[WorkloadGrowth]) -> Wanted {
    let of = |result| rows.iter().filter(move |row| row.result == result);
    let is_said = |row: &&WorkloadGrowth| row.reason != Some(Reason::FewSessions) || row.p.is_some();
    let inconclusive =
        || of(GrowthResult::Inconclusive).filter(is_said).chain(of(GrowthResult::Inconclusive));
    let (truth, row) = match (of(GrowthResult::Growing).next(), inconclusive().next()) {
        (Some(row), _) => (Truth::True, Some(row)),
        (None, Some(row)) => (Truth::Unknown, Some(row)),
        (None, None) => (Truth::False, rows.first()),
    };
    let reason = row.and_then(|row| row.reason).unwrap_or(Reason::FewSessions);
    let ordered = [GrowthResult::Growing, GrowthResult::Inconclusive, GrowthResult::NotGrowing];
    let looked = ordered.into_iter().flat_map(of).filter(|row| !row.message.is_empty());
    let mut said: Vec<String> = looked.map(|row| format!("{}: {}", about(row), row.message)).collect();
    let waiting: Vec<&WorkloadGrowth> = rows.iter().filter(|row| row.message.is_empty()).collect();
    if !waiting.is_empty() {
        said.push(too_few(&waiting));
    }
    Wanted::new(truth, reason, cut(&said.join(" "), MAX_SAID))
}

fn too_few(rows: &[&WorkloadGrowth]) -> String {
    let most = rows.iter().map(|row| row.sessions).max().unwrap_or(0);
    let sessions = counted(usize::try_from(most).unwrap_or(0), "session", "sessions");
    format!(
        "{sessions} since the last look. The next look is made once there are growth.sessions of them and earlier \
         sessions have ended."
    )
}

fn about(row: &WorkloadGrowth) -> String {
    let revision = if row.revision.is_empty() { String::new() } else { format!(" {}", row.revision) };
    format!("{}{revision}, {}", row.workload, row.kind)
}

fn empty(subject: &Subject, reason: Reason, sessions: usize, now: Timestamp) -> WorkloadGrowth {
    WorkloadGrowth {
        workload: subject.workload.clone(),
        revision: subject.revision.clone(),
        kind: subject.kind,
        result: GrowthResult::Inconclusive,
        reason: Some(reason),
        message: String::new(),
        sessions: i32::try_from(sessions).unwrap_or(i32::MAX),
        p: None,
        smallest_growth: String::new(),
        functions: Vec::new(),
        time: Some(Time(now)),
    }
}

fn of_trend(subject: &Subject, trend: &Trend, unread: usize, now: Timestamp) -> WorkloadGrowth {
    let (result, reason) = match trend.outcome {
        Outcome::Growing => (GrowthResult::Growing, Reason::Growing),
        Outcome::NotGrowing => (GrowthResult::NotGrowing, Reason::NotGrowing),
        Outcome::Inconclusive(why) => (GrowthResult::Inconclusive, because(why)),
    };
    let mut message = trend.message();
    if unread > 0 {
        let profiles = counted(unread, "stored profile", "stored profiles");
        message += &format!(" {profiles} could not be read; see the operator log.");
    }
    let smallest = trend.smallest.map_or_else(|| "none".to_owned(), |part| format!("{:.1}", 100.0 * part));
    WorkloadGrowth {
        result,
        message: cut(&message, MAX_MESSAGE),
        p: trend.p.map(|p| format!("{p:.4}")),
        smallest_growth: if trend.p.is_some() { smallest } else { String::new() },
        functions: trend.functions.iter().take(MAX_NAMED).map(|grown| function(trend.kind, grown)).collect(),
        ..empty(subject, reason, trend.sessions, now)
    }
}

const fn because(why: Why) -> Reason {
    match why {
        Why::FewSessions => Reason::FewSessions,
        Why::NotSteady => Reason::NotSteady,
        Why::DifferentLoad => Reason::DifferentLoad,
        Why::NotEnoughSamples => Reason::NotEnoughSamples,
    }
}

fn function(kind: ProfileKind, grown: &Growth) -> GrownFunction {
    let change = match grown.what {
        What::Grows => "Grows",
        What::NotSteady => "NotSteady",
        What::Noise => "Noise",
    };
    GrownFunction {
        name: cut(&printable(&grown.name), MAX_NAME),
        file: cut(&printable(&grown.file), MAX_NAME),
        change: change.to_owned(),
        cumulative: grown.cumulative,
        from: amount(kind, grown.from),
        to: amount(kind, grown.to),
    }
}
