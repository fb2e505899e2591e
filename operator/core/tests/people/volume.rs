//! The results volume as its index sees it: so many bytes of each session.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use fleetprof_core::storage::{self, Account, Demand, Kept, Volume};
use fleetprof_crds::wire::Problem;
use jiff::Timestamp;

/// A profile with its folders, in whole pages.
const PROFILE: u64 = 17 * 4096;
/// Share of a namespace in percent: the chart's default.
const SHARE: u8 = 25;

pub struct Shelf {
    total: u64,
    /// By uid of the session.
    kept: BTreeMap<String, Kept>,
    /// The most that was ever on it, and how many sessions lost their profiles to others.
    pub most: u64,
    pub evicted: usize,
}

impl Shelf {
    pub fn of_mib(mib: u64) -> Self {
        Self { total: mib << 20, kept: BTreeMap::new(), most: 0, evicted: 0 }
    }

    pub fn used(&self) -> u64 {
        self.kept.values().map(|kept| kept.bytes).sum()
    }

    pub fn sessions(&self) -> impl Iterator<Item = &String> {
        self.kept.keys()
    }

    fn volume(&self) -> Volume {
        Volume { used: self.used(), free: self.total - self.used(), total: self.total }
    }

    fn accounts(&self) -> BTreeMap<String, u64> {
        let mut accounts = BTreeMap::new();
        for kept in self.kept.values() {
            *accounts.entry(kept.namespace.clone()).or_default() += kept.bytes;
        }
        accounts
    }

    /// Stores a profile of a session, given as (namespace, uid), where there is room; its bytes.
    pub fn put(&mut self, (namespace, session): (&str, &str), now: Timestamp) -> Result<i64, Problem> {
        let demand = Demand { bytes: PROFILE, writing: 0, largest: PROFILE };
        let accounts = self.accounts();
        let namespaces = accounts.len() + usize::from(!accounts.contains_key(namespace));
        let share = storage::share(self.volume(), SHARE, namespaces);
        let need = storage::pressure(self.volume(), demand);
        for gone in storage::evictions(need, share, &accounts, self.kept.values().cloned().collect()).all() {
            self.kept.remove(&gone);
            self.evicted += 1;
        }
        let bytes = self.accounts().get(namespace).copied().unwrap_or(0);
        storage::check_room(self.volume(), demand, Account { namespace, bytes, slices: 0 }, share)?;
        let kept = self.kept.entry(session.to_owned()).or_insert_with(|| Kept {
            namespace: namespace.to_owned(),
            session: session.to_owned(),
            copy: false,
            keep: false,
            bytes: 0,
            written: SystemTime::UNIX_EPOCH,
        });
        kept.bytes += PROFILE;
        kept.written = SystemTime::UNIX_EPOCH + Duration::from_secs(now.as_second().try_into().unwrap());
        self.most = self.most.max(self.used());
        Ok(PROFILE.try_into().unwrap())
    }

    /// Removes what a session has.
    pub fn delete(&mut self, session: &str) {
        self.kept.remove(session);
    }
}
