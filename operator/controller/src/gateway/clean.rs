//! What of a heartbeat may go on into statuses, logs and labels? An agent shares its pod with the app, so
//! every word of it may be the app's.

use fleetprof_core::text::is_unprintable;
use fleetprof_core::time::before;
use fleetprof_crds::ProfileKind;
use fleetprof_crds::names::MAX_MESSAGE;
use fleetprof_crds::wire::{
    CaptureReport, CaptureState, ContainerReport, Heartbeat, MAX_NODE_ROWS, MAX_OFFERS, MAX_ROWS,
    MAX_SAMPLES, MAX_SLICES, Offer, Problem,
};
use jiff::{SignedDuration, Timestamp};

/// Most slices of all kinds of a capture.
#[expect(clippy::cast_possible_truncation, reason = "there are seven kinds")]
const MOST_SLICES: u32 = MAX_SLICES * ProfileKind::ALL.len() as u32;
/// Most bytes that are kept of the rows of a heartbeat: 64 containers fit, or dozens of captures. There is one
/// heartbeat for each agent, and a pod can have eight.
const MAX_ROWS_BYTES: usize = 20 * 1024;
/// Most bytes of a message where there is not room for all.
const SHORT_MESSAGE: usize = 64;
/// Most bytes of a version, instance or runtime.
const MAX_WORD: usize = 64;
/// Most bytes of a container id or capture name.
const MAX_ID: usize = 128;
/// Most processes of a container.
const MAX_PROCESSES: u32 = 100_000;
/// Most CPU time of a capture: an hour of 4096 cores.
const MAX_CPU_MS: i64 = 3_600_000 * 4096;
/// Most threads of a container: more than a kernel has pids.
const MAX_THREADS: i32 = 10_000_000;
/// Largest percentage: a container may use more than its limit for a moment, and a limit may be tiny.
const MAX_PERCENT: i32 = 100_000;

/// A heartbeat that can do no harm, and the number of rows that were dropped: without a possible id, or in a
/// state of a newer version. It has a number only where all that it says of containers is kept: what changed
/// since can be told alone then.
///
/// Ages of captures are counted back from `now`, by this machine's clock, whatever the agent's clock says.
pub(super) fn heartbeat(beat: Heartbeat, now: Timestamp) -> (Heartbeat, usize) {
    let Heartbeat { version, protocol, mode, instance, containers, captures, sent_at_ms, leaving, number } =
        beat;
    let rows = containers.len() + captures.len();
    let containers = exact(containers.into_iter().filter(|row| is_id(&row.id)).take(MAX_ROWS).map(container));
    let captures = exact(captures.into_iter().filter(is_known).take(MAX_ROWS).map(|row| capture(row, now)));
    let has_room = bytes(&containers, &captures) <= MAX_ROWS_BYTES;
    let (containers, captures) = fit(containers, captures);
    let dropped = rows - containers.len() - captures.len();
    let number = number.filter(|_| has_room && dropped == 0);
    let (version, instance) = (text(&version, MAX_WORD), self::instance(&instance));
    let sent_at_ms = sent_at_ms.filter(|ms| Timestamp::from_millisecond(*ms).is_ok());
    (
        Heartbeat { version, protocol, mode, instance, containers, captures, sent_at_ms, leaving, number },
        dropped,
    )
}

/// The same of what the agent of a node says beside its containers. Its body bounds it: there may be a capture in each
/// pod.
pub(super) fn node_heartbeat(beat: Heartbeat, now: Timestamp) -> (Heartbeat, usize) {
    let rows = beat.captures.len();
    let known = beat.captures.into_iter().filter(is_known).take(MAX_NODE_ROWS);
    let captures = exact(known.map(|row| capture(row, now)));
    let dropped = rows - captures.len();
    let head = Heartbeat { containers: Vec::new(), captures: Vec::new(), ..beat };
    let (head, _) = heartbeat(head, now);
    (Heartbeat { captures, ..head }, dropped)
}

/// As much as there is room for: messages are shortened before rows are dropped, the last ones first. Agents
/// report again what was not recorded.
fn fit(
    mut containers: Vec<ContainerReport>,
    mut captures: Vec<CaptureReport>,
) -> (Vec<ContainerReport>, Vec<CaptureReport>) {
    if bytes(&containers, &captures) > MAX_ROWS_BYTES {
        let messages = containers.iter_mut().filter_map(|row| row.problem.as_mut());
        messages.for_each(|problem| problem.message = text(&problem.message, SHORT_MESSAGE));
        let offers = containers.iter_mut().flat_map(|row| &mut row.offers);
        let messages = offers.filter_map(|offer| offer.problem.as_mut());
        messages.for_each(|problem| problem.message = text(&problem.message, SHORT_MESSAGE));
        captures.iter_mut().flat_map(texts).for_each(|said| *said = text(said, SHORT_MESSAGE));
    }
    // A container without offers counts as one of which CPU is captured.
    for at in (0..containers.len()).rev() {
        if bytes(&containers, &captures) > MAX_ROWS_BYTES
            && let Some(row) = containers.get_mut(at)
        {
            row.offers = Vec::new();
        }
    }
    while bytes(&containers, &captures) > MAX_ROWS_BYTES {
        if captures.pop().is_none() && containers.pop().is_none() {
            break;
        }
    }
    (containers, captures)
}

fn bytes(containers: &[ContainerReport], captures: &[CaptureReport]) -> usize {
    containers.iter().map(bytes_of_container).chain(captures.iter().map(bytes_of_capture)).sum()
}

fn bytes_of_container(row: &ContainerReport) -> usize {
    let message = row.problem.as_ref().map_or(0, |problem| problem.message.len());
    let offers: usize = row.offers.iter().map(bytes_of_offer).sum();
    size_of::<ContainerReport>() + row.id.len() + row.runtime.len() + message + offers
}

fn bytes_of_offer(offer: &Offer) -> usize {
    let message = offer.problem.as_ref().map_or(0, |problem| problem.message.len());
    size_of::<Offer>() + offer.collector.len() + message
}

fn bytes_of_capture(row: &CaptureReport) -> usize {
    let said = [&row.runtime, &row.collector, &row.collector_why, &row.note];
    let message = row.problem.as_ref().map_or(0, |problem| problem.message.len());
    let said: usize = said.into_iter().flatten().map(String::len).sum();
    size_of::<CaptureReport>() + row.capture.len() + message + said
}

/// What an agent says in its own words.
fn texts(row: &mut CaptureReport) -> impl Iterator<Item = &mut String> {
    let problem = row.problem.as_mut().map(|problem| &mut problem.message);
    [row.collector_why.as_mut(), row.note.as_mut(), problem].into_iter().flatten()
}

/// A list of these alone: one that is collected from the rows of a longer one keeps the memory of all of them.
fn exact<T>(rows: impl Iterator<Item = T>) -> Vec<T> {
    let mut rows: Vec<T> = rows.collect();
    rows.shrink_to_fit();
    rows
}

/// A capture of a possible name, in a state that this version knows.
fn is_known(row: &CaptureReport) -> bool {
    is_id(&row.capture) && row.state != CaptureState::Unknown
}

pub(super) fn container(row: ContainerReport) -> ContainerReport {
    let ContainerReport {
        id,
        runtime,
        cpu_percent,
        memory_percent,
        signals,
        cpu_of_node,
        memory_of_node,
        problem: why,
        offers,
    } = row;
    ContainerReport {
        id,
        runtime: text(&runtime, MAX_WORD),
        cpu_percent: percent(cpu_percent),
        memory_percent: percent(memory_percent),
        signals: signals.map(|signals| signals.within(100, MAX_THREADS)),
        cpu_of_node,
        memory_of_node,
        problem: why.map(problem),
        offers: exact(offers.into_iter().filter(|offer| offer.kind.is_known()).take(MAX_OFFERS).map(offer)),
    }
}

fn offer(row: Offer) -> Offer {
    let Offer { kind, collector, problem: why } = row;
    Offer { kind, collector: text(&collector, MAX_WORD), problem: why.map(problem) }
}

fn capture(row: CaptureReport, now: Timestamp) -> CaptureReport {
    let slices = row.slices.min(MOST_SLICES);
    CaptureReport {
        capture: row.capture,
        state: row.state,
        problem: row.problem.map(problem),
        runtime: row.runtime.map(|word| text(&word, MAX_WORD)),
        collector: row.collector.map(|word| text(&word, MAX_WORD)),
        collector_why: row.collector_why.map(|sentence| text(&sentence, MAX_MESSAGE)),
        samples: row.samples.clamp(0, MAX_SAMPLES),
        slices,
        uploaded: row.uploaded.min(slices),
        started_at: counted(row.started_ago_ms, row.started_at, now),
        ended_at: counted(row.ended_ago_ms, row.ended_at, now),
        cpu_percent: percent(row.cpu_percent),
        memory_percent: percent(row.memory_percent),
        throttled_percent: row.throttled_percent.map(|share| share.clamp(0, 100)),
        processes: row.processes.map(|n| n.min(MAX_PROCESSES)),
        profiled_ms: row.profiled_ms.map(millis),
        used_ms: row.used_ms.map(millis),
        note: row.note.map(|sentence| text(&sentence, MAX_MESSAGE)),
        started_ago_ms: None,
        ended_ago_ms: None,
    }
}

/// CPU time in milliseconds.
fn millis(millis: i64) -> i64 {
    millis.clamp(0, MAX_CPU_MS)
}

fn problem(problem: Problem) -> Problem {
    Problem { reason: problem.reason, message: text(&problem.message, MAX_MESSAGE) }
}

fn percent(percent: Option<i32>) -> Option<i32> {
    percent.map(|percent| percent.clamp(0, MAX_PERCENT))
}

/// When something was by this machine's clock; what an agent that tells no ages says by its own, else.
fn counted(ago_ms: Option<u64>, at: Option<i64>, now: Timestamp) -> Option<i64> {
    let ago = ago_ms.map(|ms| SignedDuration::from_millis(i64::try_from(ms).unwrap_or(i64::MAX)));
    ago.map(|ago| before(now, ago).as_second()).or(at).filter(is_second)
}

fn is_second(second: &i64) -> bool {
    *second >= 0 && Timestamp::from_second(*second).is_ok()
}

/// The name of a process of an agent, as it is kept.
pub(super) fn instance(name: &str) -> String {
    text(name, MAX_WORD)
}

/// Names of captures and containers are ours or the runtime's: letters, digits and a few signs.
pub(super) fn is_id(id: &str) -> bool {
    let sign = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':');
    !id.is_empty() && id.len() <= MAX_ID && id.bytes().all(sign)
}

/// The printable part of a text, at most `most` bytes, with an ellipsis where it was cut.
pub(super) fn text(text: &str, most: usize) -> String {
    const ELLIPSIS: &str = "…";
    let mut kept = String::with_capacity(text.len().min(most));
    let printable = text.chars().filter(|char| !is_unprintable(*char));
    for char in printable {
        kept.push(char);
        if kept.len() > most {
            let end = (0..=most.saturating_sub(ELLIPSIS.len())).rev().find(|&end| kept.is_char_boundary(end));
            kept.truncate(end.unwrap_or(0));
            kept.push_str(ELLIPSIS);
            break;
        }
    }
    kept
}

#[cfg(test)]
mod tests;
