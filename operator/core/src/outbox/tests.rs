use proptest::prelude::*;

use super::*;

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millisecond(1_800_000_000_000 + millis).unwrap()
}

fn outbox(waiting: usize, at_once: usize) -> Outbox<()> {
    Outbox::new(Bounds { waiting, at_once })
}

fn sent(next: Next<()>) -> String {
    match next {
        Next::Send(key, ()) => key,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_arrives_is_told_once() {
    let mut box_ = outbox(10, 2);
    assert_eq!(box_.offer("a", (), at(0)), Delivery::Underway(None));
    assert_eq!(box_.offer("a", (), at(1)), Delivery::Underway(None), "it is not taken in twice");
    assert_eq!((box_.backlog(), box_.oldest()), (1, Some(at(0))));
    assert_eq!(sent(box_.take(at(2))), "a");
    assert_eq!(box_.take(at(2)), Next::Idle);
    box_.settle("a", Attempt::Stored, at(3), 0);
    assert_eq!(box_.backlog(), 0);
    assert_eq!(box_.offer("a", (), at(4)), Delivery::Stored);
    assert_eq!(box_.offer("a", (), at(5)), Delivery::Underway(None), "a new question sends it again");
}

#[test]
fn an_answer_is_known_as_long_as_it_is_not_taken() {
    let mut box_ = outbox(10, 2);
    box_.offer("a", (), at(0));
    box_.take(at(0));
    box_.settle("a", Attempt::Stored, at(1), 0);
    for _ in 0..3 {
        assert_eq!(box_.answer("a"), Some(Delivery::Stored), "its status could not be written yet");
    }
    box_.retain(|_| false);
    assert_eq!(box_.answer("a"), None);
}

#[test]
fn what_is_withdrawn_is_not_tried_again_and_an_attempt_under_way_is_told_of() {
    let mut box_ = outbox(10, 1);
    for (attempt, told) in [
        (Attempt::Stored, Withdrawal::Settled(Delivery::Stored)),
        (Attempt::Again("no route".into(), None), Withdrawal::Withdrawn(Some("no route".into()))),
    ] {
        box_.offer("a", (), at(2));
        assert_eq!(sent(box_.take(at(2))), "a");
        assert_eq!(box_.withdraw("a", (), at(2)), Withdrawal::Sending);
        box_.settle("a", attempt, at(3), 0);
        for _ in 0..3 {
            assert_eq!(box_.withdraw("a", (), at(3)), told, "its status could not be written yet");
        }
        assert_eq!((box_.take(at(1_000_000)), box_.backlog()), (Next::Idle, 0), "{told:?}");
        box_.settled("a");
    }
}

#[test]
fn what_is_made_after_its_deadline_has_one_attempt_and_no_other() {
    for (attempt, told) in [
        (Attempt::Stored, Withdrawal::Settled(Delivery::Stored)),
        (Attempt::Again("no route".into(), None), Withdrawal::Withdrawn(Some("no route".into()))),
        (
            Attempt::Again("busy".into(), Some(SignedDuration::ZERO)),
            Withdrawal::Withdrawn(Some("busy".into())),
        ),
    ] {
        let mut box_ = outbox(10, 1);
        assert_eq!(box_.withdraw("late", (), at(0)), Withdrawal::Sending, "it was never offered");
        assert_eq!(box_.withdraw("late", (), at(1)), Withdrawal::Sending, "it is taken in once");
        assert_eq!((box_.backlog(), sent(box_.take(at(1)))), (1, "late".to_owned()));
        assert_eq!(box_.withdraw("late", (), at(2)), Withdrawal::Sending);
        box_.settle("late", attempt, at(3), 0);
        assert_eq!(box_.withdraw("late", (), at(3)), told);
        // The destination is well again, and this one stays given up.
        box_.offer("other", (), at(200_000));
        assert_eq!(sent(box_.take(at(200_000))), "other");
        box_.settle("other", Attempt::Stored, at(200_000), 0);
        let again = box_.withdraw("late", (), at(200_001));
        assert!(!matches!(again, Withdrawal::Sending), "{again:?}");
        assert_eq!((box_.take(at(1_000_000)), box_.backlog()), (Next::Idle, 0), "{told:?}");
        assert!(matches!(box_.offer("late", (), at(1_000_000)), Delivery::Stored | Delivery::Underway(_)));
    }
}

#[test]
fn what_waits_unhindered_is_tried_before_it_is_withdrawn_and_what_failed_is_not() {
    let mut box_ = outbox(10, 1);
    for key in ["first", "second", "third"] {
        box_.offer(key, (), at(0));
    }
    assert_eq!(sent(box_.take(at(0))), "first");
    assert_eq!(box_.withdraw("second", (), at(1)), Withdrawal::Sending, "it comes next");
    assert_eq!(box_.withdraw("third", (), at(60_000)), Withdrawal::Withdrawn(None), "others take too long");
    box_.settle("first", Attempt::Again("down".into(), None), at(60_000), 0);
    let down = Withdrawal::Withdrawn(Some("down".into()));
    for key in ["first", "second", "new"] {
        assert_eq!(box_.withdraw(key, (), at(60_001)), down, "{key}");
    }
    assert_eq!((box_.take(at(1_000_000)), box_.backlog()), (Next::Idle, 0));
    box_.retain(|_| false);
    assert!(box_.given_up.is_empty());
}

#[test]
fn what_waits_too_long_is_forgotten() {
    let mut box_ = outbox(10, 2);
    box_.offer("old", (), at(0));
    box_.offer("new", (), at(50));
    box_.forget_before(at(50));
    assert_eq!((box_.backlog(), sent(box_.take(at(60)))), (1, "new".to_owned()));
    box_.offer("old", (), at(70));
    assert_eq!(sent(box_.take(at(70))), "old", "it can be offered again");
}

/// Some of what comes at once is taken, and the rest is told to come later: nothing is wrong with it.
#[test]
fn a_destination_that_is_busy_gives_up_nothing_and_is_left_alone_for_as_long_as_it_says() {
    let (mut box_, least) = (outbox(100, 4), SignedDuration::from_secs(30));
    for n in 0..40 {
        box_.offer(&format!("k{n}"), (), at(0));
    }
    let (mut now, mut stored, mut rounds) = (at(0), 0, 0);
    while stored < 40 {
        rounds += 1;
        let mut flying = Vec::new();
        while let Next::Send(key, ()) = box_.take(now) {
            flying.push(key);
        }
        // One is taken, the others are not.
        for (n, key) in flying.iter().rev().enumerate() {
            let attempt = if n + 1 == flying.len() {
                Attempt::Stored
            } else {
                Attempt::Again("429".into(), Some(least))
            };
            box_.settle(key, attempt, now, 0);
        }
        stored = (0..40).filter(|n| box_.answer(&format!("k{n}")) == Some(Delivery::Stored)).count();
        if flying.len() > 1 {
            assert_eq!(box_.take(after(now, SignedDuration::from_secs(29))), Next::Wait(after(now, least)));
        }
        now = after(now, least);
        assert!(rounds < 200, "{stored} stored");
    }
    assert!((0..40).all(|n| box_.answer(&format!("k{n}")) == Some(Delivery::Stored)), "none was given up");
}

#[test]
fn while_a_destination_fails_one_parcel_at_a_time_tries() {
    let mut box_ = outbox(10, 4);
    for key in ["a", "b", "c"] {
        box_.offer(key, (), at(0));
    }
    assert_eq!(sent(box_.take(at(0))), "a");
    assert_eq!(sent(box_.take(at(0))), "b", "side by side while all is well");
    box_.settle("a", Attempt::Again("no route".into(), None), at(0), 0);
    assert_eq!(box_.take(at(100)), Next::Idle, "b is still on its way");
    box_.settle("b", Attempt::Again("no route".into(), None), at(0), 0);
    let Next::Wait(until) = box_.take(at(100)) else { panic!("it has to wait") };
    assert_eq!(box_.offer("c", (), at(100)), Delivery::Underway(Some("no route".into())));
    assert_eq!(sent(box_.take(until)), "c", "another one tries");
    box_.settle("c", Attempt::Stored, until, 0);
    assert_eq!(box_.problem(), None);
    let later = after(until, SignedDuration::from_secs(2));
    assert_eq!((sent(box_.take(later)), sent(box_.take(later))), ("a".to_owned(), "b".to_owned()));
}

#[test]
fn a_destination_that_says_when_is_not_asked_before() {
    let mut box_ = outbox(10, 4);
    box_.offer("a", (), at(0));
    box_.take(at(0));
    let least = SignedDuration::from_secs(20);
    box_.settle("a", Attempt::Again("too many".into(), Some(least)), at(0), 0);
    assert_eq!(box_.take(at(1)), Next::Wait(at(20_000)));
}

#[test]
fn a_parcel_that_alone_is_not_accepted_is_given_up() {
    let mut box_ = outbox(100, 1);
    box_.offer("poison", (), at(0));
    let (mut now, mut tries) = (0, 0);
    let told = loop {
        now += 120_000;
        box_.offer(&format!("good-{now}"), (), at(now));
        for _ in 0..2 {
            let key = sent(box_.take(at(now)));
            let bad = key == "poison";
            tries += u32::from(bad);
            let attempt = if bad { Attempt::Again("500".into(), None) } else { Attempt::Stored };
            box_.settle(&key, attempt, at(now), 0);
            now += 120_000;
        }
        match box_.offer("poison", (), at(now)) {
            Delivery::Underway(_) => {}
            told => break told,
        }
    };
    assert_eq!(tries, MAX_FAILURES + 1);
    let why = "not accepted in 6 attempts while others were: 500".to_owned();
    assert_eq!(told, Delivery::Failed(Reason::UploadRejected, why));
}

#[test]
fn an_outage_gives_up_nothing_however_long() {
    let mut box_ = outbox(10, 4);
    box_.offer("a", (), at(0));
    let mut now = 0;
    for draw in 0..500 {
        now += 60_000;
        assert_eq!(sent(box_.take(at(now))), "a");
        box_.settle("a", Attempt::Again("down".into(), None), at(now), draw);
    }
    now += 60_000;
    box_.take(at(now));
    box_.settle("a", Attempt::Stored, at(now), 0);
    assert_eq!(box_.offer("a", (), at(now)), Delivery::Stored);
}

#[test]
fn the_oldest_is_dropped_and_told() {
    let mut box_ = outbox(2, 1);
    for (n, key) in ["a", "b", "c"].into_iter().enumerate() {
        box_.offer(key, (), at(n as i64));
    }
    assert_eq!((box_.backlog(), box_.dropped()), (2, 1));
    assert!(matches!(box_.offer("a", (), at(9)), Delivery::Failed(Reason::BacklogFull, _)));
}

#[test]
fn sessions_that_are_gone_are_forgotten() {
    let mut box_ = outbox(10, 1);
    for key in ["a", "b", "c"] {
        box_.offer(key, (), at(0));
    }
    let first = sent(box_.take(at(0)));
    box_.settle(&first, Attempt::Stored, at(0), 0);
    box_.retain(|key| key == "c");
    assert_eq!(box_.backlog(), 1);
    assert_eq!(sent(box_.take(at(0))), "c");
}

proptest! {
    #[test]
    fn pauses_grow_to_a_minute_and_are_never_short(failures in 0_u32..1000, draw: u64) {
        let pause = pause(failures, draw).as_millis();
        prop_assert!((500..=60_000).contains(&pause), "{pause}");
        prop_assert!(failures < 7 || pause >= 30_000, "{pause}");
    }

    /// Whatever a destination does, withdrawing a parcel ends soon, after at most one more attempt.
    #[test]
    fn withdrawing_ends(
        steps in prop::collection::vec((0_u8..5, 0_usize..3, any::<u64>(), 0_i64..70_000), 0..60),
        answers in prop::collection::vec(any::<bool>(), 8),
    ) {
        let mut box_ = outbox(5, 2);
        let mut now = 0;
        let attempt = |stored| if stored { Attempt::Stored } else { Attempt::Again("x".into(), None) };
        for (what, key, draw, passed) in steps {
            now += passed;
            let key = format!("k{key}");
            match what {
                0 | 1 => { box_.offer(&key, (), at(now)); }
                2 => { box_.withdraw(&key, (), at(now)); }
                _ => if let Next::Send(key, ()) = box_.take(at(now)) {
                    box_.settle(&key, attempt(what == 3), at(now), draw);
                },
            }
        }
        let mut tries = 0;
        for stored in answers {
            if box_.withdraw("k0", (), at(now)) != Withdrawal::Sending {
                break;
            }
            if let Next::Send(key, ()) = box_.take(at(now)) {
                tries += usize::from(key == "k0");
                box_.settle(&key, attempt(stored), at(now), 0);
            }
            now += 30_000;
        }
        prop_assert!(box_.withdraw("k0", (), at(now)) != Withdrawal::Sending && tries <= 1, "{tries}");
    }

    /// Whatever is offered arrives, is given up with a word, or waits; nothing is sent twice at once, nothing is
    /// lost, and the bounds hold.
    #[test]
    fn nothing_is_lost(
        waiting in 1_usize..6,
        at_once in 1_usize..4,
        steps in prop::collection::vec((0_u8..8, 0_usize..12, any::<u64>(), 0_i64..70_000), 1..200),
    ) {
        let mut box_ = outbox(waiting, at_once);
        let mut asked = std::collections::BTreeSet::new();
        let mut flying: Vec<String> = Vec::new();
        let mut now = 0;
        for (what, key, draw, passed) in steps {
            now += passed;
            let failing = what == 5;
            match what {
                0..=2 => {
                    let key = format!("k{key}");
                    match box_.offer(&key, (), at(now)) {
                        Delivery::Underway(_) => asked.insert(key),
                        _ => asked.remove(&key),
                    };
                }
                3 | 4 => if let Next::Send(key, ()) = box_.take(at(now)) {
                    prop_assert!(!flying.contains(&key), "sent twice at once");
                    flying.push(key);
                },
                _ if flying.is_empty() => {}
                _ => {
                    let key = flying.remove(key % flying.len());
                    let attempt = if failing { Attempt::Again("x".into(), None) } else { Attempt::Stored };
                    box_.settle(&key, attempt, at(now), draw);
                }
            }
            prop_assert!(flying.len() <= at_once && box_.backlog() <= waiting + at_once);
        }
        for key in flying {
            box_.settle(&key, Attempt::Stored, at(now), 0);
        }
        for _ in 0..100 {
            now += 120_000;
            while let Next::Send(key, ()) = box_.take(at(now)) {
                box_.settle(&key, Attempt::Stored, at(now), 0);
            }
        }
        prop_assert_eq!(box_.backlog(), 0);
        for key in asked {
            let told = box_.offer(&key, (), at(now));
            prop_assert!(!matches!(told, Delivery::Underway(_)), "{key} is lost: {told:?}");
        }
    }
}
