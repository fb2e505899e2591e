//! How many bytes of profiles are on their way at once? As many as the memory limit of the operator has room for.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes of profiles on their way to destinations and back, in units of [`UNIT`]: 16 MiB.
const UNITS: u32 = 256;
/// A unit, in bytes.
const UNIT: u64 = 64 << 10;

/// Room for profiles in memory while they are sent, or fetched. A larger one goes alone, in the place of a merge, whose
/// memory it takes instead.
#[derive(Clone)]
pub struct Transfers {
    units: Arc<Semaphore>,
    merges: Arc<Semaphore>,
}

/// Room that was taken, until it is dropped.
#[derive(Debug)]
pub struct Room {
    _units: Option<OwnedSemaphorePermit>,
    _merge: Option<OwnedSemaphorePermit>,
}

impl Transfers {
    /// With the places of `merges` for what is large.
    #[must_use]
    pub fn new(merges: &Arc<Semaphore>) -> Self {
        Self { units: Arc::new(Semaphore::new(UNITS as usize)), merges: Arc::clone(merges) }
    }

    /// Waits for room for a profile of so many bytes; of unknown size, where there are none. `merges` says whether
    /// sending it takes the place of a merge anyway: then it takes none here, and would wait for itself.
    pub async fn take(&self, bytes: u64, merges: bool) -> Room {
        let units = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX);
        let is_large = units == 0 || units > UNITS;
        let wanted = if is_large { UNITS } else { units };
        // Neither is ever closed.
        let _units = Arc::clone(&self.units).acquire_many_owned(wanted).await.ok();
        let _merge = match is_large && !merges {
            true => Arc::clone(&self.merges).acquire_owned().await.ok(),
            false => None,
        };
        Room { _units, _merge }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::FutureExt;

    use super::*;

    const MIB: u64 = 1 << 20;

    fn transfers() -> (Transfers, Arc<Semaphore>) {
        let merges = Arc::new(Semaphore::new(1));
        (Transfers::new(&merges), merges)
    }

    #[tokio::test]
    async fn profiles_go_side_by_side_up_to_a_number_of_bytes() {
        let (transfers, merges) = transfers();
        let mut held: Vec<Room> = Vec::new();
        for _ in 0..8 {
            held.push(transfers.take(2 * MIB, false).await);
        }
        assert!(transfers.take(1, false).now_or_never().is_none(), "16 MiB are on their way");
        held.pop();
        assert!(transfers.take(2 * MIB, false).now_or_never().is_some());
        assert_eq!(merges.available_permits(), 1);
    }

    #[tokio::test]
    async fn a_large_one_and_one_of_unknown_size_go_alone_in_the_place_of_a_merge() {
        let (transfers, merges) = transfers();
        for bytes in [80 * MIB, 0] {
            let room = transfers.take(bytes, false).await;
            assert_eq!(merges.available_permits(), 0);
            assert!(transfers.take(1, false).now_or_never().is_none());
            drop(room);
            assert_eq!(merges.available_permits(), 1);
        }
        let merging = merges.acquire().await.unwrap();
        assert!(transfers.take(80 * MIB, false).now_or_never().is_none(), "a merge is at work");
        let own = tokio::time::timeout(Duration::from_secs(1), transfers.take(80 * MIB, true)).await;
        assert!(own.is_ok(), "what merges while it is sent does not wait for itself");
        drop(merging);
    }
}
