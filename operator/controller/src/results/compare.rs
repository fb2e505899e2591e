//! What does a comparison of stored profiles say, and do functions grow in them?

use std::time::{Duration, Instant};

use fleetprof_core::session::{Comparing, StoredCapture, Watching};
use fleetprof_profile::ProfileKind;
use fleetprof_profile::trend::{self, Trend};
use fleetprof_profile::verdict::{MAX_CAPTURES, PodCapture, Verdict, verdict};
use tracing::warn;

use super::Results;
use super::error::ResultsError;
use super::key::{Key, session_component};
use super::pprof::{profile_limits, read};
use super::store::Store;

/// Longest time for the comparison of a session that ends, once it is its turn.
const END_TIME: Duration = Duration::from_secs(60);

impl Results {
    /// The verdict on these captures, for a session that ends. It runs where it may block, in turn with all other
    /// merges: profiles are read one by one, and only sums by function are kept of each, at most 1.2 MB.
    /// Profiles that are gone are left out.
    ///
    /// # Errors
    /// `Busy`: it takes longer than a minute. `Rejected`: a profile is not of CPU time. `Io`.
    pub async fn compare(&self, comparing: Comparing) -> Result<Verdict, ResultsError> {
        self.run(&self.merges, move |store| store.compare(&comparing, Instant::now() + END_TIME)).await
    }

    /// What a look for growth comes to, for a session that ends. Profiles are read as those of a comparison.
    ///
    /// # Errors
    /// `Busy`: it takes longer than a minute. `Rejected`: a profile is not of the kind. `Io`.
    pub async fn watch(&self, watching: Watching) -> Result<Trend, ResultsError> {
        self.run(&self.merges, move |store| store.watch(&watching, Instant::now() + END_TIME)).await
    }

    /// The same as [`compare`](Self::compare) for a reader, when it is the turn of its namespace; `session_uid` is of a session there, and `until` is when
    /// the reader is given up.
    ///
    /// # Errors
    /// As [`compare`](Self::compare); `Busy`: also where too many readers wait already.
    pub async fn compare_for_reader(
        &self,
        session_uid: &str,
        comparing: Comparing,
        until: Instant,
    ) -> Result<Verdict, ResultsError> {
        self.read(session_uid, until, move |store| store.compare(&comparing, until)).await
    }
}

/// What a stored profile that is none does to what is read beside it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unreadable {
    Fails,
    IsLeftOut,
}

impl Store {
    fn compare(&self, comparing: &Comparing, until: Instant) -> Result<Verdict, ResultsError> {
        let captures = self.captures(&comparing.captures, ProfileKind::Cpu, until, Unreadable::Fails)?;
        Ok(verdict(&captures, &comparing.settings, comparing.seed))
    }

    fn watch(&self, watching: &Watching, until: Instant) -> Result<Trend, ResultsError> {
        let Watching { subject, captures, loads, settings, seed, .. } = watching;
        // Of each session one number is kept, before the profiles that are looked at are read.
        let loads = self.captures(loads, ProfileKind::Cpu, until, Unreadable::IsLeftOut)?;
        let loads = trend::loads(&loads, settings);
        // A session of many that cannot be read would else end every look that it is part of.
        let captures = self.captures(captures, subject.kind, until, Unreadable::IsLeftOut)?;
        Ok(trend::trend(subject.kind, &captures, &loads, settings, *seed))
    }

    /// Captures by function, one after the other.
    fn captures(
        &self,
        stored: &[StoredCapture],
        kind: ProfileKind,
        until: Instant,
        unreadable: Unreadable,
    ) -> Result<Vec<PodCapture>, ResultsError> {
        let mut captures = Vec::new();
        for one in stored.iter().take(2 * MAX_CAPTURES) {
            if Instant::now() >= until {
                let profiles = stored.len();
                return Err(ResultsError::Busy(format!(
                    "{profiles} profiles could not be read in time: compare fewer pods or sessions"
                )));
            }
            match self.capture(one, kind) {
                Err(ResultsError::Rejected(why)) if unreadable == Unreadable::IsLeftOut => {
                    warn!(%why, "left out a profile that cannot be read");
                }
                capture => captures.extend(capture?),
            }
        }
        Ok(captures)
    }

    /// One capture by function; `None` where its profile is gone.
    fn capture(&self, stored: &StoredCapture, kind: ProfileKind) -> Result<Option<PodCapture>, ResultsError> {
        let session = session_component(&stored.session_uid);
        let known = |key: &Key| key.as_str() == stored.uri;
        let key = self.index().profiles(&session).map(|(key, _)| key.clone()).find(known);
        let Some(key) = key else { return Ok(None) };
        let bytes = match self.read_profile(&key) {
            Err(ResultsError::Missing(_)) => return Ok(None),
            bytes => bytes?,
        };
        let profile = read(&bytes, &profile_limits(), key.as_str())?;
        let rejected = |error| ResultsError::Rejected(format!("the stored profile {key}: {error}"));
        let mut capture = PodCapture::of_kind(&profile, kind, stored.about.clone()).map_err(rejected)?;
        let about = &mut capture.about;
        if profile.duration_nanos > 0 {
            about.pod_seconds = profile.duration_nanos as f64 / 1e9;
        }
        // What the container used is known by the share of it that the profile holds.
        let covered = about.coverage.filter(|share| *share > 0 && kind == ProfileKind::Cpu);
        about.cpu_seconds = covered.map(|share| capture.value as f64 / 1e9 * 100.0 / f64::from(share));
        Ok(Some(capture))
    }
}
