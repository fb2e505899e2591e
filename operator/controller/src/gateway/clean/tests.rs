//! Is a wild heartbeat tamed, and nothing of an honest one lost?

use fleetprof_crds::Reason;
use fleetprof_crds::wire::AgentMode;
use proptest::prelude::*;
use serde_json::json;

use super::*;

fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

#[test]
fn ages_are_counted_by_this_clock_and_go_before_times_of_another() {
    let with = |started_ago_ms, started_at| CaptureReport { started_ago_ms, started_at, ..report("c") };
    let cases = [
        (with(Some(90_000), Some(5)), Some(1_799_999_910)),
        (with(None, Some(5)), Some(5)),
        (with(Some(u64::MAX), Some(5)), None),
        (with(None, None), None),
    ];
    for (row, wanted) in cases {
        let clean = capture(row.clone(), now());
        assert_eq!((clean.started_at, clean.started_ago_ms), (wanted, None), "{row:?}");
    }
}

fn report(capture: &str) -> CaptureReport {
    CaptureReport::new(capture, CaptureState::Running)
}

#[test]
fn terminals_and_readers_are_not_fooled() {
    assert_eq!(text("\u{1b}[31mred\u{7}\r\nnext\u{202e}txt.exe", 100), "[31mrednexttxt.exe");
    assert_eq!(text("naïve – fine", 100), "naïve – fine");
}

#[test]
fn numbers_are_brought_into_range() {
    let wild = CaptureReport {
        samples: -5,
        slices: u32::MAX,
        uploaded: u32::MAX,
        started_at: Some(i64::MIN),
        ended_at: Some(i64::MAX),
        cpu_percent: Some(-1),
        memory_percent: Some(i32::MAX),
        throttled_percent: Some(i32::MAX),
        processes: Some(u32::MAX),
        profiled_ms: Some(i64::MIN),
        used_ms: Some(i64::MAX),
        note: Some("n".repeat(5000)),
        ..report("c")
    };
    let clean = capture(wild, now());
    assert_eq!((clean.samples, clean.slices, clean.uploaded), (0, MOST_SLICES, MOST_SLICES));
    assert_eq!((clean.started_at, clean.ended_at), (None, None));
    assert_eq!((clean.cpu_percent, clean.memory_percent), (Some(0), Some(MAX_PERCENT)));
    assert_eq!((clean.processes, clean.profiled_ms), (Some(MAX_PROCESSES), Some(0)));
    assert_eq!((clean.used_ms, clean.throttled_percent), (Some(MAX_CPU_MS), Some(100)));
    assert!(clean.note.unwrap().len() <= MAX_MESSAGE);
    assert_eq!(capture(CaptureReport { samples: i64::MAX, ..report("c") }, now()).samples, MAX_SAMPLES);
}

#[test]
fn rows_without_a_possible_id_and_rows_beyond_the_bound_are_dropped() {
    let captures = ["", "a/b", "a\nb", &"x".repeat(129), "good"].map(report).to_vec();
    let containers = (0..100).map(|n| ContainerReport {
        id: format!("{n:064x}"),
        runtime: "Native".into(),
        cpu_percent: None,
        memory_percent: None,
        cpu_of_node: false,
        signals: None,
        memory_of_node: true,
        problem: (n < 10).then(|| Problem { reason: Reason::PermissionDenied, message: "m".repeat(5000) }),
        offers: Vec::new(),
    });
    let beat = Heartbeat {
        version: "v".repeat(1000),
        protocol: 1,
        mode: AgentMode::Sidecar,
        instance: "i\0".into(),
        containers: containers.collect(),
        captures,
        sent_at_ms: Some(i64::MAX),
        leaving: false,
        number: None,
    };
    let (clean, dropped) = heartbeat(beat, now());
    assert_eq!(clean.sent_at_ms, None);
    assert_eq!(dropped, 4 + 36);
    assert_eq!(clean.containers.len(), MAX_ROWS);
    assert_eq!(clean.captures, [report("good")]);
    assert_eq!(clean.instance, "i");
    assert!(clean.version.len() <= MAX_WORD && clean.version.ends_with('…'));
    let problems = clean.containers.iter().filter_map(|row| row.problem.as_ref());
    assert!(problems.clone().count() == 10 && problems.map(|p| p.message.len()).max() <= Some(MAX_MESSAGE));
}

#[test]
fn offers_are_few_and_short_and_go_before_a_container_goes() {
    let problem = || Problem { reason: Reason::UnsupportedRuntime, message: "m".repeat(5000) };
    let offer = |kind| Offer::refused(kind, &"c".repeat(500), problem());
    let row = |n: usize, offers: usize| ContainerReport {
        id: format!("{n:064x}"),
        runtime: "Go 1.26".into(),
        cpu_percent: None,
        memory_percent: None,
        cpu_of_node: false,
        signals: None,
        memory_of_node: false,
        problem: None,
        offers: (0..offers)
            .map(|n| offer(ProfileKind::ALL[n % 7]))
            .chain([offer(ProfileKind::Unknown)])
            .collect(),
    };
    let beat = |rows: usize, offers: usize| Heartbeat {
        version: "1".into(),
        protocol: 2,
        mode: AgentMode::Sidecar,
        instance: "i".into(),
        containers: (0..rows).map(|n| row(n, offers)).collect(),
        captures: vec![report("c")],
        sent_at_ms: None,
        leaving: false,
        number: None,
    };
    let (few, dropped) = heartbeat(beat(1, 100), now());
    let offers = &few.containers[0].offers;
    assert_eq!((dropped, offers.len()), (0, MAX_OFFERS));
    assert!(offers.iter().all(|o| o.collector.len() <= MAX_WORD && o.kind.is_known()));
    assert!(offers.iter().all(|o| o.problem.as_ref().unwrap().message.len() <= MAX_MESSAGE));
    let (many, dropped) = heartbeat(beat(64, 7), now());
    assert_eq!((dropped, many.containers.len(), many.captures.len()), (0, 64, 1), "no container goes");
    let kept: Vec<usize> = many.containers.iter().map(|row| row.offers.len()).collect();
    assert!(kept[0] == 7 && kept[63] == 0, "{kept:?}");
    assert!(many.containers.iter().map(bytes_of_container).sum::<usize>() <= MAX_ROWS_BYTES);
}

#[test]
fn what_is_kept_of_an_agent_is_bounded() {
    let capture = |n: usize| CaptureReport {
        collector_why: Some("w".repeat(5000)),
        note: Some("n".repeat(5000)),
        ..report(&format!("capture-{n:0>100}"))
    };
    let beat = |captures: usize| Heartbeat {
        version: "1".into(),
        protocol: 1,
        mode: AgentMode::Sidecar,
        instance: "i".into(),
        containers: Vec::new(),
        captures: (0..captures).map(capture).collect(),
        sent_at_ms: None,
        leaving: false,
        number: None,
    };
    let bytes = |beat: &Heartbeat| beat.captures.iter().map(bytes_of_capture).sum::<usize>();
    let (few, dropped) = heartbeat(beat(4), now());
    assert_eq!((dropped, few.captures[3].note.as_ref().unwrap().len()), (0, MAX_MESSAGE), "all of it");
    let (more, dropped) = heartbeat(beat(20), now());
    assert_eq!((dropped, more.captures[19].note.as_ref().unwrap().len()), (0, SHORT_MESSAGE));
    let (most, dropped) = heartbeat(beat(64), now());
    assert_eq!(most.captures.len() + dropped, 64);
    assert_eq!(most.captures[0].capture, capture(0).capture, "the oldest are reported first");
    assert!(bytes(&most) <= MAX_ROWS_BYTES && most.captures.len() >= 12, "{}", most.captures.len());
}

/// 64 KiB of the shortest rows become a few MiB once they are read.
#[test]
fn the_rows_that_are_dropped_leave_no_memory_behind() {
    let offer = json!({"kind": "CPU", "collector": ""});
    let few = json!({"id": "a", "runtime": "", "offers": vec![offer; 500]});
    let containers = [vec![few], vec![json!({"id": "b", "runtime": ""}); 4_000]].concat();
    let body = json!({
        "version": "1", "protocol": 1, "mode": "Sidecar", "instance": "i",
        "containers": containers,
        "captures": vec![report("c"); 500],
    });
    let told: Heartbeat = serde_json::from_value(body).unwrap();
    for beat in [heartbeat(told.clone(), now()).0, node_heartbeat(told, now()).0] {
        assert!(beat.containers.capacity() <= MAX_ROWS, "{}", beat.containers.capacity());
        assert!(
            beat.captures.capacity() <= beat.captures.len().max(MAX_ROWS),
            "{}",
            beat.captures.capacity()
        );
        assert!(beat.containers.iter().all(|row| row.offers.capacity() <= MAX_OFFERS));
    }
}

proptest! {
    #[test]
    fn a_text_is_bounded_printable_and_stays_as_it_is_when_cleaned_again(wild: String, most in 3usize..200) {
        let clean = text(&wild, most);
        prop_assert!(clean.len() <= most);
        prop_assert!(!clean.chars().any(is_unprintable));
        prop_assert_eq!(text(&clean, most), clean);
    }
}
