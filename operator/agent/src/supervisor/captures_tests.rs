//! Tests of the table of captures.

use super::super::order::arrived;
use super::*;
use fleetprof_crds::wire::{MAX_ROWS, PROTOCOL};

const NOW: i64 = 1_000_000;
const KINDS: [ProfileKind; 2] = [ProfileKind::Cpu, ProfileKind::Wall];

fn table() -> Captures {
    Captures::of(&KINDS, MAX_ROWS)
}

fn cpu(seq: u32) -> SliceId {
    SliceId::new(ProfileKind::Cpu, seq)
}

fn order(capture: &str, container: &str) -> Order {
    Order {
        capture: capture.into(),
        session: "session".into(),
        protocol: PROTOCOL,
        container_id: container.into(),
        profiles: vec![ProfileKind::Cpu],
        frequency_hz: 99,
        duration_ms: 10_000,
        slice_ms: 10_000,
        start_before: NOW + 60,
        start_within_ms: None,
        cancel: false,
    }
}

fn with(capture: &str, change: impl FnOnce(&mut Order)) -> Order {
    let mut order = order(capture, "box");
    change(&mut order);
    order
}

/// `start a`, `Skipped(AgentTooOld) b`, `cancel c`.
fn said(actions: &[Action]) -> Vec<String> {
    let say = |a: &Action| match a {
        Action::Start(o, None) => format!("start {}", o.capture),
        Action::Start(o, Some(p)) => format!("start {:?} ({}) {}", o.profiles, p.reason, o.capture),
        Action::Conclude(o, state, p) => format!("{state:?}({}) {}", p.reason, o.capture),
        Action::Cancel(c) => format!("cancel {c}"),
    };
    actions.iter().map(say).collect()
}

fn running(table: &mut Captures, order: &Order) -> watch::Receiver<Option<Stop>> {
    let (stop, stopped) = watch::channel(None);
    table.add(record(order, CaptureState::Accepted, NOW), Some(stop));
    stopped
}

fn outcome(state: CaptureState) -> Outcome {
    Outcome { state, problem: None }
}

#[test]
fn a_new_order_is_started_or_refused_with_a_reason() {
    let cases = [
        (order("a", "box"), "start a"),
        (with("a", |o| o.start_before = NOW), "start a"),
        (with("a", |o| o.start_before = NOW - 1), "Skipped(StartDeadlineExceeded) a"),
        (with("a", |o| o.protocol = PROTOCOL + 1), "Skipped(AgentTooOld) a"),
        (with("a", |o| o.profiles = vec![ProfileKind::Heap]), "Skipped(AgentTooOld) a"),
        (with("a", |o| o.cancel = true), "Cancelled(Cancelled) a"),
        (with("a", |o| (o.cancel, o.start_before) = (true, 0)), "Cancelled(Cancelled) a"),
    ];
    for (order, wanted) in cases {
        assert_eq!(said(&table().decide(std::slice::from_ref(&order), NOW)), [wanted], "{order:?}");
    }
    let message = match &table().decide(&[with("a", |o| o.protocol = 9)], NOW)[..] {
        [Action::Conclude(_, _, problem)] => problem.message.clone(),
        other => panic!("{other:?}"),
    };
    assert!(message.contains("protocol 9") && message.contains("supports 2"), "{message}");
}

#[test]
fn a_kind_that_is_not_captured_is_left_out_with_a_reason_and_never_replaced() {
    use ProfileKind::{Cpu, Heap, Unknown, Wall};
    let cases = [
        (vec![Cpu, Wall], "start a"),
        (vec![Wall], "start a"),
        (vec![Wall, Heap], "start [Wall] (AgentTooOld) a"),
        (vec![Unknown, Cpu], "start [Cpu] (AgentTooOld) a"),
        (vec![Unknown], "Skipped(AgentTooOld) a"),
        (vec![Heap, Unknown], "Skipped(AgentTooOld) a"),
        (vec![], "Skipped(AgentTooOld) a"),
    ];
    for (profiles, wanted) in cases {
        let order = with("a", |o| o.profiles.clone_from(&profiles));
        assert_eq!(said(&table().decide(&[order], NOW)), [wanted], "{profiles:?}");
    }
    let heap = with("a", |o| o.profiles = vec![Heap]);
    let skipped = table().decide(&[heap], NOW);
    let told = matches!(&skipped[..], [Action::Conclude(_, _, problem)]
        if problem.message == "the order asks for heap; this agent captures cpu, wall");
    assert!(told, "{skipped:?}");
}

#[test]
fn a_kind_that_was_left_out_is_said_in_the_end_unless_something_worse_is() {
    let skipped = || Some(problem(Reason::AgentTooOld, "no heap"));
    let ended = |end: Outcome, loss: bool| {
        let mut table = table();
        let record = Record { skipped: skipped(), ..record(&order("a", "x"), CaptureState::Running, NOW) };
        table.add(record, None);
        let capture = table.get_mut("a").unwrap();
        capture.written(cpu(0), 10);
        if loss {
            capture.lost(cpu(0), problem(Reason::SpoolFull, "dropped"));
        } else {
            capture.stored(cpu(0));
        }
        capture.ended(end, NOW);
        (capture.record.report.state, capture.record.report.problem.as_ref().map(|p| p.reason))
    };
    let good = || outcome(CaptureState::Finished);
    assert_eq!(ended(good(), false), (CaptureState::Finished, Some(Reason::AgentTooOld)));
    assert_eq!(ended(good(), true), (CaptureState::Failed, Some(Reason::SpoolFull)));
    let crashed =
        Outcome { state: CaptureState::Failed, problem: Some(problem(Reason::CollectorCrashed, "crashed")) };
    assert_eq!(ended(crashed, false), (CaptureState::Failed, Some(Reason::CollectorCrashed)));
}

#[test]
fn slices_of_all_kinds_wait_and_leave_in_the_order_of_their_time() {
    let mut table = table();
    table.add(record(&order("a", "x"), CaptureState::Running, NOW), None);
    let wall = |seq| SliceId::new(ProfileKind::Wall, seq);
    let capture = table.get_mut("a").unwrap();
    for slice in [wall(0), wall(1), cpu(0), cpu(1)] {
        capture.written(slice, 10);
    }
    assert_eq!(table.next_upload(Instant::now()), Some(("a".into(), cpu(0))));
    let oldest = [cpu(0), wall(0), cpu(1)].map(|slice| ("a".to_owned(), slice));
    assert_eq!(table.over_limit(10), oldest);
    let capture = table.get_mut("a").unwrap();
    capture.stored(cpu(0));
    assert_eq!((capture.record.report.slices, capture.record.report.uploaded), (4, 1));
    assert_eq!(table.next_upload(Instant::now()), Some(("a".into(), wall(0))), "it is another slice 0");
}

#[test]
fn an_order_that_cannot_be_answered_is_ignored() {
    let orders =
        [with("", |_| ()), with(&"x".repeat(257), |_| ()), with("a", |o| o.container_id = "c".repeat(300))];
    assert_eq!(table().decide(&orders, NOW), []);
}

#[test]
fn a_known_order_is_not_started_again() {
    let mut table = table();
    let a = order("a", "box");
    let _stop = running(&mut table, &a);
    assert_eq!(table.decide(&[a.clone(), a.clone()], NOW), []);
    table.get_mut("a").unwrap().ended(outcome(CaptureState::Finished), NOW);
    assert_eq!(table.decide(std::slice::from_ref(&a), NOW), []);
    assert!(table.settle("a").unwrap().settled);
    assert_eq!(table.decide(std::slice::from_ref(&a), NOW), [], "settled ones are remembered");
    assert_eq!(table.prune(NOW + 1), ["a"]);
    assert_eq!(said(&table.decide(&[a], NOW)), ["start a"]);
}

#[test]
fn one_worker_a_container() {
    let mut table = table();
    let (a, b, c) = (order("a", "containerd://box"), order("b", "box"), order("c", "other"));
    let orders = [a.clone(), b.clone(), c.clone()];
    assert_eq!(said(&table.decide(&orders, NOW)), ["start a", "start c"]);
    let _stops = [running(&mut table, &a), running(&mut table, &c)];
    assert_eq!(table.decide(&orders, NOW), []);
    assert_eq!(table.next_deadline(&orders), Some(NOW + 60));
    let late = table.decide(&orders, NOW + 61);
    assert_eq!(said(&late), ["Skipped(StartDeadlineExceeded) b"]);
    let told = matches!(&late[..], [Action::Conclude(_, _, problem)] if problem.message.contains("another session is capturing this container"));
    assert!(told, "{late:?}");
    table.get_mut("a").unwrap().ended(outcome(CaptureState::Finished), NOW);
    assert_eq!(said(&table.decide(&orders, NOW)), ["start b"]);
}

#[test]
fn what_is_cancelled_or_unwanted_is_stopped() {
    let mut table = table();
    let _stops = [running(&mut table, &order("a", "x")), running(&mut table, &order("b", "y"))];
    assert_eq!(said(&table.decide(&[with("a", |o| o.cancel = true), order("b", "y")], NOW)), ["cancel a"]);
    assert_eq!(said(&table.decide(&[order("a", "x")], NOW)), ["cancel b"]);
    table.get_mut("a").unwrap().written(cpu(0), 1);
    assert!(table.settle("a").is_none(), "a running one is not settled yet");
    assert!(table.get("a").unwrap().unwanted);
    assert_eq!(table.next_upload(Instant::now()), None, "nothing more of it is sent");
    table.get_mut("a").unwrap().ended(outcome(CaptureState::Cancelled), NOW);
    assert!(table.settle("a").is_some());
}

#[test]
fn with_too_many_captures_orders_wait() {
    let mut table = table();
    for n in 0..MAX_ROWS {
        table.add(record(&order(&n.to_string(), "x"), CaptureState::Failed, NOW), None);
    }
    assert_eq!(table.decide(&[order("new", "box")], NOW), []);
    table.settle("5").unwrap();
    assert_eq!(said(&table.decide(&[order("new", "box"), order("newer", "z")], NOW)), ["start new"]);
}

#[test]
fn a_final_state_waits_for_the_last_slice() {
    let mut table = table();
    let _stop = running(&mut table, &order("a", "x"));
    let capture = table.get_mut("a").unwrap();
    capture.record.report.started_at = Some(NOW);
    capture.written(cpu(0), 10);
    capture.written(cpu(1), 10);
    capture.stored(cpu(0));
    assert_eq!(
        (capture.record.report.state, capture.record.report.slices, capture.record.report.uploaded),
        (CaptureState::Accepted, 2, 1)
    );
    let gone = Outcome { state: CaptureState::Failed, problem: Some(problem(Reason::TargetExited, "gone")) };
    capture.ended(gone, NOW + 9);
    assert_eq!(capture.record.report.state, CaptureState::Uploading);
    assert_eq!(capture.record.report.problem.as_ref().map(|p| p.reason), Some(Reason::TargetExited));
    capture.written(cpu(0), 10);
    assert_eq!(capture.pending.len(), 1, "a stored slice does not come back");
    capture.stored(cpu(1));
    let report = &capture.record.report;
    assert_eq!(
        (report.state, report.slices, report.uploaded, report.ended_at),
        (CaptureState::Failed, 2, 2, Some(NOW + 9))
    );
}

#[test]
fn a_lost_slice_is_never_silent() {
    let mut table = table();
    let _stop = running(&mut table, &order("a", "x"));
    let capture = table.get_mut("a").unwrap();
    (0..3).for_each(|seq| capture.written(cpu(seq), 10));
    capture.lost(cpu(1), problem(Reason::SpoolFull, "dropped"));
    assert_eq!(
        capture.record.report.problem.as_ref().map(|p| p.reason),
        Some(Reason::SpoolFull),
        "said while it runs"
    );
    capture.lost(cpu(2), problem(Reason::UploadRejected, "refused"));
    capture.ended(outcome(CaptureState::Finished), NOW);
    capture.stored(cpu(0));
    let report = &capture.record.report;
    assert_eq!((report.state, report.slices, report.uploaded), (CaptureState::Failed, 3, 1));
    assert_eq!(
        report.problem.as_ref().map(|p| p.reason),
        Some(Reason::SpoolFull),
        "the first loss is the cause"
    );
}

#[test]
fn the_oldest_slices_go_first() {
    let mut table = table();
    for name in ["a", "b"] {
        table.add(record(&order(name, name), CaptureState::Running, NOW), None);
        (0..3).for_each(|seq| table.get_mut(name).unwrap().written(cpu(seq), 100));
    }
    let now = Instant::now();
    assert_eq!(table.next_upload(now), Some(("a".into(), cpu(0))));
    assert_eq!(table.over_limit(600), []);
    assert_eq!(table.over_limit(599), [("a".into(), cpu(0))]);
    assert_eq!(
        table.over_limit(250),
        [("a".into(), cpu(0)), ("a".into(), cpu(1)), ("a".into(), cpu(2)), ("b".into(), cpu(0))]
    );
}

#[test]
fn an_unknown_capture_holds_up_no_other() {
    let mut table = table();
    for name in ["a", "b"] {
        table.add(record(&order(name, name), CaptureState::Running, NOW), None);
        table.get_mut(name).unwrap().written(cpu(0), 1);
    }
    let now = Instant::now();
    let later = now + Duration::from_secs(15);
    assert_eq!(table.get_mut("a").unwrap().unknown_until(now, later), Duration::ZERO);
    assert_eq!(table.next_upload(now), Some(("b".into(), cpu(0))));
    assert_eq!(table.next_try(), Some(later));
    assert_eq!(table.next_upload(later), Some(("a".into(), cpu(0))));
    assert_eq!(table.get_mut("a").unwrap().unknown_until(later, later), Duration::from_secs(15));
}

#[test]
fn a_restart_ends_what_was_running() {
    let fresh = |name: &str| record(&order(name, name), CaptureState::Running, NOW);
    let mut done = fresh("done");
    done.outcome = Some(outcome(CaptureState::Finished));
    let mut settled = fresh("settled");
    settled.settled = true;
    let table = Captures::restore(&KINDS, MAX_ROWS, vec![fresh("running"), done, settled]);
    let reason = |name: &str| {
        table.get(name).unwrap().record.outcome.as_ref().unwrap().problem.as_ref().map(|p| p.reason)
    };
    assert_eq!((reason("running"), reason("done")), (Some(Reason::AgentGone), None));
    assert!(table.get("settled").is_none());
    let orders = ["running", "done", "settled"].map(|n| order(n, n));
    assert_eq!(table.decide(&orders, NOW), []);
    assert!(table.is_idle());
    assert_eq!(table.abandoned(NOW + 1), ["running", "done"]);
}

#[test]
fn the_deadline_of_an_order_counts_from_its_arrival_whatever_the_gateways_clock_says() {
    let day = 86_400;
    for (skew, left_ms, start) in [
        (-day, Some(60_000), true),
        (day, Some(60_000), true),
        (day, Some(0), false),
        (0, None, true),
        (-day, None, false),
    ] {
        let mut late = order("a", "1");
        (late.start_before, late.start_within_ms) = (NOW + 60 + skew, left_ms);
        arrived(&mut late, NOW);
        let actions = Captures::of(&[ProfileKind::Cpu], MAX_ROWS).decide(&[late], NOW + 1);
        assert_eq!(matches!(actions[..], [Action::Start(..)]), start, "{skew} {left_ms:?}: {actions:?}");
    }
}

#[test]
fn what_was_concluded_before_there_was_room_stays_beside_what_the_spool_holds() {
    let settled = Record { settled: true, ..record(&order("old", "box"), CaptureState::Finished, NOW) };
    let lost = record(&order("lost", "box"), CaptureState::Running, NOW);
    let mut table = Captures::restore(&KINDS, MAX_ROWS, vec![settled, lost]);
    let mut without_room = Captures::of(&KINDS, MAX_ROWS);
    for capture in ["old", "lost", "new"] {
        without_room.add(record(&order(capture, "box"), CaptureState::Failed, NOW + 1), None);
    }
    table.add_all(without_room);
    let names: Vec<&str> = table.live().map(|c| c.record.report.capture.as_str()).collect();
    assert_eq!(names, ["lost", "new"]);
    assert!(table.decide(&["old", "lost", "new"].map(|name| order(name, "box")), NOW).is_empty());
}
