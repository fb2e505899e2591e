//! How much of a request's body is read, for how long, and within which memory?
//!
//! A body takes its share of a budget in bytes before they are read. Where the budget is taken up by others,
//! the caller whose bodies are the largest together gives up one of them: a small body is always read.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use futures::stream;
use http_body_util::BodyExt;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::proof::{Holder, Proof};
use super::shares::{Place, Shares};
use crate::permits::NoPermit;

/// Memory that is taken before the first byte has come, whatever length is announced, and the least step by
/// which it grows.
const STEP: usize = 16 * 1024;
/// Bytes of an answer that are handed on at a time.
const PART: usize = 64 << 10;

/// How fast a body must come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Time that every body has.
    pub(crate) grace: Duration,
    /// With each so many bytes that have come it has a second more; 0: it has not.
    pub(crate) bytes_per_second: u32,
}

impl Pace {
    /// A body that may take so long, whatever its size.
    pub(crate) const fn within(grace: Duration) -> Self {
        Self { grace, bytes_per_second: 0 }
    }

    /// How long a body may have taken of which so many bytes have come.
    fn allows(self, read: usize) -> Duration {
        match self.bytes_per_second {
            0 => self.grace,
            rate => self.grace + Duration::from_secs_f64(read as f64 / f64::from(rate)),
        }
    }
}

/// Why a body was not read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyError {
    /// It has more bytes than it may have.
    TooLarge,
    /// It did not come in time.
    TooSlow,
    /// It ended early.
    Incomplete,
    /// The caller's bodies, or all bodies, take all the memory that they may take.
    NoRoom(NoPermit),
}

/// The memory for bodies of one server. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Bodies {
    shares: Shares<Holder>,
    /// Bytes that are not taken: a body that has to make room holds its memory until its task comes to know.
    free: Arc<Semaphore>,
}

/// A body that was read, with the memory that it takes.
#[derive(Debug)]
pub(crate) struct HeldBody {
    /// All of it.
    pub(crate) bytes: Bytes,
    room: Room,
}

/// Memory that was taken.
#[derive(Debug)]
struct Room {
    place: Place<Holder>,
    free: Arc<Semaphore>,
    taken: OwnedSemaphorePermit,
}

impl Room {
    /// Takes so many bytes more.
    async fn grow(&mut self, bytes: usize) -> Result<(), NoPermit> {
        self.place.grow(bytes)?;
        let more = take(&self.free, bytes).await?;
        self.taken.merge(more);
        Ok(())
    }
}

/// Waits until those who had to make room for it have done so.
async fn take(free: &Arc<Semaphore>, bytes: usize) -> Result<OwnedSemaphorePermit, NoPermit> {
    let permits = u32::try_from(bytes).unwrap_or(u32::MAX);
    free.clone().acquire_many_owned(permits).await.map_err(|_| NoPermit::ForAnyone)
}

/// The memory of an answer that was not taken yet.
#[derive(Debug)]
pub(crate) struct HeldAnswer(#[expect(dead_code, reason = "given back when dropped")] Place<Holder>);

impl HeldAnswer {
    /// Hands on what is in memory, a part at a time.
    pub(crate) fn body(self, bytes: Bytes) -> Body {
        let parts = stream::unfold((bytes, self), |(mut bytes, held)| async move {
            // A copy: a part of the bytes would keep all of them until the last part was taken.
            let part = Bytes::copy_from_slice(&bytes.split_to(PART.min(bytes.len())));
            (!part.is_empty()).then_some((Ok::<_, Infallible>(part), (bytes, held)))
        });
        Body::from_stream(parts)
    }
}

impl HeldBody {
    /// Takes `bytes` more for what is made of the body.
    ///
    /// # Errors
    /// The budget is used up.
    pub(crate) async fn grow(&mut self, bytes: usize) -> Result<(), NoPermit> {
        self.room.grow(bytes).await
    }
}

impl Bodies {
    /// At most `each` bytes for the bodies of one caller, and `all` bytes for those of all.
    pub(crate) fn new(each: usize, all: usize) -> Self {
        Self { shares: Shares::new(each, all), free: Arc::new(Semaphore::new(all)) }
    }

    /// Memory for the answer to a request. When it has to be given up, the connection is closed: nothing else
    /// stops an answer that nobody takes.
    pub(crate) fn answer(
        &self,
        holder: &Holder,
        bytes: usize,
        proof: &Proof,
    ) -> Result<HeldAnswer, NoPermit> {
        self.shares.take(holder, bytes, &proof.gone()).map(HeldAnswer)
    }

    /// Reads a body of at most `most` bytes that arrives at this pace. An announced length that is too large is
    /// refused before anything is read.
    pub(crate) async fn read(
        &self,
        holder: &Holder,
        body: Body,
        most: usize,
        pace: Pace,
    ) -> Result<HeldBody, BodyError> {
        let announced = body.size_hint();
        if announced.lower() > most as u64 {
            return Err(BodyError::TooLarge);
        }
        let most = most.min(announced.upper().and_then(|upper| usize::try_from(upper).ok()).unwrap_or(most));
        let gone = Arc::new(Notify::new());
        let place = self.shares.take(holder, STEP.min(most), &gone).map_err(BodyError::NoRoom)?;
        let read = async {
            let taken = take(&self.free, STEP.min(most)).await.map_err(BodyError::NoRoom)?;
            let mut room = Room { place, free: self.free.clone(), taken };
            let bytes = collect(body, most, pace, Some(&mut room)).await?;
            Ok(HeldBody { bytes, room })
        };
        // Until it was read it can be given up; what is made of it cannot be stopped.
        let held = tokio::select! {
            read = read => read?,
            () = gone.notified() => return Err(BodyError::NoRoom(NoPermit::ForAnyone)),
        };
        held.room.place.set_busy(true);
        Ok(held)
    }
}

/// Reads a body for which there is room already.
pub(crate) async fn read(body: Body, most: usize, pace: Pace) -> Result<Bytes, BodyError> {
    if body.size_hint().lower() > most as u64 {
        return Err(BodyError::TooLarge);
    }
    collect(body, most, pace, None).await
}

/// The most bytes that a body can have: what it announces, cut at `most`.
pub(crate) fn size(body: &Body, most: usize) -> u64 {
    body.size_hint().upper().unwrap_or(u64::MAX).min(most as u64)
}

async fn collect(
    mut body: Body,
    most: usize,
    pace: Pace,
    mut room: Option<&mut Room>,
) -> Result<Bytes, BodyError> {
    let begun = Instant::now();
    // In parts: what grows as a whole is copied and takes three times its size meanwhile, and a large part would
    // take memory before it is filled.
    let (mut parts, mut length): (Vec<Vec<u8>>, usize) = (vec![Vec::with_capacity(STEP.min(most))], 0);
    while let Some(frame) =
        timeout_at(begun + pace.allows(length), body.frame()).await.map_err(|_| BodyError::TooSlow)?
    {
        let frame = frame.map_err(|_| BodyError::Incomplete)?.into_data().unwrap_or_default();
        let mut data: &[u8] = &frame;
        length += data.len();
        if length > most {
            return Err(BodyError::TooLarge);
        }
        while !data.is_empty() {
            let space = parts.last().map_or(0, |part| part.capacity() - part.len());
            if space == 0 {
                grow(&mut room, STEP).await?;
                parts.push(Vec::with_capacity(STEP));
            }
            let (now, later) = data.split_at(data.len().min(if space == 0 { STEP } else { space }));
            if let Some(part) = parts.last_mut() {
                part.extend_from_slice(now);
            }
            data = later;
        }
    }
    if parts.len() == 1 {
        return Ok(parts.pop().unwrap_or_default().into());
    }
    grow(&mut room, length).await?;
    Ok(parts.concat().into())
}

async fn grow(room: &mut Option<&mut Room>, bytes: usize) -> Result<(), BodyError> {
    match room.as_mut() {
        Some(room) => room.grow(bytes).await.map_err(BodyError::NoRoom),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;

    use super::*;

    const PACE: Pace = Pace { grace: Duration::from_secs(10), bytes_per_second: 64 * 1024 };

    #[test]
    fn what_has_come_buys_time() {
        let cases = [
            (PACE, 0, 10),
            (PACE, 64 * 1024, 11),
            (PACE, 4 << 20, 74),
            (Pace::within(Duration::from_secs(5)), 4 << 20, 5),
        ];
        for (pace, read, seconds) in cases {
            assert_eq!(pace.allows(read), Duration::from_secs(seconds), "{read}");
        }
    }

    #[tokio::test]
    async fn a_slow_body_is_taken_and_one_that_trickles_is_not() {
        let pace = Pace { grace: Duration::from_secs(1), bytes_per_second: 64 * 1024 };
        for (bytes, taken) in [(10 * 1024, true), (100, false)] {
            let begun = Instant::now();
            let parts = futures::stream::iter(0..30).then(move |_| async move {
                tokio::time::sleep(Duration::from_millis(100)).await;
                Ok::<_, std::io::Error>(vec![0; bytes])
            });
            let read = read(Body::from_stream(parts), usize::MAX, pace).await;
            assert_eq!(
                (read.is_ok(), begun.elapsed().as_millis() < 2700),
                (taken, !taken),
                "{bytes} {:?}",
                begun.elapsed()
            );
        }
    }

    fn peer(n: u8) -> Holder {
        Holder::of([10, 0, 0, n].into())
    }

    /// A body of which so many bytes come, and then nothing.
    fn half(bytes: usize) -> Body {
        let part = futures::stream::iter([Ok::<_, std::io::Error>(vec![7; bytes])]);
        Body::from_stream(part.chain(futures::stream::pending()))
    }

    #[tokio::test]
    async fn half_sent_bodies_of_others_give_way_to_a_whole_one() {
        let bodies = Bodies::new(256 << 10, 512 << 10);
        let most = 1 << 20;
        let attack = |n| {
            let bodies = bodies.clone();
            tokio::spawn(async move { bodies.read(&peer(n), half(256 << 10), most, PACE).await })
        };
        let attackers = [attack(1), attack(2)];
        tokio::time::sleep(Duration::from_millis(100)).await;
        let whole = bodies.read(&peer(3), Body::from(vec![1; 60 << 10]), most, PACE).await.unwrap();
        assert_eq!(whole.bytes.len(), 60 << 10);
        let finished = attackers.iter().filter(|attacker| attacker.is_finished()).count();
        assert_eq!(finished, 1, "one of them is enough");
        let mut more = bodies.read(&peer(4), Body::from(vec![1; 100 << 10]), most, PACE).await.unwrap();
        for attacker in attackers {
            let gone = tokio::time::timeout(Duration::from_secs(1), attacker).await.unwrap().unwrap();
            assert_eq!(gone.err(), Some(BodyError::NoRoom(NoPermit::ForAnyone)));
        }
        assert!(more.grow(10 << 10).await.is_ok());
        assert_eq!(more.grow(40 << 10).await.err(), Some(NoPermit::ForHolder));
    }

    #[tokio::test]
    async fn an_announced_length_is_not_taken_before_it_comes() {
        let bodies = Bodies::new(128 << 10, 128 << 10);
        let read = async |body: Vec<u8>, most| bodies.read(&peer(1), Body::from(body), most, PACE).await;
        assert_eq!(read(vec![0; 9], 8).await.err(), Some(BodyError::TooLarge));
        assert_eq!(
            read(vec![0; 65 << 10], 1 << 20).await.err(),
            Some(BodyError::NoRoom(NoPermit::ForHolder))
        );
        let held = read(vec![0; 64 << 10], 1 << 20).await.unwrap();
        assert_eq!(read(vec![0; 1], 8).await.err(), Some(BodyError::NoRoom(NoPermit::ForHolder)));
        drop(held);
        assert!(read(Vec::new(), 8).await.is_ok());
    }
}
