//! Is the volume shared as promised?

use std::time::Duration;

use proptest::prelude::*;

use super::*;

const MIB: u64 = 1 << 20;

fn kept(namespace: &str, session: &str, bytes: u64, age: u64) -> Kept {
    let written = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 - age);
    Kept { namespace: namespace.into(), session: session.into(), copy: false, keep: false, bytes, written }
}

fn accounts(rows: &[(&str, u64)]) -> BTreeMap<String, u64> {
    rows.iter().map(|(namespace, bytes)| ((*namespace).to_owned(), *bytes)).collect()
}

#[test]
fn a_share_is_a_part_of_the_volume_or_an_equal_part_of_what_may_be_filled() {
    let volume = Volume { used: 40 * MIB, free: 60 * MIB, total: 100 * MIB };
    let cases =
        [(25, 1, 25 * MIB), (25, 3, 25 * MIB), (25, 4, 83 * MIB / 4), (100, 1, 83 * MIB), (25, 0, 25 * MIB)];
    for (percent, namespaces, wanted) in cases {
        assert_eq!(share(volume, percent, namespaces), wanted, "{percent} % of {namespaces}");
    }
}

#[test]
fn pressure_begins_before_a_slice_is_refused() {
    // 12 MiB are room, 5 MiB margin.
    let cases = [
        ("plenty", 50, (1, 0, 1), 0, true),
        ("exactly the margin", 18, (1, 0, 1), 0, true),
        ("into the margin", 17, (1, 0, 1), 1, true),
        ("exactly the room", 13, (1, 0, 1), 5, true),
        ("into the room", 12, (1, 0, 1), 6, false),
        ("others are writing", 13, (1, 1, 1), 6, false),
        ("a large capture needs its room", 30, (1, 0, 30), 6, false),
    ];
    for (name, free, (bytes, writing, largest), need, fits) in cases {
        let volume = Volume { used: (100 - free) * MIB, free: free * MIB, total: 900 * MIB };
        let demand = Demand { bytes: bytes * MIB, writing: writing * MIB, largest: largest * MIB };
        assert_eq!(pressure(volume, demand), need * MIB, "{name}");
        let account = Account { namespace: "a", bytes: 0, slices: 0 };
        assert_eq!(check_room(volume, demand, account, 25 * MIB).is_ok(), fits, "{name}");
    }
    let most = Volume { used: u64::MAX, free: u64::MAX, total: u64::MAX };
    assert_eq!(pressure(most, Demand { bytes: u64::MAX, writing: u64::MAX, largest: u64::MAX }), 0);
}

#[test]
fn copies_go_first_whoever_they_belong_to() {
    let copy = |namespace, session, age| Kept { copy: true, ..kept(namespace, session, 10, age) };
    let all = || vec![kept("greedy", "old", 10, 900), copy("small", "b", 5), copy("small", "a", 50)];
    let accounts = accounts(&[("greedy", 90), ("small", 20)]);
    assert_eq!(evictions(10, 30, &accounts, all()).all(), ["a"]);
    assert_eq!(evictions(20, 30, &accounts, all()).all(), ["a", "b"]);
    assert_eq!(evictions(21, 30, &accounts, all()).all(), ["a", "b", "old"]);
    assert_eq!(evictions(99, u64::MAX, &accounts, all()).all(), ["a", "b"], "nobody is over that share");
}

#[test]
fn a_refusal_says_whose_and_how_much() {
    let volume = Volume { used: 60 * MIB, free: 5 * MIB, total: 100 * MIB };
    let demand = Demand { bytes: MIB, writing: 0, largest: MIB };
    let refused = |bytes: u64, slices: u64| {
        let account = Account { namespace: "shop", bytes: bytes * MIB, slices: slices * MIB };
        check_room(volume, demand, account, 25 * MIB).unwrap_err()
    };
    let over = refused(40, 30);
    assert_eq!(over.reason, Reason::NamespaceStorageFull);
    assert_eq!(
        over.message,
        "namespace shop keeps 40 MiB on the results volume, 30 MiB of it in captures that are not assembled \
         yet, and its share is 25 MiB"
    );
    let under = refused(10, 0);
    assert_eq!(
        (under.reason, under.message.as_str()),
        (Reason::StorageFull, "the results volume is full: 5120 KiB are free of 100 MiB")
    );
    let account = Account { namespace: "shop", bytes: 25 * MIB, slices: 25 * MIB };
    assert_eq!(check_waiting(demand, account, 25 * MIB).unwrap_err().reason, Reason::NamespaceStorageFull);
    assert!(check_waiting(demand, Account { slices: 24 * MIB, ..account }, 25 * MIB).is_ok());
}

#[test]
fn the_oldest_of_the_furthest_over_go_first() {
    let all = || {
        vec![
            kept("a", "a-new", 10, 1),
            kept("a", "a-old", 10, 90),
            kept("b", "b-new", 20, 5),
            kept("b", "b-old", 20, 6),
            kept("c", "c-oldest", 5, 500),
        ]
    };
    let accounts = accounts(&[("a", 45), ("b", 60), ("c", 25)]);
    let cases: [(u64, &[&str]); 5] = [
        (0, &[]),
        (1, &["b-old"]),
        (21, &["b-old", "a-old"]),
        (31, &["b-old", "a-old", "b-new"]),
        (1_000, &["b-old", "a-old", "b-new", "a-new"]),
    ];
    for (need, wanted) in cases {
        assert_eq!(evictions(need, 30, &accounts, all()).all(), wanted, "{need}");
    }
}

#[test]
fn what_somebody_wants_kept_is_the_last_of_its_namespace_to_go() {
    let all = || {
        let keep = Kept { keep: true, ..kept("a", "a-keep", 10, 900) };
        vec![keep, kept("a", "a-old", 10, 90), kept("a", "a-new", 10, 1), kept("b", "b-old", 10, 999)]
    };
    let accounts = accounts(&[("a", 30), ("b", 10)]);
    assert_eq!(evictions(1, 9, &accounts, all()).all(), ["a-old"]);
    assert_eq!(evictions(11, 9, &accounts, all()).all(), ["a-old", "a-new"]);
    // A namespace that wants more kept than its share takes nothing from others.
    assert_eq!(evictions(30, 10, &accounts, all()).all(), ["a-old", "a-new"]);
    assert_eq!(evictions(30, 9, &accounts, all()).all(), ["a-old", "a-new", "b-old"]);
    assert_eq!(evictions(31, 9, &accounts, all()).all(), ["a-old", "a-new", "b-old", "a-keep"]);
}

proptest! {
    /// No namespace at or under its share loses anything; each loses oldest first, only what it has over its
    /// share needs, what somebody wants kept last, and nothing goes once enough is free.
    #[test]
    fn nobody_under_the_share_loses_anything(
        files in prop::collection::vec((0..6_u8, 1..40_u64, 0..1_000_u64, any::<bool>()), 0..60),
        waiting in prop::collection::vec(0..100_u64, 6),
        (need, share) in (0..600_u64, 0..300_u64),
    ) {
        let name = |n: u8| format!("ns-{n}");
        let all: Vec<Kept> = files.iter().enumerate()
            .map(|(n, (ns, bytes, age, keep))| Kept { keep: *keep, ..kept(&name(*ns), &format!("s{n:02}"), *bytes, *age) })
            .collect();
        let mut accounts: BTreeMap<String, u64> =
            waiting.iter().zip(0..).map(|(bytes, n)| (name(n), *bytes)).collect();
        for one in &all {
            *accounts.entry(one.namespace.clone()).or_default() += one.bytes;
        }
        let evicted = evictions(need, share, &accounts, all.clone()).all();
        let (mut now, mut freed) = (accounts.clone(), 0);
        for session in &evicted {
            let one = all.iter().find(|one| &one.session == session).unwrap();
            prop_assert!(freed < need, "more than needed");
            prop_assert!(now[&one.namespace] > share, "{} is not over its share", one.namespace);
            let before = |of: &Kept| (of.keep, of.written);
            let older = all.iter().filter(|other| other.namespace == one.namespace && before(other) < before(one));
            for other in older {
                prop_assert!(evicted.contains(&other.session), "an older one stays");
            }
            *now.get_mut(&one.namespace).unwrap() -= one.bytes;
            freed += one.bytes;
        }
        if freed < need {
            let stays = all.iter().filter(|one| !evicted.contains(&one.session));
            for one in stays {
                prop_assert!(now[&one.namespace] <= share, "{} could give more", one.namespace);
            }
        }
    }

    /// Whatever is written in whatever order: what is stored and what is assembled of it fit on the volume.
    #[test]
    fn the_total_bound_holds(
        total in 1_000..10_000_u64,
        steps in prop::collection::vec((0..4_usize, 1..800_u64, any::<bool>()), 1..80),
    ) {
        let (mut slices, mut profiles) = ([0_u64; 4], Vec::<Kept>::new());
        for (n, (who, bytes, assemble)) in steps.into_iter().enumerate() {
            let namespaces: Vec<String> = (0..4).map(|n| format!("ns-{n}")).collect();
            let sums = |slices: &[u64; 4], profiles: &[Kept]| -> BTreeMap<String, u64> {
                (0..4).map(|n| (namespaces[n].clone(), slices[n]
                    + profiles.iter().filter(|p| p.namespace == namespaces[n]).map(|p| p.bytes).sum::<u64>())).collect()
            };
            let used = |slices: &[u64; 4], profiles: &[Kept]| sums(slices, profiles).values().sum::<u64>();
            let volume = |slices: &[u64; 4], profiles: &[Kept]| {
                Volume { used: used(slices, profiles), free: total - used(slices, profiles), total }
            };
            if assemble && slices[who] > 0 {
                prop_assert!(used(&slices, &profiles) + slices[who] <= total, "no room to assemble");
                profiles.push(kept(&namespaces[who], &format!("s{n}"), slices[who], 1_000 - n as u64));
                slices[who] = 0;
            }
            let largest = slices.iter().max().copied().unwrap_or(0).max(slices[who] + bytes);
            let demand = Demand { bytes, writing: 0, largest };
            let now = volume(&slices, &profiles);
            let share = share(now, 25, 4);
            let gone = evictions(pressure(now, demand), share, &sums(&slices, &profiles), profiles.clone()).all();
            profiles.retain(|p| !gone.contains(&p.session));
            let account = Account {
                namespace: "x", bytes: sums(&slices, &profiles)[&namespaces[who]], slices: slices[who],
            };
            let fits = check_waiting(demand, account, share)
                .and_then(|()| check_room(volume(&slices, &profiles), demand, account, share));
            if fits.is_ok() {
                slices[who] += bytes;
            }
            prop_assert!(slices.iter().all(|waiting| *waiting <= share), "slices over the share");
            prop_assert!(used(&slices, &profiles) <= total - part(total, ROOM_PERCENT), "into the room");
        }
    }
}
