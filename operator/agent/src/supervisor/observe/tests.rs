use fleetprof_crds::ProfileKind;
use fleetprof_crds::wire::Offer;

use super::*;

#[test]
fn what_is_seen_of_a_young_process_holds_as_long_again_as_it_is_old() {
    let good = Offer::good(ProfileKind::Cpu, "a");
    let bad = Offer::refused(ProfileKind::Wall, "b", problem(Reason::PermissionDenied, "no"));
    let holds = |offers: &[&Offer], age: Option<u64>| {
        let seen = Seen { runtime: "Native".into(), offers: offers.iter().copied().cloned().collect() };
        Sighted::now(seen, age.map(Duration::from_secs)).holds.as_secs()
    };
    assert_eq!([0, 2, 9, 300, 9000].map(|age| holds(&[&good], Some(age))), [2, 2, 9, 300, 300]);
    assert_eq!([0, 9, 60, 9000].map(|age| holds(&[&good, &bad], Some(age))), [2, 9, 60, 60]);
    assert_eq!(holds(&[&good], None), 300);
}

#[test]
fn an_obstacle_is_told_by_its_cause_and_the_advice_is_left_to_its_reason() {
    assert_eq!(obstacle(0, 0, true, false), None);
    for (found, reason, words) in [
        (obstacle(1000, 33, false, true), Reason::PermissionDenied, "runs as user 33"),
        (obstacle(0, 33, true, true), Reason::NotDumpable, "changed its user without starting a program"),
    ] {
        let found = found.unwrap();
        assert_eq!(found.reason, reason);
        assert!(found.message.contains(words), "{}", found.message);
        let is_advice = |part: &str| reason.advice().contains(part);
        assert!(
            !found.message.split([':', ';', ',']).any(|part| is_advice(part.trim())),
            "{}",
            found.message
        );
    }
}

#[test]
fn containers_that_were_there_are_remembered_a_bounded_number_of_them() {
    let mut observer = Observer::new(ProcTree::new("/no/such/tree"), 64);
    let containers = |ids: std::ops::Range<usize>| -> Vec<Container> {
        ids.map(|n| Container { id: n.to_string(), processes: vec![] }).collect()
    };
    observer.note_ended(&containers(0..2));
    assert!(!observer.has_ended("0") && !observer.has_ended("9"));
    observer.note_ended(&containers(1..3));
    assert!(observer.has_ended("0") && !observer.has_ended("1"));
    observer.note_ended(&containers(0..1));
    assert!(!observer.has_ended("0") && observer.has_ended("1"), "it is back");
    observer.note_ended(&containers(1000..2000));
    observer.note_ended(&[]);
    assert_eq!((observer.ended.len(), observer.has_ended("1999")), (MAX_ENDED, true));
}

#[test]
fn a_missing_container_is_told_from_a_missing_namespace() {
    let pause = Process {
        pid: 1,
        parent: 0,
        command: "pause".into(),
        state: b'S',
        cpu_ticks: 0,
        start_ticks: 0,
        container: None,
    };
    assert_eq!(missing("abc", &[], &[]).reason, Reason::ProcessNamespaceConflict);
    assert_eq!(missing("abc", &[], std::slice::from_ref(&pause)).reason, Reason::ContainerRestarted);
    let other = Container { id: "0123456789abcdef".into(), processes: vec![pause] };
    assert_eq!(
        missing("abc", &[other], &[]).message,
        "container abc is no longer running in this pod; running now: [0123456789ab]"
    );
}
