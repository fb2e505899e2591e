//! Can one namespace take the volume from the others?

use std::collections::HashSet;
use std::time::Duration;

use fleetprof_core::capture::CaptureScope;
use fleetprof_core::storage;
use fleetprof_core::storage::quota::Quotas;
use fleetprof_crds::{ProfileKind, Reason};
use proptest::prelude::*;

use super::fixtures::{Tmpfs, config, cpu, du, files, large_slice, open, scope, slice, store};
use crate::gateway::SliceSink;
use crate::results::disk::Volume;
use crate::results::index::Merged;
use crate::results::store::Store;
use crate::results::{Owned, ResultsConfig, ResultsError, ResultsMetrics};

const CPU: ProfileKind = ProfileKind::Cpu;

/// A capture of session `session` in `namespace`.
fn of(namespace: &str, session: &str) -> CaptureScope {
    CaptureScope {
        session_namespace: namespace.into(),
        session_uid: session.into(),
        ..scope(&format!("cap-{session}"))
    }
}

fn opened(config: ResultsConfig) -> Store {
    Store::open(config, ResultsMetrics::default(), Box::new(Volume)).unwrap()
}

/// Stores a session of one slice and assembles it.
fn keep(store: &Store, namespace: &str, session: &str, functions: u32) -> Result<(), ResultsError> {
    let scope = of(namespace, session);
    store.put_slice(&scope, cpu(0), &large_slice(functions, functions))?;
    store.assemble(&scope, CPU, 1).map(|_| ())
}

fn profiles_of(store: &Store, namespace: &str) -> usize {
    files(&store.profiles()).iter().filter(|file| file.contains(&format!("/{namespace}/"))).count()
}

#[test]
fn a_quota_holds_though_the_volume_is_empty_and_costs_only_its_own_namespace_anything() {
    let root = tempfile::tempdir().unwrap();
    let quota = 100 << 10;
    let quotas = Quotas::new(None, [("greedy".to_owned(), quota)].into());
    let store = opened(ResultsConfig { quotas, ..config(root.path()) });
    for n in 0..30 {
        keep(&store, "modest", &format!("m{n:02}"), 200).unwrap();
        keep(&store, "greedy", &format!("g{n:02}"), 200).unwrap();
        let kept = store.index().accounts()["greedy"];
        // A profile may take a page more than its slice took.
        assert!(kept <= quota + 4096, "{kept} after {n}");
    }
    let greedy = files(&store.profiles()).into_iter().filter(|file| file.contains("/greedy/"));
    let greedy: Vec<String> = greedy.collect();
    assert!((2..30).contains(&greedy.len()), "{greedy:?}");
    assert!(
        greedy.iter().any(|file| file.contains("g29")) && !greedy.iter().any(|file| file.contains("g00"))
    );
    assert_eq!(profiles_of(&store, "modest"), 30, "nobody else loses anything");
}

#[test]
fn what_somebody_wants_kept_outlives_the_quota_and_does_not_count() {
    let root = tempfile::tempdir().unwrap();
    let quotas = Quotas::new(Some(100 << 10), std::collections::BTreeMap::new());
    let store = opened(ResultsConfig { quotas, ..config(root.path()) });
    for n in 0..30 {
        keep(&store, "shop", &format!("s{n:02}"), 200).unwrap();
        if n == 1 {
            let sessions = ["s00".to_owned(), "s01".to_owned()];
            store.own(&Owned { keep: sessions.into(), ..Owned::default() });
        }
    }
    let left = |session: &str| files(&store.profiles()).iter().any(|file| file.contains(session));
    assert!(left("/s00/") && left("/s01/") && !left("/s02/") && left("/s29/"));
    let (all, to_keep) = {
        let index = store.index();
        (index.accounts()["shop"], index.to_keep("shop"))
    };
    assert!(to_keep > 0 && all - to_keep <= (100 << 10) + 4096, "{to_keep} of {all}");
    store.own(&Owned::default());
    keep(&store, "shop", "s30", 200).unwrap();
    assert!(!left("/s00/"), "nobody wants it kept any more");
}

#[test]
fn slices_that_wait_are_refused_beyond_the_quota_with_its_size() {
    let root = tempfile::tempdir().unwrap();
    let quotas = Quotas::new(Some(64 << 10), std::collections::BTreeMap::new());
    let store = opened(ResultsConfig { quotas, ..config(root.path()) });
    let refused = (0..100).find_map(|n| {
        let scope = of("greedy", &format!("s{n}"));
        store.put_slice(&scope, cpu(0), &large_slice(200, 200)).err()
    });
    let Some(ResultsError::NamespaceFull(message)) = refused else { panic!("{refused:?}") };
    assert!(message.ends_with("and its quota is 64 KiB"), "{message}");
}

#[test]
fn a_namespace_that_keeps_too_much_loses_its_oldest_and_nobody_else_loses_anything() {
    let Some(volume) = Tmpfs::mount("1m") else { return };
    let store = opened(ResultsConfig { share: 25, ..config(volume.path()) });
    for n in 0..4 {
        keep(&store, "modest", &format!("m{n}"), 200).unwrap();
    }
    for n in 0..150 {
        keep(&store, "greedy", &format!("g{n:03}"), 40 + n % 200).unwrap();
        assert!(du(volume.path()) <= 1 << 20);
        assert_eq!(store.usage().unwrap().used, du(volume.path()), "the metric is what `du` says");
    }
    assert_eq!(profiles_of(&store, "modest"), 4);
    let greedy = files(&store.profiles()).into_iter().filter(|file| file.contains("/greedy/"));
    let greedy: Vec<String> = greedy.collect();
    assert!(greedy.len() > 10 && greedy.len() < 150, "{}", greedy.len());
    assert!(
        greedy.iter().all(|file| !file.contains("/g000/"))
            && greedy.iter().any(|file| file.contains("/g149/"))
    );
    keep(&store, "late", "l0", 200).unwrap();
    assert_eq!(
        (profiles_of(&store, "modest"), profiles_of(&store, "late")),
        (4, 1),
        "there is room for one more"
    );
}

#[test]
fn slices_that_wait_stay_within_the_share_so_others_can_be_stored() {
    let Some(volume) = Tmpfs::mount("1m") else { return };
    let store = opened(ResultsConfig { share: 25, ..config(volume.path()) });
    let refused = (0..128).find_map(|n| {
        let scope = of("greedy", &format!("g{n}"));
        store.put_slice(&scope, cpu(0), &large_slice(n, 120)).err()
    });
    let Some(ResultsError::NamespaceFull(sentence)) = refused else { panic!("{refused:?}") };
    assert!(
        sentence.starts_with("namespace greedy keeps 2") && sentence.ends_with("its share is 256 KiB"),
        "{sentence}"
    );
    for n in 0..5 {
        keep(&store, "modest", &format!("m{n}"), 200).unwrap();
    }
    store.assemble(&of("greedy", "g0"), CPU, 1).unwrap();
    store.put_slice(&of("greedy", "g-next"), cpu(0), &large_slice(7, 100)).unwrap();
}

#[test]
fn slices_of_an_earlier_process_count_to_their_namespace_once_it_is_known() {
    let root = tempfile::tempdir().unwrap();
    let config = ResultsConfig { share: 25, capacity: Some(1 << 20), ..config(root.path()) };
    let first = opened(config.clone());
    let put = |store: &Store, n: u32| {
        store.put_slice(&of("greedy", &format!("g{n}")), cpu(0), &large_slice(n, 120)).map(|_| ())
    };
    let many = (0..64).find(|n| put(&first, *n).is_err()).unwrap();
    drop(first);
    let store = opened(config);
    assert_eq!(store.usage().unwrap().used, du(root.path()));
    assert!(put(&store, many).is_ok(), "nobody has told yet whose they are");
    let namespaces = (0..many).map(|n| (format!("g{n}"), "greedy".to_owned())).collect();
    store.own(&Owned { namespaces, ..Owned::default() });
    assert!(matches!(put(&store, many + 1), Err(ResultsError::NamespaceFull(_))));
}

#[test]
fn a_capture_uploads_no_more_than_its_length_and_rate_allow() {
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path());
    let body = large_slice(0, 100);
    let scope = CaptureScope { max_bytes: body.len() as u64 + 100, ..scope("cap-1") };
    store.put_slice(&scope, cpu(0), &body).unwrap();
    let refused = store.put_slice(&scope, cpu(1), &large_slice(1, 100));
    assert!(
        matches!(&refused, Err(ResultsError::Rejected(why)) if why.contains("frequencyHz")),
        "{refused:?}"
    );
    store.put_slice(&scope, cpu(0), &body).unwrap();
}

#[tokio::test]
async fn a_refusal_is_of_one_namespace_and_ends_with_the_next_slice() {
    let root = tempfile::tempdir().unwrap();
    let config = ResultsConfig { share: 25, capacity: Some(1 << 20), ..config(root.path()) };
    let results = crate::results::Results::open(config, ResultsMetrics::default()).await.unwrap();
    let mut stored = 0;
    while results.refused("greedy").is_none() {
        let _ = results
            .put_slice(&of("greedy", &format!("g{stored}")), cpu(0), large_slice(stored, 120).into(), [0; 32])
            .await;
        stored += 1;
        assert!(stored < 100);
    }
    assert_eq!(results.refused("greedy").unwrap().reason, Reason::NamespaceStorageFull);
    assert_eq!(results.refused("modest"), None);
    results.assemble(&of("greedy", "g0"), CPU, 1).await.unwrap();
    results.assemble(&of("greedy", "g1"), CPU, 1).await.unwrap();
    results.put_slice(&of("greedy", "next"), cpu(0), slice(&[("work", 1)]).into(), [0; 32]).await.unwrap();
    assert_eq!(results.refused("greedy"), None);
}

#[tokio::test]
async fn a_profile_says_of_how_many_slices_it_was_made_and_what_did_not_fit() {
    let root = tempfile::tempdir().unwrap();
    let results = open(root.path()).await;
    let scope = scope("cap-1");
    for n in 0..14 {
        results.put_slice(&scope, cpu(n), large_slice(n, 16_000).into(), [0; 32]).await.unwrap();
    }
    results.assemble(&scope, CPU, 14).await.unwrap();
    let Merged { found, left_out } = results.merged(&scope, CPU).await.unwrap().unwrap();
    assert!(found == 14 && left_out > 0 && left_out < 14, "{left_out} of {found}");
    drop(results);
    let results = open(root.path()).await;
    assert_eq!(results.merged(&scope, CPU).await.unwrap(), None, "another process does not know");
}

/// A day of rounds: each hour three sessions, in namespaces of which one is new, and those of three hours ago
/// are deleted.
#[test]
fn rounds_of_a_day_leave_nothing_behind() {
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path());
    let (empty, before) = (store.index().held(), du(root.path()));
    let name = |hour: i64, n: usize| format!("s{hour}-{n}");
    let mut most = 0;
    for hour in 0..27 {
        for n in 0..3 {
            let namespace = if n == 2 { format!("ci-{hour}") } else { format!("team-{n}") };
            let started = jiff::Timestamp::from_second(1_700_000_000 + hour * 3600).unwrap();
            let scope = CaptureScope { started, ..of(&namespace, &name(hour, n)) };
            if hour < 24 {
                let put = |seq| store.put_slice(&scope, cpu(seq), &large_slice(seq, 20)).unwrap();
                assert!(!put(0) && !put(1), "none was there before");
            }
            // One of the sessions is deleted before its slices are assembled.
            if hour < 24 && (hour, n) != (7, 1) {
                store.assemble(&scope, CPU, 2).unwrap();
            }
            store.delete_session(&name(hour - 3, n)).unwrap();
        }
        store.sweep(&HashSet::new(), Duration::from_secs(3600)).unwrap();
        most = most.max(store.index().held().into_iter().max().unwrap_or(0));
    }
    assert!(most <= 40, "a map held {most}");
    assert_eq!((store.index().held(), du(root.path())), (empty, before));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Whoever stores, assembles and deletes what in whatever order: what is used is what `du` says, and never more
    /// than the capacity; a namespace under the share loses nothing.
    #[test]
    fn the_disk_never_takes_more_than_the_capacity(
        steps in prop::collection::vec((0..3_usize, 10..400_u32, 0..8_u8), 20..60),
    ) {
        const CAPACITY: u64 = 1 << 20;
        let root = tempfile::tempdir().unwrap();
        let store = opened(ResultsConfig { share: 25, capacity: Some(CAPACITY), ..config(root.path()) });
        for (n, (who, functions, what)) in steps.into_iter().enumerate() {
            let (namespace, session) = (format!("ns-{who}"), format!("s{n}"));
            let before = store.index().accounts();
            let names: Vec<String> = (0..3).map(|who| format!("ns-{who}")).collect();
            let had: Vec<usize> = names.iter().map(|name| profiles_of(&store, name)).collect();
            match what {
                0 => drop(store.put_slice(&of(&namespace, &session), cpu(0), &large_slice(functions, functions))),
                1 => drop(store.delete_session(&format!("s{}", n / 2)).unwrap()),
                _ => drop(keep(&store, &namespace, &session, functions)),
            }
            prop_assert_eq!(store.usage().unwrap().used, du(root.path()));
            prop_assert!(du(root.path()) <= CAPACITY, "{} bytes", du(root.path()));
            let namespaces = before.len() + usize::from(!before.contains_key(&namespace));
            let share = storage::share(storage::Volume { used: 0, free: CAPACITY, total: CAPACITY }, 25, namespaces);
            for (name, had) in names.iter().zip(had).filter(|_| what != 1) {
                let under = before.get(name).copied().unwrap_or(0) <= share;
                prop_assert!(!under || profiles_of(&store, name) >= had, "{name} lost results under its share");
            }
        }
    }
}
