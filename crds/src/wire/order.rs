//! What is an agent ordered to capture, which agents can obey, and where do the slices go?

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{MAX_SLICES, PROTOCOL};
use crate::ProfileKind;

/// What an order can ask for, and since which protocol agents know it. A kind of profile, or any other field
/// that an agent must not overlook, is a row.
const FEATURES: [Feature; 2] = [
    Feature { since: 1, is_asked_for: |order| order.profiles.contains(&ProfileKind::Cpu) },
    Feature { since: 2, is_asked_for: |order| order.profiles.iter().any(|kind| is_later(*kind)) },
];
/// Slices of a short capture beside twice those that its length makes: its last one may be short, and a clock
/// may jump.
const SPARE_SLICES: u64 = 4;

/// Every open order of the agent: what is not in the list any more is not wanted any more.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OrderList {
    /// Version of the list: sent back as `?have=` so that the next poll waits until it changes.
    pub version: u64,
    /// The open orders.
    pub orders: Vec<Order>,
}

/// An order to capture one container, or to stop doing so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Order {
    /// The capture's idempotency key: an agent runs it once, whatever happens.
    pub capture: String,
    /// The session's uid, for logs.
    pub session: String,
    /// Least protocol that can obey.
    pub protocol: u32,
    /// Runtime id of the container to capture.
    pub container_id: String,
    /// What to capture: at least one kind, none of them twice, the one that people look at first in front.
    /// Agents of protocol 1 read the first one as `profile`, and gateways of protocol 1 write that alone.
    #[serde(flatten, with = "kinds")]
    pub profiles: Vec<ProfileKind>,
    /// Samples a second, 1 to 1000.
    pub frequency_hz: u32,
    /// How long, in milliseconds, 10,000 to 360,000.
    pub duration_ms: u64,
    /// Length of a slice, in milliseconds.
    pub slice_ms: u64,
    /// Not started by then (seconds since 1970 by the clock of the gateway's machine): answer
    /// `Skipped(StartDeadlineExceeded)`.
    pub start_before: i64,
    /// The same as a duration in milliseconds, counted from when the list of orders arrives. Goes before
    /// `start_before`; 0 once the deadline has passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_within_ms: Option<u64>,
    /// Stop it: answer with a final state.
    #[serde(default)]
    pub cancel: bool,
}

impl Order {
    /// Most slices of each kind that the gateway takes of this capture: an agent shares its pod with the app,
    /// and one that never comes to an end fills nobody else's volume. At most [`MAX_SLICES`].
    #[must_use]
    pub fn max_slices(&self) -> u32 {
        let made = self.duration_ms.div_ceil(self.slice_ms.max(1));
        u32::try_from(made.saturating_mul(2).saturating_add(SPARE_SLICES))
            .unwrap_or(MAX_SLICES)
            .min(MAX_SLICES)
    }
}

/// Whether protocol 2 has a word for the kind, and protocol 1 has none.
const fn is_later(kind: ProfileKind) -> bool {
    kind.is_known() && !matches!(kind, ProfileKind::Cpu)
}

/// Where a slice of a capture of these kinds is uploaded to; `capture` is a path segment. A capture of CPU
/// alone keeps to the path of protocol 1, so that a gateway of an earlier version takes the slice too.
#[must_use]
pub fn slice_path(capture: &str, profiles: &[ProfileKind], slice: SliceId) -> String {
    let SliceId { seq, kind } = slice;
    match profiles {
        [ProfileKind::Cpu] => format!("/v1/captures/{capture}/slices/{seq}"),
        _ => format!("/v1/captures/{capture}/{kind}/slices/{seq}"),
    }
}

/// How are the kinds of an order written, so that both protocols read them?
mod kinds {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::ProfileKind;

    #[derive(Serialize, Deserialize)]
    struct Spoken {
        profile: ProfileKind,
        #[serde(default)]
        profiles: Vec<ProfileKind>,
    }

    pub(super) fn serialize<S: Serializer>(kinds: &[ProfileKind], to: S) -> Result<S::Ok, S::Error> {
        let profile = kinds.first().copied().unwrap_or(ProfileKind::Unknown);
        Spoken { profile, profiles: kinds.to_vec() }.serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<ProfileKind>, D::Error> {
        let Spoken { profile, profiles } = Spoken::deserialize(from)?;
        let spoken = if profiles.is_empty() { vec![profile] } else { profiles };
        let mut kinds = Vec::with_capacity(spoken.len().min(ProfileKind::ALL.len() + 1));
        for kind in spoken {
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
        Ok(kinds)
    }
}

/// Which slice of a capture: each kind counts its own, from 0. Sorted by number, so that the slices of all
/// kinds leave in the order in which they were captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SliceId {
    /// Its sequence number.
    pub seq: u32,
    /// What it counts.
    pub kind: ProfileKind,
}

impl SliceId {
    /// Slice `seq` of `kind`.
    #[must_use]
    pub const fn new(kind: ProfileKind, seq: u32) -> Self {
        Self { seq, kind }
    }
}

impl fmt::Display for SliceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} slice {}", self.kind, self.seq)
    }
}

/// Something that an order can ask for.
struct Feature {
    since: u32,
    is_asked_for: fn(&Order) -> bool,
}

/// Least protocol that knows all that the order asks for, whatever [`PROTOCOL`] is. An order that asks for
/// nothing known needs a newer build than this one.
#[must_use]
pub fn needs(order: &Order) -> u32 {
    let asked = FEATURES.iter().filter(|feature| (feature.is_asked_for)(order));
    asked.map(|feature| feature.since).max().unwrap_or(PROTOCOL + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(profiles: &[ProfileKind]) -> Order {
        let order = Order {
            capture: "c".into(),
            session: "s".into(),
            protocol: 0,
            container_id: "id".into(),
            profiles: profiles.to_vec(),
            frequency_hz: 99,
            duration_ms: 10_000,
            slice_ms: 10_000,
            start_before: 0,
            start_within_ms: None,
            cancel: false,
        };
        Order { protocol: needs(&order), ..order }
    }

    /// An order as agents of protocol 1 read it.
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct FirstOrder {
        capture: String,
        protocol: u32,
        profile: String,
    }

    #[test]
    fn an_order_of_cpu_alone_is_one_for_agents_of_protocol_1() {
        let text = serde_json::to_string(&order(&[ProfileKind::Cpu])).unwrap();
        let first: FirstOrder = serde_json::from_str(&text).unwrap();
        assert_eq!((first.capture.as_str(), first.protocol, first.profile.as_str()), ("c", 1, "cpu"));
        let both = serde_json::to_string(&order(&[ProfileKind::Cpu, ProfileKind::Wall])).unwrap();
        let first: FirstOrder = serde_json::from_str(&both).unwrap();
        assert_eq!(first.protocol, 2, "they refuse it by its protocol");
    }

    #[test]
    fn an_order_is_read_as_it_was_written_whoever_wrote_it() {
        use ProfileKind::{Cpu, Unknown, Wall};
        for profiles in [&[Cpu][..], &[Wall], &[Wall, Cpu]] {
            let written = serde_json::to_string(&order(profiles)).unwrap();
            assert_eq!(serde_json::from_str::<Order>(&written).unwrap(), order(profiles));
        }
        let read = |kinds: serde_json::Value| {
            let mut text = serde_json::to_value(order(&[Cpu])).unwrap();
            let fields = text.as_object_mut().unwrap();
            fields.remove("profiles");
            fields.extend(kinds.as_object().unwrap().clone());
            serde_json::from_value::<Order>(text).map(|order| order.profiles)
        };
        let cases = [
            (serde_json::json!({"profile": "cpu"}), vec![Cpu]),
            (serde_json::json!({"profile": "energy"}), vec![Unknown]),
            (
                serde_json::json!({"profile": "cpu", "profiles": ["wall", "energy", "wall"]}),
                vec![Wall, Unknown],
            ),
        ];
        for (text, wanted) in cases {
            assert_eq!(read(text.clone()).unwrap(), wanted, "{text}");
        }
        assert!(read(serde_json::json!({"profile": 7})).is_err());
    }

    #[test]
    fn slices_of_cpu_alone_go_where_a_gateway_of_protocol_1_takes_them() {
        use ProfileKind::{Cpu, Wall};
        let path = |profiles: &[ProfileKind], kind| slice_path("c", profiles, SliceId::new(kind, 3));
        assert_eq!(path(&[Cpu], Cpu), "/v1/captures/c/slices/3");
        assert_eq!(path(&[Cpu, Wall], Cpu), "/v1/captures/c/cpu/slices/3");
        assert_eq!(path(&[Wall], Wall), "/v1/captures/c/wall/slices/3");
    }

    #[test]
    fn a_capture_has_as_many_slices_as_its_length_makes_and_some_to_spare() {
        let order = |duration_ms, slice_ms| Order { duration_ms, slice_ms, ..order(&[ProfileKind::Cpu]) };
        let cases = [
            (10_000, 10_000, 6),
            (120_000, 10_000, 28),
            (125_000, 10_000, 30),
            (360_000, 10_000, 76),
            (360_000, 1_000, 128),
            (1, 0, 6),
        ];
        for (duration, slice, wanted) in cases {
            assert_eq!(order(duration, slice).max_slices(), wanted, "{duration} {slice}");
        }
    }

    #[test]
    fn an_order_needs_what_it_asks_for_and_not_what_this_build_speaks() {
        use ProfileKind::{Cpu, Unknown, Wall};
        // The numbers stand here as such: a higher PROTOCOL must not change them.
        for (profiles, protocol) in [(&[Cpu][..], 1), (&[Wall], 2), (&[Cpu, Wall], 2), (&[Wall, Cpu], 2)] {
            assert_eq!(needs(&order(profiles)), protocol, "{profiles:?}");
        }
        assert_eq!(needs(&order(&[Unknown])), PROTOCOL + 1, "no agent of today has a word for it");
        assert_eq!(needs(&order(&[])), PROTOCOL + 1);
        assert!(FEATURES.iter().all(|f| f.since <= PROTOCOL), "a feature is newer than the protocol");
    }
}
