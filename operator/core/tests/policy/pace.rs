//! When rounds start, which are missed, and how far apart they are while they fail.

use super::*;

/// Makes a session one of a round.
fn of_round(mut session: ProfileSession, round: u64) -> ProfileSession {
    session.metadata.annotations = Some([("fleetprof.dev/round".to_owned(), round.to_string())].into());
    session
}

#[test]
fn a_round_starts_once_at_its_tick() {
    let policy =
        policy_of("p", CREATED, json!({"schedule": {"every": "10m", "duration": "30s"}, "frequencyHz": 49}));
    let mut world = World::new(vec![pod("a", "web")]).heard_of(&["a"]);
    let tick = schedule::Plan::read("uid-p", &policy.spec.schedule).unwrap().ticks(world.now).1.unwrap();
    world.now = tick.at + SignedDuration::from_secs(1);
    let first = world.step(&policy);
    let [created] = <[ProfileSession; 1]>::try_from(first.create).unwrap();
    assert_eq!(created.metadata.name, Some(format!("p-{}", tick.round)));
    assert_eq!((created.spec.duration.as_secs(), created.spec.frequency_hz), (30, 49));
    assert_eq!(created.metadata.owner_references.unwrap()[0].uid, "uid-p");
    let mut again = policy.clone();
    again.status = Some(first.status);
    assert_eq!(world.step(&again).create, [], "once");
    let suspended = json!({"suspend": true, "schedule": {"every": "10m", "duration": "30s"}});
    assert_eq!(world.step(&policy_of("p", CREATED, suspended)).create, [], "suspended");
    world.sessions = vec![session("p-1", "Schedule", "Running", NOW)];
    assert_eq!(world.step(&policy).create, [], "while the round before still captures");
    world.sessions.clear();
    world.pods.clear();
    assert_eq!(world.step(&policy).create, [], "nothing to profile");
    world.pods = vec![pod("a", "web")];
    world.now = tick.at + SignedDuration::from_secs(60);
    assert_eq!(world.step(&policy).create, [], "a missed tick is skipped");
}

/// A session of a round with so many targets that brought a profile, and so many that did not.
fn tried(name: &str, round: u64, (good, bad): (usize, usize), ended: i64) -> ProfileSession {
    let phase = if good > 0 { "Succeeded" } else { "Failed" };
    let mut s = of_round(session(name, "Schedule", phase, ended), round);
    let target = |phase| json!({"pod": "a", "podUid": "u", "node": "n", "container": "c", "workload": "Deployment/web", "capture": "", "phase": phase, "reason": "AgentGone"});
    let targets = (0..good).map(|_| target("Succeeded")).chain((0..bad).map(|_| target("Failed")));
    s.status.as_mut().unwrap().targets = targets.map(|t| serde_json::from_value(t).unwrap()).collect();
    s
}

#[test]
fn sessions_that_end_in_the_same_second_are_all_counted() {
    let mut world = World::new(vec![pod("a", "web")]).heard_of(&["a"]);
    let mut p = policy_of("p", CREATED, json!({}));
    for (second, known, wanted) in [(1, 1, ""), (2, 2, ""), (8, 2, "----++++"), (9, 2, "----++++")] {
        world.now = Timestamp::from_second(NOW + second).unwrap();
        world.sessions = vec![tried("p-a", 1, (4, 0), NOW), tried("p-b", 2, (0, 4), NOW)];
        world.sessions.truncate(known);
        p.status = Some(world.step(&p).status);
        assert_eq!(p.status.as_ref().unwrap().outcomes, wanted, "after {second} s");
    }
}

#[test]
fn a_failing_fleet_backs_off_and_one_good_session_ends_it() {
    let mut world = World::new(vec![pod("a", "web")]).heard_of(&["a"]);
    let p = policy_of("p", CREATED, json!({"schedule": {"every": "10m", "duration": "30s"}}));
    world.sessions =
        (0..3).map(|n| tried(&format!("p-{n}"), n, (0, 4), NOW - 100 + i64::try_from(n).unwrap())).collect();
    let step = world.step(&p);
    assert_eq!(condition(&step, "Ready"), ("False", "FailureRate"), "{:#?}", step.status);
    let ready = step.status.conditions.iter().find(|c| c.type_ == "Ready").unwrap();
    assert!(
        ready
            .message
            .contains("12 of the last 12 targets failed; the interval between rounds is 8 times longer"),
        "{}",
        ready.message
    );
    world.sessions.push(tried("p-3", 3, (4, 0), NOW - 10));
    let mut after = p.clone();
    after.status = Some(step.status);
    let step = world.step(&after);
    assert_eq!(condition(&step, "Ready"), ("True", "Active"), "{:#?}", step.status);
    assert_eq!(step.status.outcomes, "++++------------");
}

#[test]
fn rounds_that_fail_are_counted_whatever_the_number_of_their_sessions_and_targets() {
    // Rounds as (good, bad) targets of each session, and how many times further apart rounds are after each.
    type Rounds<'a> = &'a [(&'a [(usize, usize)], u32)];
    let five: &[(usize, usize)] = &[(0, 5); 5];
    let cases: &[(&str, Rounds)] = &[
        ("five namespaces of one round", &[(five, 2), (five, 4)]),
        (
            "most targets of each round",
            &[(&[(5, 45)], 2), (&[(5, 45)], 4), (&[(5, 45)], 8), (&[(5, 45)], 16), (&[(5, 45)], 16)],
        ),
        ("one of five namespaces fails", &[(&[(5, 0), (5, 0), (0, 5), (5, 0), (5, 0)], 1)]),
        ("a round that succeeds ends it", &[(five, 2), (&[(12, 8)], 1), (five, 2)]),
        ("a round of which nothing was tried is neither", &[(five, 2), (&[(0, 0)], 2), (five, 4)]),
    ];
    for (what, rounds) in cases {
        let mut world = World::new(vec![pod("a", "web")]).heard_of(&["a"]);
        let mut p = policy_of("p", CREATED, json!({}));
        for (n, (sessions, wanted)) in (0u64..).zip(*rounds) {
            let ended = NOW + 100 * i64::try_from(n).unwrap();
            for (m, targets) in (0..).zip(*sessions) {
                // The sessions of a round end one after another.
                world.sessions.push(tried(&format!("p-{n}-{m}"), n, *targets, ended + m));
            }
            // People's sessions fill the ring of the recent ones, and are no rounds.
            world.sessions.extend(
                (0..10).map(|m| session(&format!("mine-{n}-{m}"), "OnDemand", "Succeeded", ended + 20 + m)),
            );
            for second in 0..60 {
                world.now = Timestamp::from_second(ended + second).unwrap();
                let there = world.sessions.clone();
                world
                    .sessions
                    .retain(|s| s.status.as_ref().unwrap().end_time.as_ref().unwrap().0 <= world.now);
                p.status = Some(world.step(&p).status);
                world.sessions = there;
            }
            let step = world.step(&p);
            let ready = step.status.conditions.iter().find(|c| c.type_ == "Ready").unwrap();
            let stretch = if *wanted == 1 {
                "can be profiled".into()
            } else {
                format!("the interval between rounds is {wanted} times longer")
            };
            assert!(
                ready.message.contains(&stretch),
                "{what}, round {n}: {} {:?}",
                ready.message,
                step.status
            );
        }
    }
}

#[test]
fn rounds_by_the_clock_that_fail_are_so_many_ticks_apart() {
    let spec = json!({"schedule": {"cron": "0 9-17 * * MON-FRI", "duration": "30s"}});
    let mut p = policy_of("p", CREATED, spec);
    // A Friday: the last round failed at 16, as did the one before.
    let friday: Timestamp = "2027-01-15T16:30:00Z".parse().unwrap();
    let last = schedule::Plan::read("uid-p", &p.spec.schedule).unwrap().ticks(friday).0.unwrap().at;
    p.status = Some(
        serde_json::from_value(
            json!({"outcomes": "-".repeat(20), "failedRounds": 2, "lastSessionTime": last.to_string()}),
        )
        .unwrap(),
    );
    let mut world = World::new(vec![pod("a", "web")]).heard_of(&["a"]);
    world.now = friday;
    let next = world.step(&p).status.next_session_time.unwrap().0;
    assert!(
        next.to_string().starts_with("2027-01-18T11:00:"),
        "four ticks: 17 h, and Monday 9, 10, 11 h: {next}"
    );
}

#[test]
fn rounds_come_less_often_while_they_fail() {
    let mut world = World::new(vec![pod("a", "web")]).heard_of(&["a"]);
    let mut p = policy_of("p", CREATED, json!({"schedule": {"every": "10m", "duration": "30s"}}));
    let mut starts = vec![];
    for second in 0..4 * 3600 {
        world.now = Timestamp::from_second(NOW + second).unwrap();
        if second % 5 != 0 {
            continue;
        }
        let step = world.step(&p);
        p.status = Some(step.status);
        if let Some(created) = step.create.into_iter().next() {
            starts.push(second);
            let round = created.metadata.annotations.unwrap()["fleetprof.dev/round"].parse().unwrap();
            world.sessions.push(tried(&created.metadata.name.unwrap(), round, (0, 6), NOW + second));
        }
    }
    let gaps: Vec<i64> = starts.windows(2).map(|w| (w[1] - w[0]) / 60).collect();
    assert!(gaps[0] <= 12 && gaps[1] >= 38 && gaps[2] >= 78, "10, 10 × 4, 10 × 8 …: {gaps:?}");
}

#[test]
fn a_tick_that_nobody_served_is_told_once() {
    let mut world = World::new(vec![pod("a", "web")]).heard_of(&["a"]);
    let mut p = policy_of("p", CREATED, json!({"schedule": {"every": "10m", "duration": "30s"}}));
    let tick = schedule::Plan::read("uid-p", &p.spec.schedule).unwrap().ticks(world.now).1.unwrap();
    world.now = tick.at + SignedDuration::from_secs(31);
    let step = world.step(&p);
    assert_eq!((step.missed, step.create), (Some(tick), vec![]));
    p.status = Some(step.status);
    assert_eq!(world.step(&p).missed, None);
}

#[test]
fn a_tick_that_found_nothing_to_start_is_not_missed_once_there_is_something() {
    let spec = |suspend: bool| json!({"suspend": suspend, "schedule": {"every": "1h", "duration": "30s"}});
    let tick = schedule::Plan::read("uid-p", &policy_of("p", CREATED, spec(false)).spec.schedule).unwrap();
    let tick = tick.ticks(Timestamp::from_second(NOW).unwrap()).1.unwrap();
    let there = || World::new(vec![pod("a", "web")]).heard_of(&["a"]);
    let cases = [
        ("suspended", there(), true, (None, 0)),
        ("no pod", World::new(vec![]), false, (None, 0)),
        ("nobody led, though it could start", there(), false, (Some(tick), 0)),
    ];
    for (what, mut world, suspended, wanted) in cases {
        let mut p = policy_of("p", CREATED, spec(suspended));
        if what != "nobody led, though it could start" {
            for second in (0..1200).step_by(15) {
                world.now = tick.at + SignedDuration::from_secs(second);
                let step = world.step(&p);
                assert_eq!((step.missed, step.create.len()), (None, 0), "{what}");
                p.status = Some(step.status);
            }
        }
        let status = p.status.take();
        p = policy_of("p", CREATED, spec(false));
        p.status = status;
        world = there();
        world.now = tick.at + SignedDuration::from_secs(1200);
        let step = world.step(&p);
        assert_eq!((step.missed, step.create.len()), wanted, "{what}");
        assert_eq!(step.status.last_missed_time.is_some(), wanted.0.is_some(), "{what}");
    }
    // Within the grace, a tick that found nothing at first starts its round.
    let mut world = World::new(vec![]);
    let mut p = policy_of("p", CREATED, spec(false));
    world.now = tick.at + SignedDuration::from_secs(5);
    p.status = Some(world.step(&p).status);
    world = there();
    world.now = tick.at + SignedDuration::from_secs(20);
    assert_eq!(world.step(&p).create.len(), 1);
}
