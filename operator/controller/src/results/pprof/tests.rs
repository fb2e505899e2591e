use super::*;
use crate::results::tests::fixtures::{scope, slice};

#[test]
fn a_good_slice_is_counted() {
    assert_eq!(check_slice(&slice(&[("work", 7), ("wait", 3)]), ProfileKind::Cpu).unwrap(), 10);
}

#[test]
fn hostile_slices_are_rejected_with_a_sentence() {
    let good = slice(&[("work", 7)]);
    let mut cut = good.clone();
    cut.truncate(good.len() / 2);
    let mut trailing = good.clone();
    trailing.extend_from_slice(b"more");
    let goroutine = fleetprof_profile::ProfileBuilder::new(ProfileKind::Goroutine, 1, 0).finish(0, &[]);
    let cases = [
        ("empty", Vec::new()),
        ("plain text", b"hello".to_vec()),
        ("cut", cut),
        ("trailing", trailing),
        ("bomb", bomb()),
        ("another type", encode(&goroutine).unwrap()),
        ("not sampled at all", encode(&Profile::default()).unwrap()),
    ];
    for (name, body) in cases {
        let error = check_slice(&body, ProfileKind::Cpu).unwrap_err();
        assert!(
            matches!(&error, ResultsError::Rejected(sentence) if sentence.contains(": ")),
            "{name}: {error}"
        );
    }
}

/// 64 MiB of zeros in 64 KiB.
fn bomb() -> Vec<u8> {
    use std::io::Write;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gzip.write_all(&vec![0; 64 << 20]).unwrap();
    gzip.finish().unwrap()
}

#[test]
fn what_the_cluster_knows_wins_over_every_other_label() {
    let mut scope = scope("one");
    scope.labels.insert("pod".into(), "another".into());
    scope.labels.insert("build".into(), "17".into());
    let mut profile = decode_valid(&slice(&[("work", 1)]), &slice_limits()).unwrap();
    set_labels(&mut profile, &[("namespace", "stolen"), ("thread", "main")]);
    label(&mut profile, &scope, "prod");
    let text = |index: i64| profile.string_table[usize::try_from(index).unwrap()].as_str();
    let mut labels: Vec<(&str, &str)> =
        profile.sample[0].label.iter().map(|l| (text(l.key), text(l.str))).collect();
    labels.sort_unstable();
    let wanted = [
        ("build", "17"),
        ("cluster", "prod"),
        ("container", "app"),
        ("namespace", "shop"),
        ("node", "node-1"),
        ("pod", "orders-1"),
        ("service_name", "orders"),
        ("thread", "main"),
    ];
    assert_eq!(labels, wanted);
}

#[test]
fn a_comment_tells_how_much_of_the_workload_was_captured_whatever_the_agent_says() {
    let mut scope = scope("one");
    scope.weight = Weight { pods: 12, targets: 3 };
    let claims = [format!("{WEIGHT}workload=Deployment/orders pods=1 targets=1"), "counts by class".into()];
    let claims: Vec<&str> = claims.iter().map(String::as_str).collect();
    let mut profile = fleetprof_profile::ProfileBuilder::new(ProfileKind::Cpu, 1, 0).finish(0, &claims);
    weigh(&mut profile, &scope);
    let text = |index: &i64| profile.string_table[usize::try_from(*index).unwrap()].as_str();
    let comments: Vec<&str> = profile.comment.iter().map(text).collect();
    let wanted = ["counts by class", "fleetprof.dev/weight: workload=Deployment/orders pods=12 targets=3"];
    assert_eq!(comments, wanted);
}

#[test]
fn the_trace_of_a_sample_stays_its_own() {
    let mut scope = scope("one");
    scope.labels =
        [("trace_id".into(), "of-the-session".into()), ("span_id".into(), "of-the-session".into())].into();
    let mut profile = decode_valid(&slice(&[("work", 1)]), &slice_limits()).unwrap();
    set_labels(&mut profile, &[("trace_id", "of-the-sample")]);
    label(&mut profile, &scope, "prod");
    let text = |index: i64| profile.string_table[usize::try_from(index).unwrap()].as_str();
    let find = |key: &str| {
        profile.sample[0].label.iter().filter(|l| text(l.key) == key).map(|l| text(l.str)).collect::<Vec<_>>()
    };
    assert_eq!((find("trace_id"), find("span_id")), (vec!["of-the-sample"], vec!["of-the-session"]));
}

#[test]
fn a_row_for_people_is_short_and_printable() {
    let row = |name: &str, file: &str, line| TopRow {
        name: name.into(),
        file: file.into(),
        line,
        self_value: 1,
        self_percent: 87.349,
        cum_value: 1,
        cum_percent: 87.349,
    };
    let made = top_function(&row("check", "/srv/app/cards.py", 42));
    assert_eq!((made.location.as_str(), made.self_percent.as_str()), ("cards.py:42", "87.3"));
    let made = top_function(&row(&"é\u{1b}[2J".repeat(400), "", 3));
    assert!(made.name.chars().count() == 256 && made.name.ends_with('…') && !made.name.contains('\u{1b}'));
    assert_eq!(made.location, "");
    assert_eq!(top_function(&row("f", "C:\\x\\y.cs", 0)).location, "y.cs");
}
