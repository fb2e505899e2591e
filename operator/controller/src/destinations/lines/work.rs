//! What does each line do all the time? It sends, checks, and deletes.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use fleetprof_core::outbox::Attempt;
use fleetprof_crds::Reason;
use jiff::Timestamp;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::{Line, Wake};
use crate::destinations::transfers::Transfers;
use crate::destinations::{ArchiveError, Destination, DestinationMetrics, Parcel, session_of};

/// Longest attempt; destinations have shorter limits of their own.
const ATTEMPT: Duration = Duration::from_secs(150);
/// How often the metrics are brought up to date.
const LEVEL: Duration = Duration::from_secs(5);
/// How often a destination is checked, in units of [`LEVEL`].
const CHECK: u32 = 12;
/// How long is waited after a key could not be deleted.
const DELETE_AGAIN: Duration = Duration::from_secs(30);
/// What is younger is left alone: its session may not have reached this leader's watch.
const YOUNG: Duration = Duration::from_secs(3600);

/// Where profiles are sent from.
pub(super) struct Source {
    pub(super) volume: Arc<dyn Destination>,
    pub(super) transfers: Transfers,
}

/// Sends what waits, as the outbox says.
pub(super) async fn send_forever(
    line: Arc<Line>,
    from: Source,
    metrics: DestinationMetrics,
    wake: Wake,
) -> anyhow::Result<()> {
    let send = |parcel| send(&line, &from, parcel);
    let note = |parcel: &Parcel, attempt: &Attempt| note(&line, parcel, attempt, &metrics);
    line.outgoing.send_forever(send, note, |parcel| wake(&parcel.namespace, &parcel.session)).await
}

/// One attempt. Waiting for room is none.
async fn send(line: &Line, from: &Source, parcel: Parcel) -> (Parcel, Attempt) {
    let merges = line.destination.archive().is_none();
    let _room = from.transfers.take(parcel.bytes, merges).await;
    let lost = |why: ArchiveError| match why {
        ArchiveError::Missing(why) => Attempt::Failed(Reason::StorageLost, why),
        ArchiveError::Failed(why) => Attempt::Again(why, None),
    };
    let attempt = async {
        let Some(held) = from.volume.archive() else {
            return Attempt::Again("the results volume cannot be read".to_owned(), None);
        };
        match held.get(&parcel.key).await {
            Ok(profile) => line.destination.put(&parcel, profile).await,
            Err(error) => lost(error),
        }
    };
    let late = |_| Attempt::Again(format!("no answer within {} s", ATTEMPT.as_secs()), None);
    let attempt = timeout(ATTEMPT, attempt).await.unwrap_or_else(late);
    (parcel, attempt)
}

fn note(line: &Line, parcel: &Parcel, attempt: &Attempt, metrics: &DestinationMetrics) {
    let outcome = match attempt {
        Attempt::Stored => "stored",
        Attempt::Again(why, _) => {
            tracing::warn!(
                fleetprof.destination = line.name,
                fleetprof.profile = parcel.key,
                error = why,
                "failed to store a profile; retrying"
            );
            "failed"
        }
        Attempt::Failed(_, why) => {
            tracing::error!(
                fleetprof.destination = line.name,
                fleetprof.profile = parcel.key,
                error = why,
                "a profile is not stored in the destination"
            );
            "rejected"
        }
    };
    metrics.attempt(&line.name, outcome);
}

/// Checks whether profiles would be stored, at the start and once a minute.
pub(super) async fn check_forever(line: Arc<Line>, metrics: DestinationMetrics) -> anyhow::Result<()> {
    let mut tick = interval(LEVEL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut ticks, mut dropped) = (0_u32, 0);
    loop {
        tick.tick().await;
        if ticks % CHECK == 0 {
            check(&line, &metrics).await;
        }
        ticks = ticks.wrapping_add(1);
        let (backlog, oldest, dropped_now) = {
            let outbox = line.outbox();
            (outbox.backlog(), outbox.oldest(), outbox.dropped())
        };
        let age = oldest.map_or(0, |since| Timestamp::now().duration_since(since).as_secs().max(0));
        metrics.level(&line.name, backlog, age);
        let more = dropped_now.saturating_sub(dropped);
        metrics.dropped(&line.name, more);
        if more > 0 {
            tracing::error!(
                fleetprof.destination = line.name,
                profiles = more,
                "too many profiles wait for the destination; the oldest are not sent any more"
            );
        }
        dropped = dropped_now;
    }
}

async fn check(line: &Line, metrics: &DestinationMetrics) {
    let found = line.destination.check().await.err();
    metrics.up(&line.name, found.is_none());
    let before = std::mem::replace(&mut *line.problem(), found.clone());
    match (before, found) {
        (_, Some(error)) => tracing::warn!(
            fleetprof.destination = line.name,
            error,
            "the destination does not accept profiles; they wait on the results volume"
        ),
        (Some(_), None) => {
            tracing::info!(fleetprof.destination = line.name, "the destination accepts profiles again");
        }
        (None, None) => {}
    }
}

/// Deletes what waits to be deleted, and tries again what could not be.
pub(super) async fn delete_forever(line: Arc<Line>) -> anyhow::Result<()> {
    loop {
        let Some(key) = line.gone().pop_front() else {
            line.deleted.notified().await;
            continue;
        };
        let Some(archive) = line.destination.archive() else { continue };
        if let Err(ArchiveError::Failed(error)) = archive.delete(&key).await {
            tracing::warn!(fleetprof.destination = line.name, error, "failed to delete a profile; retrying");
            line.gone().push_back(key);
            sleep(DELETE_AGAIN).await;
        }
    }
}

/// Deletes what no session belongs to.
pub(super) async fn search(line: Arc<Line>, live: Arc<HashSet<String>>, metrics: DestinationMetrics) {
    let Some(archive) = line.destination.archive() else { return };
    let is_gone = |key: &str| session_of(key).is_some_and(|session| !live.contains(session));
    match archive.list("", &is_gone, YOUNG).await {
        Ok(keys) => {
            metrics.swept(&line.name, keys.len());
            keys.into_iter().for_each(|key| line.delete(key));
        }
        Err(error) => {
            tracing::warn!(
                fleetprof.destination = line.name,
                %error,
                "failed to look for profiles without a session; trying again in hours"
            );
        }
    }
}
