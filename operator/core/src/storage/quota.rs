//! What may a namespace have on the results volume at most? What an administrator says, whatever is free.
//!
//! ```text
//!                                over the quota                     still over it
//! slice ─► waiting slices in it? ───────► the oldest results of the ────────────► refused
//!              │ no                       namespace go: copies first              NamespaceStorageFull
//!              └► NamespaceStorageFull
//! ```
//! What somebody wants kept (`fleetprof.dev/keep`) counts towards no quota, and none evicts it.
//! Beside it every namespace has its share, which counts once the volume fills up.

use std::collections::BTreeMap;

use fleetprof_crds::wire::Problem;

use super::{Account, Demand, Evictions, Kept};

/// Quotas in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quotas {
    default: Option<u64>,
    namespaces: BTreeMap<String, u64>,
}

impl Quotas {
    /// That of every namespace, if there is one, and those of some.
    #[must_use]
    pub const fn new(default: Option<u64>, namespaces: BTreeMap<String, u64>) -> Self {
        Self { default, namespaces }
    }

    /// The quota of a namespace; `None`: it has none.
    #[must_use]
    pub fn of(&self, namespace: &str) -> Option<u64> {
        self.namespaces.get(namespace).copied().or(self.default)
    }
}

/// Whether the slices of the namespace that wait to be assembled stay within its quota with the new one: they cannot
/// be evicted.
///
/// # Errors
/// `NamespaceStorageFull`.
pub fn check_waiting(demand: Demand, account: Account<'_>, quota: u64) -> Result<(), Problem> {
    refuse_unless(account.slices.saturating_add(demand.bytes) <= quota, account, quota)
}

/// The sessions whose results leave the volume so that the namespace stays within its quota with the slice.
#[must_use]
pub fn evictions(demand: Demand, account: Account<'_>, quota: u64, mut kept: Vec<Kept>) -> Evictions {
    kept.retain(|result| result.namespace == account.namespace && !result.keep);
    let wanted = account.bytes.saturating_add(demand.bytes);
    let accounts = BTreeMap::from([(account.namespace.to_owned(), wanted)]);
    super::evictions(wanted.saturating_sub(quota), quota, &accounts, kept)
}

/// Whether the slice is stored, after what can be evicted is evicted.
///
/// # Errors
/// `NamespaceStorageFull`.
pub fn check(demand: Demand, account: Account<'_>, quota: u64) -> Result<(), Problem> {
    refuse_unless(account.bytes.saturating_add(demand.bytes) <= quota, account, quota)
}

fn refuse_unless(fits: bool, account: Account<'_>, quota: u64) -> Result<(), Problem> {
    if fits { Ok(()) } else { Err(super::namespace_full(account, "quota", quota)) }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use fleetprof_crds::Reason;

    use super::*;

    const MIB: u64 = 1 << 20;

    fn kept(namespace: &str, session: &str, copy: bool, mib: u64, age: u64) -> Kept {
        let keep = false;
        let written = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 - age);
        Kept { namespace: namespace.into(), session: session.into(), copy, keep, bytes: mib * MIB, written }
    }

    #[test]
    fn a_namespace_has_its_own_quota_or_that_of_all_or_none() {
        let quotas = Quotas::new(Some(5), BTreeMap::from([("shop".to_owned(), 7)]));
        assert_eq!((quotas.of("shop"), quotas.of("other")), (Some(7), Some(5)));
        assert_eq!(Quotas::default().of("shop"), None);
    }

    #[test]
    fn only_its_own_oldest_results_go_and_no_more_than_needed() {
        let all = || {
            vec![
                kept("other", "theirs", false, 50, 900),
                kept("shop", "new", false, 10, 1),
                kept("shop", "old", false, 10, 800),
                kept("shop", "middle", false, 10, 20),
                kept("shop", "copy", true, 10, 5),
            ]
        };
        let cases: [(u64, &[&str]); 6] = [
            (50, &[]),
            (45, &["copy"]),
            (40, &["copy"]),
            (31, &["copy", "old"]),
            (20, &["copy", "old", "middle"]),
            (0, &["copy", "old", "middle", "new"]),
        ];
        let account = Account { namespace: "shop", bytes: 40 * MIB, slices: 0 };
        let demand = Demand { bytes: 10 * MIB, ..Demand::default() };
        for (quota, gone) in cases {
            assert_eq!(evictions(demand, account, quota * MIB, all()).all(), gone, "{quota} MiB");
        }
    }

    #[test]
    fn what_somebody_wants_kept_stays_whatever_the_quota() {
        let all = || {
            let incident = |name, copy| Kept { keep: true, ..kept("shop", name, copy, 10, 900) };
            let [incident, copy] = [incident("incident", false), incident("copy", true)];
            vec![incident, copy, kept("shop", "old", false, 10, 800), kept("shop", "new", false, 10, 1)]
        };
        let account = Account { namespace: "shop", bytes: 20 * MIB, slices: 0 };
        let demand = Demand { bytes: 10 * MIB, ..Demand::default() };
        assert_eq!(evictions(demand, account, 20 * MIB, all()).all(), ["old"]);
        assert_eq!(evictions(demand, account, 0, all()).all(), ["old", "new"]);
    }

    #[test]
    fn what_cannot_be_evicted_is_refused_with_the_quota() {
        let account = Account { namespace: "shop", bytes: 30 * MIB, slices: 15 * MIB };
        let demand = Demand { bytes: 5 * MIB, ..Demand::default() };
        assert!(check_waiting(demand, account, 20 * MIB).is_ok() && check(demand, account, 35 * MIB).is_ok());
        let waiting = check_waiting(demand, account, 19 * MIB).unwrap_err();
        let said = "namespace shop keeps 30 MiB on the results volume, 15 MiB of it in captures that are not assembled \
                    yet, and its quota is 19 MiB";
        assert_eq!((waiting.reason, waiting.message.as_str()), (Reason::NamespaceStorageFull, said));
        assert!(check(demand, account, 34 * MIB).unwrap_err().message.ends_with("its quota is 34 MiB"));
        let most = Account { namespace: "shop", bytes: u64::MAX, slices: u64::MAX };
        assert!(check(Demand { bytes: u64::MAX, ..demand }, most, u64::MAX).is_ok());
    }
}
