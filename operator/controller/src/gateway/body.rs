//! How much of a request's body is read, and for how long?

use std::time::Duration;

use axum::body::{Body, HttpBody};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use tokio::time::{Instant, timeout_at};

use super::refuse::Refusal;

/// Memory that is taken before the first byte has come, whatever length is announced.
const FIRST: usize = 16 * 1024;

/// How fast a body must come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// Time that every body has.
    pub(super) grace: Duration,
    /// With each so many bytes that have come it has a second more; 0: it has not.
    pub(super) bytes_per_second: u32,
}

impl Pace {
    /// A body that may take so long, whatever its size.
    pub(super) const fn within(grace: Duration) -> Self {
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

/// The most bytes that a body can have: what it announces, cut at `most`.
pub(super) fn size(body: &Body, most: usize) -> u64 {
    body.size_hint().upper().unwrap_or(u64::MAX).min(most as u64)
}

/// Reads a body of at most `most` bytes that arrives at this pace. An announced length that is too large is
/// refused before anything is read.
pub(super) async fn read(what: &str, mut body: Body, most: usize, pace: Pace) -> Result<Bytes, Refusal> {
    if body.size_hint().lower() > most as u64 {
        return Err(Refusal::too_large(what, most));
    }
    let begun = Instant::now();
    let mut read = BytesMut::with_capacity(FIRST.min(most));
    while let Some(frame) = timeout_at(begun + pace.allows(read.len()), body.frame())
        .await
        .map_err(|_| Refusal::too_slow(what))?
    {
        let frame = frame.map_err(|_| Refusal::malformed(format!("The {what} was incomplete.")))?;
        let Some(data) = frame.data_ref() else { continue };
        if read.len() + data.len() > most {
            return Err(Refusal::too_large(what, most));
        }
        read.extend_from_slice(data);
    }
    Ok(read.freeze())
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
        let pace = Pace { grace: Duration::from_millis(200), bytes_per_second: 64 * 1024 };
        for (bytes, taken) in [(10 * 1024, true), (100, false)] {
            let begun = Instant::now();
            let parts = futures::stream::iter(0..10).then(move |_| async move {
                tokio::time::sleep(Duration::from_millis(100)).await;
                Ok::<_, std::io::Error>(vec![0; bytes])
            });
            let read = read("slice", Body::from_stream(parts), usize::MAX, pace).await;
            assert_eq!(
                (read.is_ok(), begun.elapsed().as_millis() < 900),
                (taken, !taken),
                "{bytes} {:?}",
                begun.elapsed()
            );
        }
    }
}
