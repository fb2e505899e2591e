//! What does a server allow its peers, and how much memory can they make it hold?

use std::sync::Arc;

use super::proof::{Known, Places};
use super::shares::Shares;
use super::{ConnectionMetrics, Timeouts};

/// Bytes that the kernel is asked to keep of either direction of a connection; Linux takes twice as much. 16 MB/s
/// pass through it where a round trip takes a millisecond.
pub(super) const KERNEL_BUFFER: usize = 16 << 10;
/// Bytes of TLS records that wait to be sent.
pub(crate) const TLS_BUFFER: usize = 16 << 10;
/// Largest TLS record with its overhead; as much may lie there decrypted.
const TLS_RECORD: usize = 18 << 10;
/// What the task of a connection takes, and the parts of a request that is worked on.
const TASK: usize = 24 << 10;
/// The most bytes of a connection before its first request.
const HANDSHAKE: usize = 2 * TLS_RECORD + TLS_BUFFER + 4 * KERNEL_BUFFER + TASK;
/// Connections that a pod may have opened before it has to make room for others.
const FLOOR: usize = 4;

/// A number of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Of all callers together.
    pub all: u32,
    /// Of one of them.
    pub each: u32,
}

/// How large the head of a request may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Bytes, 8,192 at least; of the answer's buffer as well.
    pub bytes: usize,
    /// Headers.
    pub headers: usize,
}

/// What a server allows its peers.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Name of the server, as metrics and logs show it.
    pub server: &'static str,
    /// Connections of callers that have proven nothing yet; each is an IPv4 address or IPv6 /64.
    pub unproven: Share,
    /// Connections of callers that have proven who they are; each is a pod, or an address where that is all
    /// that there is.
    pub proven: Share,
    /// Whether callers prove themselves in the TLS handshake, so that no request of others is ever read.
    pub certified: bool,
    /// Whether addresses that proved something in the last 10 minutes start among the proven. For proofs that
    /// others could give as well, so the proven too make room for whoever holds less.
    pub remembers: bool,
    /// How large the head of a request may be.
    pub head: Head,
    /// How long connections may stay.
    pub timeouts: Timeouts,
    /// Where it is counted.
    pub metrics: ConnectionMetrics,
}

impl Default for Head {
    /// 16 KiB and 64 headers: the largest bearer token that is taken has 8 KiB.
    fn default() -> Self {
        Self { bytes: 16 << 10, headers: 64 }
    }
}

impl Limits {
    /// Limits with the usual timeouts and heads, where proof makes no difference in numbers.
    #[must_use]
    pub fn new(server: &'static str, (all, each): (u32, u32), metrics: ConnectionMetrics) -> Self {
        let share = Share { all, each };
        Self {
            server,
            unproven: share,
            proven: share,
            certified: false,
            remembers: false,
            head: Head::default(),
            timeouts: Timeouts::default(),
            metrics,
        }
    }

    /// The most bytes that all callers which have proven nothing can make the server hold for their
    /// connections, the kernel's buffers included. Bodies are counted where they are read.
    #[must_use]
    pub fn worst_of_unproven(&self) -> u64 {
        let head = if self.certified { HANDSHAKE as u64 } else { self.head.worst() };
        let trusted = if self.remembers { self.proven.all } else { 0 };
        u64::from(self.unproven.all + trusted) * head
    }

    pub(super) fn places(&self) -> Places {
        let size = |n: u32| n as usize;
        let Self { unproven, proven, .. } = self;
        let floor = if self.remembers { 0 } else { FLOOR };
        Places {
            unproven: Shares::new(size(unproven.each), size(unproven.all)),
            proven: Shares::with_floor(size(proven.each), size(proven.all), floor),
            known: self.remembers.then(|| Arc::new(Known::default())),
            server: self.server,
            metrics: self.metrics.clone(),
        }
    }
}

impl Head {
    /// The most bytes that a connection takes: the head as it comes and as it was read, an answer, TLS in both
    /// directions, and the kernel's buffers.
    pub(crate) const fn worst(self) -> u64 {
        (3 * self.bytes + self.headers * 160 + HANDSHAKE) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_case_of_a_connection_follows_from_its_settings() {
        assert_eq!(Head::default().worst() >> 10, 198);
        let limits = Limits::new("test", (10, 2), ConnectionMetrics::default());
        assert_eq!(limits.worst_of_unproven(), 10 * Head::default().worst());
        let certified = Limits { certified: true, ..limits.clone() };
        assert_eq!(certified.worst_of_unproven(), 10 * HANDSHAKE as u64);
        let remembers = Limits { remembers: true, ..limits };
        assert_eq!(remembers.worst_of_unproven(), 20 * Head::default().worst(), "others can prove it too");
    }
}
