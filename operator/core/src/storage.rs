//! Which namespace may write to the results volume, and whose results are deleted when it fills up?
//!
//! ```text
//!                                   no room                       still no room
//! slice ─► waiting slices in share? ───────► evict, namespace by ─────────────► refused
//!              │ no                          namespace: the furthest            NamespaceStorageFull or
//!              └► NamespaceStorageFull       over its share, oldest first       StorageFull
//! ```
//! Every namespace has the same share. It may keep more than that while nobody needs the space; under pressure
//! only what is over a share goes. Slices that wait to be assembled cannot be evicted, so they stay within the
//! share of their namespace at all times.

pub mod quota;
pub mod uploads;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::SystemTime;

use fleetprof_crds::Reason;
use fleetprof_crds::names::KEEP_ANNOTATION;
use fleetprof_crds::wire::Problem;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// Part of the volume that slices never take, in percent: profiles are assembled there.
pub const ROOM_PERCENT: u64 = 12;
/// Part of the volume beside that room that is kept free by evicting results, in percent.
pub const MARGIN_PERCENT: u64 = 5;

/// Whether somebody with the right to do so wants the session with this metadata and its results kept until the
/// annotation `fleetprof.dev/keep` is removed.
#[must_use]
pub fn is_kept(meta: &ObjectMeta) -> bool {
    meta.annotations.as_ref().is_some_and(|all| all.contains_key(KEEP_ANNOTATION))
}

/// The volume, in bytes as the disk counts them: blocks of files and folders.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Volume {
    /// Taken by results.
    pub used: u64,
    /// May still be written.
    pub free: u64,
    /// Its size, whoever uses it.
    pub total: u64,
}

impl Volume {
    /// What results may take at most: the size without what others use.
    fn ours(self) -> u64 {
        self.used.saturating_add(self.free)
    }
}

/// What a slice needs, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Demand {
    /// The slice itself, with its folders.
    pub bytes: u64,
    /// Other files that are being written.
    pub writing: u64,
    /// The largest capture, this slice included: so much is needed once more to assemble it.
    pub largest: u64,
}

/// What the namespace of a slice has, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account<'a> {
    /// The namespace.
    pub namespace: &'a str,
    /// All that it keeps.
    pub bytes: u64,
    /// The part of it that waits to be assembled.
    pub slices: u64,
}

/// The results of a session that can be evicted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Namespace of the session.
    pub namespace: String,
    /// The session.
    pub session: String,
    /// Whether all of it lies in another destination as well.
    pub copy: bool,
    /// Whether the session has the annotation `fleetprof.dev/keep`.
    pub keep: bool,
    /// Bytes that come free.
    pub bytes: u64,
    /// When its newest file was written.
    pub written: SystemTime,
}

/// The share of each namespace in bytes: `percent` of the volume, or an equal part of what may be filled where
/// that is less. So while a volume is full of results, somebody is over the share; where others have filled it,
/// nobody need be.
#[must_use]
pub fn share(volume: Volume, percent: u8, namespaces: usize) -> u64 {
    let equal = part(volume.total, 100 - ROOM_PERCENT - MARGIN_PERCENT) / (namespaces.max(1) as u64);
    part(volume.total, percent.into()).min(equal)
}

/// How many bytes have to be freed before the slice is stored with the margin to spare; 0 without pressure.
#[must_use]
pub fn pressure(volume: Volume, demand: Demand) -> u64 {
    let margin = part(volume.ours(), MARGIN_PERCENT);
    needed(volume, demand).saturating_add(margin).saturating_sub(volume.free)
}

/// Sessions whose results leave the volume, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evictions {
    /// Those of which another destination holds everything.
    pub copies: Vec<String>,
    /// Those of which nothing is left.
    pub lost: Vec<String>,
}

impl Evictions {
    /// All of them.
    #[must_use]
    pub fn all(self) -> Vec<String> {
        [self.copies, self.lost].concat()
    }
}

/// The sessions whose results are evicted to free `need` bytes. Copies of what lies elsewhere go
/// first, the oldest first: nobody loses anything. Of the rest, only namespaces over the share
/// lose anything, the one furthest over it first, and each only until it is no longer over it; what
/// somebody wants kept is the last of its namespace to go.
#[must_use]
pub fn evictions(need: u64, share: u64, accounts: &BTreeMap<String, u64>, kept: Vec<Kept>) -> Evictions {
    let mut left: BTreeMap<String, Vec<Kept>> = BTreeMap::new();
    let (copies, kept): (Vec<Kept>, Vec<Kept>) = kept.into_iter().partition(|result| result.copy);
    let (mut accounts, mut freed, copies) = remove_copies(need, accounts.clone(), copies);
    let mut lost = Vec::new();
    for result in kept {
        left.entry(result.namespace.clone()).or_default().push(result);
    }
    // The oldest last, to be taken from there.
    let order = |r: &Kept| (Reverse(r.keep), Reverse(r.written), r.session.clone());
    left.values_mut().for_each(|results| results.sort_by_key(order));
    while freed < need {
        let over = left.iter().filter(|(_, results)| !results.is_empty()).filter_map(|(namespace, _)| {
            accounts.get(namespace).filter(|bytes| **bytes > share).map(|bytes| (*bytes, namespace.clone()))
        });
        let Some((bytes, namespace)) = over.max() else { break };
        let Some(oldest) = left.get_mut(&namespace).and_then(Vec::pop) else { break };
        accounts.insert(namespace, bytes.saturating_sub(oldest.bytes));
        freed = freed.saturating_add(oldest.bytes);
        lost.push(oldest.session);
    }
    Evictions { copies, lost }
}

/// The oldest copies up to `need` bytes; with what is left to the namespaces, and what came free.
fn remove_copies(
    need: u64,
    mut accounts: BTreeMap<String, u64>,
    mut copies: Vec<Kept>,
) -> (BTreeMap<String, u64>, u64, Vec<String>) {
    copies.sort_by_key(|copy| (copy.written, copy.session.clone()));
    let (mut freed, mut evicted) = (0_u64, Vec::new());
    for copy in copies {
        if freed >= need {
            break;
        }
        freed = freed.saturating_add(copy.bytes);
        accounts.entry(copy.namespace).and_modify(|bytes| *bytes = bytes.saturating_sub(copy.bytes));
        evicted.push(copy.session);
    }
    (accounts, freed, evicted)
}

/// Whether the slices of the namespace that wait to be assembled stay within its share with the new one.
///
/// # Errors
/// `NamespaceStorageFull`.
pub fn check_waiting(demand: Demand, account: Account<'_>, share: u64) -> Result<(), Problem> {
    if account.slices.saturating_add(demand.bytes) <= share {
        return Ok(());
    }
    Err(namespace_full(account, "share", share))
}

/// Whether the slice is stored, after what can be evicted is evicted.
///
/// # Errors
/// `NamespaceStorageFull` where its namespace is over its share, else `StorageFull`.
pub fn check_room(volume: Volume, demand: Demand, account: Account<'_>, share: u64) -> Result<(), Problem> {
    if needed(volume, demand) <= volume.free {
        return Ok(());
    }
    if account.bytes.saturating_add(demand.bytes) > share {
        return Err(namespace_full(account, "share", share));
    }
    let message =
        format!("the results volume is full: {} are free of {}", size(volume.free), size(volume.total));
    Err(Problem { reason: Reason::StorageFull, message })
}

/// That a namespace has no room within its `limit`, which is its share or its quota, of `most` bytes.
fn namespace_full(account: Account<'_>, limit: &str, most: u64) -> Problem {
    let Account { namespace, bytes, slices } = account;
    let message = format!(
        "namespace {namespace} keeps {} on the results volume, {} of it in captures that are not assembled yet, \
         and its {limit} is {}",
        size(bytes),
        size(slices),
        size(most)
    );
    Problem { reason: Reason::NamespaceStorageFull, message }
}

/// The free space that the slice and the profiles after it need.
fn needed(volume: Volume, demand: Demand) -> u64 {
    let room = part(volume.ours(), ROOM_PERCENT).max(demand.largest);
    demand.bytes.saturating_add(demand.writing).saturating_add(room)
}

fn part(total: u64, percent: u64) -> u64 {
    u64::try_from(u128::from(total) * u128::from(percent) / 100).unwrap_or(u64::MAX)
}

/// A size for people: whole KiB below 10 MiB, else whole MiB.
fn size(bytes: u64) -> String {
    match bytes {
        0..0xA0_0000 => format!("{} KiB", bytes >> 10),
        _ => format!("{} MiB", bytes >> 20),
    }
}

#[cfg(test)]
mod tests;
