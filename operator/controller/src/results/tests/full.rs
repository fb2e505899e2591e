//! What happens on a volume that is really full? A tmpfs of 256 KiB, which root may mount.

use fleetprof_crds::ProfileKind;

use super::fixtures::{Tmpfs, config, cpu, du, files, large_slice, scope, scope_of, store};
use crate::results::disk::Volume;
use crate::results::store::Store;
use crate::results::{ResultsConfig, ResultsError, ResultsMetrics};

#[test]
fn slices_stop_before_the_volume_is_full_and_profiles_are_made_nevertheless() {
    let Some(volume) = Tmpfs::mount("256k") else { return };
    let store = store(volume.path());
    let mut stored = [0, 0];
    let refused = (0..64).find_map(|n: u32| {
        let capture = usize::try_from(n % 2).unwrap();
        let scope = scope_of(["c0", "c1"][capture], "session-1", ["p0", "p1"][capture]);
        match store.put_slice(&scope, cpu(n), &large_slice(n, 120)) {
            Ok(_) => {
                stored[capture] += 1;
                None
            }
            Err(error) => Some(error),
        }
    });
    assert!(matches!(refused, Some(ResultsError::Full(_))), "{refused:?}");
    assert!(stored[0] > 1 && stored[1] > 1, "{stored:?}");
    for (capture, pod) in [("c0", "p0"), ("c1", "p1")] {
        let made = store.assemble(&scope_of(capture, "session-1", pod), ProfileKind::Cpu, 1).unwrap();
        assert!(made.samples >= 240);
    }
    assert!(files(volume.path()).iter().all(|file| file.starts_with("profiles/")));
}

#[test]
fn a_full_volume_is_full_not_broken_and_nothing_is_lost() {
    let Some(volume) = Tmpfs::mount("256k") else { return };
    let store = store(volume.path());
    let scope = scope("cap-1");
    store.put_slice(&scope, cpu(0), &large_slice(0, 200)).unwrap();
    let filler = volume.path().join("slices/filler");
    assert!(std::fs::write(&filler, vec![0; 256 << 10]).is_err(), "the volume is full now");
    let error = store.writer.put(&volume.path().join("slices/more"), &[0; 20_000]).unwrap_err();
    assert!(matches!(error, ResultsError::Full(_)), "{error}");
    assert!(matches!(store.put_slice(&scope, cpu(1), &large_slice(1, 10)), Err(ResultsError::Full(_))));
    let error = store.assemble(&scope, ProfileKind::Cpu, 1).unwrap_err();
    assert!(matches!(error, ResultsError::Full(_)), "{error}");
    assert_eq!(error.reason(), fleetprof_crds::Reason::StorageFull);

    std::fs::remove_file(&filler).unwrap();
    assert_eq!(files(volume.path()), ["slices/session-1/cap-1/cpu-0.pb.gz"], "no half file stays");
    assert_eq!(store.assemble(&scope, ProfileKind::Cpu, 1).unwrap().samples, 200);
}

#[test]
fn a_capacity_is_kept_where_the_volume_has_none() {
    let root = tempfile::tempdir().unwrap();
    let config = ResultsConfig { capacity: Some(400_000), ..config(root.path()) };
    let store = Store::open(config, ResultsMetrics::default(), Box::new(Volume)).unwrap();
    let full = (0..100).find_map(|n| store.put_slice(&scope("cap-1"), cpu(n), &large_slice(n, 80)).err());
    assert!(matches!(full, Some(ResultsError::Full(_))), "{full:?}");
    store.assemble(&scope("cap-1"), ProfileKind::Cpu, 1).unwrap();
    assert!(du(root.path()) <= 400_000, "{}", du(root.path()));
}
