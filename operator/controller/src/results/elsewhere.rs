//! What of the results lies in other destinations, and how does it come back for a reader?
//!
//! The status of a session says where its profiles are. The volume may hold copies of them, which go first when it
//! fills up; a reader of one that is gone waits until it is fetched.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use fleetprof_core::capture::CaptureScope;
use fleetprof_core::destination::{Delivery, Withdrawal};
use fleetprof_core::outbox::Attempt;
use fleetprof_crds::names::SHORT_CONTAINER_ID;
use fleetprof_crds::session_status::StoredProfile;
use fleetprof_crds::{ProfileKind, ProfileSession, Reason};
use futures::{StreamExt, TryStreamExt, stream};
use kube::ResourceExt;

use super::error::ResultsError;
use super::file::Volume;
use super::key::{Key, cluster_component, container_prefix, session_component};
use super::read::too_slow;
use super::{Results, ResultsConfig};
use crate::destinations::{ArchiveError, Destination, Destinations, Parcel, Target};

/// Profiles that are fetched side by side for one reader.
const SIDE_BY_SIDE: usize = 4;
/// Longest time to fetch what a reader asks for, in which the API server does not give up.
const FETCH: Duration = Duration::from_secs(40);

impl ResultsConfig {
    /// The first part of every key.
    #[must_use]
    pub fn cluster_component(&self) -> String {
        cluster_component(&self.cluster)
    }
}

impl Results {
    /// The destinations.
    #[must_use]
    pub const fn destinations(&self) -> &Destinations {
        &self.destinations
    }

    /// Sends a profile of the session to a destination, or says what became of that.
    #[must_use]
    pub fn deliver(&self, session: &ProfileSession, profile: &StoredProfile, destination: &str) -> Delivery {
        match self.lost(profile, destination) {
            Some(lost) => lost,
            None => self.destinations.deliver(destination, parcel(session, profile)),
        }
    }

    /// Takes a profile of the session back that is not to be sent to the destination any more, but for one attempt
    /// where there was none.
    #[must_use]
    pub fn withdraw(
        &self,
        session: &ProfileSession,
        profile: &StoredProfile,
        destination: &str,
    ) -> Withdrawal {
        match self.lost(profile, destination) {
            Some(lost) => Withdrawal::Settled(lost),
            None => self.destinations.withdraw(destination, parcel(session, profile)),
        }
    }

    /// A status of an earlier leader may name a volume that this one does not have.
    fn lost(&self, profile: &StoredProfile, destination: &str) -> Option<Delivery> {
        let is_lost = self.destinations.is_volume(destination) && !self.holds(&profile.uri);
        let why = "the results volume does not hold it; it was probably replaced";
        is_lost.then(|| Delivery::Failed(Reason::StorageLost, why.to_owned()))
    }

    /// Brings those of the profiles back to the volume that it does not hold, from where their status says that
    /// they are, `until` then at most.
    ///
    /// # Errors
    /// `Missing`: one is nowhere. `Full`, `Io`: the volume, or a destination, failed. `Busy`: it takes too long.
    pub async fn fetch(
        &self,
        session: &ProfileSession,
        profiles: Vec<StoredProfile>,
        until: Instant,
    ) -> Result<(), ResultsError> {
        let missing = profiles.into_iter().filter(|profile| !self.holds(&profile.uri));
        let fetches: Vec<_> = missing.map(|profile| self.fetch_one(session, profile)).collect();
        let all = stream::iter(fetches).buffer_unordered(SIDE_BY_SIDE).try_collect::<Vec<()>>();
        let done = tokio::time::timeout_at(until.min(Instant::now() + FETCH).into(), all).await;
        done.unwrap_or_else(|_| Err(too_slow())).map(|_| ())
    }

    fn holds(&self, uri: &str) -> bool {
        Key::parse(uri).is_ok_and(|key| self.store.index().has(&key))
    }

    async fn fetch_one(&self, session: &ProfileSession, profile: StoredProfile) -> Result<(), ResultsError> {
        let _room = self.destinations.room(u64::try_from(profile.bytes).unwrap_or(0)).await;
        let bytes = self.destinations.get(&profile.destinations, &profile.uri).await;
        let bytes = bytes.map_err(|error| match error {
            ArchiveError::Missing(why) => ResultsError::Missing(format!(
                "the results volume holds the profile {} no more, and {why}: it was removed, evicted because the \
                 namespace was over its share, or the volume was replaced",
                profile.uri
            )),
            ArchiveError::Failed(why) => ResultsError::Busy(format!("{why}: try again")),
        })?;
        match Volume(self.store.clone()).put(&parcel(session, &profile), bytes).await {
            Attempt::Stored => Ok(()),
            Attempt::Again(why, _) | Attempt::Failed(_, why) => Err(ResultsError::Io(why)),
        }
    }

    /// The profile of one kind of a capture, where a leader that could not write that down left it in the
    /// destination, and the volume was not its; `None`: there is none.
    ///
    /// # Errors
    /// `Busy`: the destination does not answer. `Full`, `Io`: the volume.
    pub async fn recall(
        &self,
        session: &ProfileSession,
        scope: &CaptureScope,
        kind: ProfileKind,
        destination: &str,
    ) -> Result<Option<StoredProfile>, ResultsError> {
        if !self.destinations.archives().contains(destination) {
            return Ok(None);
        }
        let uri = self.store.key(scope, kind).as_str().to_owned();
        let destinations = vec![destination.to_owned()];
        let wanted = StoredProfile { kind, uri, bytes: 0, samples: 0, destinations, failed: Vec::new() };
        let fetched = tokio::time::timeout(FETCH, self.fetch_one(session, wanted)).await;
        match fetched.unwrap_or_else(|_| Err(too_slow())) {
            Ok(()) => self.assemble(scope, kind, 0).await.map(Some),
            Err(ResultsError::Missing(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The sessions of which the volume holds mere copies.
    #[cfg(test)]
    pub(crate) fn copies(&self) -> Vec<String> {
        let kept = self.store.index().kept();
        kept.into_iter().filter(|kept| kept.copy).map(|kept| kept.session).collect()
    }

    /// Forgets what belongs to sessions that are gone, in every destination but the volume. `live` holds the uids
    /// of **every** session of the cluster.
    pub fn sweep_elsewhere(&self, live: &HashSet<String>) {
        let live: HashSet<String> = live.iter().map(|uid| session_component(uid)).collect();
        self.retain_intake(&live);
        self.destinations.sweep(live);
    }
}

fn parcel(session: &ProfileSession, profile: &StoredProfile) -> Parcel {
    Parcel {
        key: profile.uri.clone(),
        kind: profile.kind,
        namespace: session.namespace().unwrap_or_default(),
        session: session.name_any(),
        bytes: u64::try_from(profile.bytes).unwrap_or(0),
        target: target(session, profile),
    }
}

/// What the profile is of, by the name of its file; nothing when the status does not have that target.
fn target(session: &ProfileSession, profile: &StoredProfile) -> Target {
    let file = profile.uri.rsplit('/').next().unwrap_or_default();
    let mut targets = session.status.iter().flat_map(|status| &status.targets);
    let found = targets.find(|target| file.starts_with(&container_prefix(&target.pod, &target.container)));
    found.map_or_else(Target::default, |target| Target {
        workload: target.workload.as_str().into(),
        pod_uid: target.pod_uid.as_str().into(),
        container_id: Some(target.container_id.as_str())
            // What is as short may be cut.
            .filter(|id| id.len() > SHORT_CONTAINER_ID)
            .unwrap_or_default()
            .into(),
    })
}
