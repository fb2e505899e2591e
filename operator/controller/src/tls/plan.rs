//! What needs to be done about the certificates now? A pure function of their state and the time.
//!
//! ```text
//! CA:    0 ───────────────── 2/3 ───────── 5/6 ───────── end
//!        MakeCa      AnnounceNextCa  SwitchToNextCa
//! trust: old         old + next      next + old (until old ends)
//! leaf:  by old ─────────────────────► by next;  renewed at 2/3 of its own life
//! ```
//! The next CA is trusted everywhere long before it signs anything: agents have the bundle from when their
//! pod was created.

use fleetprof_core::time::after;
use jiff::{SignedDuration, Timestamp};

/// Life of a CA.
pub(super) const CA_LIFE: SignedDuration = SignedDuration::from_hours(10 * 365 * 24);
/// Life of a leaf.
pub(super) const LEAF_LIFE: SignedDuration = SignedDuration::from_hours(90 * 24);
/// How far certificates are backdated, to tolerate clock skew.
pub(super) const BACKDATED: SignedDuration = SignedDuration::from_hours(1);

/// Validity of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Life {
    pub from: Timestamp,
    pub until: Timestamp,
}

impl Life {
    fn holds(&self, now: Timestamp) -> bool {
        self.from <= now && now < self.until
    }

    /// Two thirds are used up.
    fn is_aged(&self, now: Timestamp) -> bool {
        let whole = self.until.duration_since(self.from);
        now.duration_since(self.from) >= whole / 3 * 2
    }
}

/// The leaf that servers present.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Leaf {
    pub life: Life,
    /// Sorted.
    pub dns_names: Vec<String>,
    /// Signed with the current CA.
    pub by_ca: bool,
}

/// Content of the Secrets. Anything missing, invalid or with a wrong key is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Observed {
    pub ca: Option<Life>,
    pub next_ca: Option<Life>,
    pub leaf: Option<Leaf>,
    /// Both Secrets hold the bundle that belongs to the CAs.
    pub bundle_is_right: bool,
    pub ticket_key: bool,
}

/// The next thing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    MakeTicketKey,
    MakeCa,
    AnnounceNextCa,
    SwitchToNextCa,
    IssueLeaf,
    WriteBundle,
    Keep,
}

/// The next step; called again after each until it returns [`Step::Keep`]. `dns_names` are sorted.
pub(super) fn plan(observed: &Observed, dns_names: &[String], now: Timestamp) -> Step {
    if !observed.ticket_key {
        return Step::MakeTicketKey;
    }
    let next_ca = observed.next_ca.filter(|next| next.holds(now));
    let Some(ca) = observed.ca.filter(|ca| ca.holds(now)) else {
        return if next_ca.is_some() { Step::SwitchToNextCa } else { Step::MakeCa };
    };
    match next_ca {
        None if ca.is_aged(now) => return Step::AnnounceNextCa,
        Some(next) if now >= middle(next.from, ca.until) => return Step::SwitchToNextCa,
        _ => {}
    }
    let leaf_is_good = |leaf: &Leaf| {
        leaf.by_ca && leaf.dns_names == dns_names && leaf.life.holds(now) && !leaf.life.is_aged(now)
    };
    if !observed.leaf.as_ref().is_some_and(leaf_is_good) {
        return Step::IssueLeaf;
    }
    if observed.bundle_is_right { Step::Keep } else { Step::WriteBundle }
}

/// Half of the time that is left to the old CA when the next one is announced; a late announcement does not
/// speed this up.
fn middle(from: Timestamp, until: Timestamp) -> Timestamp {
    let half = until.duration_since(from).checked_div(2).unwrap_or_default();
    after(from, half)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: SignedDuration = SignedDuration::from_hours(24);

    fn day(n: i32) -> Timestamp {
        "2026-01-01T00:00:00Z".parse::<Timestamp>().unwrap() + DAY * n
    }

    fn life(from: i32, until: i32) -> Option<Life> {
        Some(Life { from: day(from), until: day(until) })
    }

    fn names() -> Vec<String> {
        vec!["a.svc".into(), "b.svc".into()]
    }

    /// A CA of 3000 days and a leaf of 90 days, both made on day 0.
    fn good() -> Observed {
        let leaf = Leaf { life: life(0, 90).unwrap(), dns_names: names(), by_ca: true };
        Observed {
            ca: life(0, 3000),
            next_ca: None,
            leaf: Some(leaf),
            bundle_is_right: true,
            ticket_key: true,
        }
    }

    fn leaf(edit: impl FnOnce(&mut Leaf)) -> Observed {
        let mut observed = good();
        edit(observed.leaf.as_mut().unwrap());
        observed
    }

    fn young_leaf(from: i32) -> Observed {
        leaf(|l| l.life = life(from, from + 90).unwrap())
    }

    #[test]
    fn each_state_has_its_next_step() {
        let announced = |at: i32| Observed { next_ca: life(at, at + 3000), ..young_leaf(at) };
        let cases = [
            ("nothing at all", Observed::default(), 0, Step::MakeTicketKey),
            ("no CA", Observed { ca: None, ..good() }, 0, Step::MakeCa),
            ("a CA that has ended", good(), 3000, Step::MakeCa),
            (
                "a CA that ended while nobody looked",
                young_leaf_announced(2800, 2000),
                3100,
                Step::SwitchToNextCa,
            ),
            ("a CA of the future", Observed { ca: life(5, 3005), ..good() }, 4, Step::MakeCa),
            ("no leaf", Observed { leaf: None, ..good() }, 0, Step::IssueLeaf),
            ("all is well", good(), 0, Step::Keep),
            ("the day before two thirds of the leaf", good(), 59, Step::Keep),
            ("two thirds of the leaf", good(), 60, Step::IssueLeaf),
            ("a leaf that has ended", good(), 91, Step::IssueLeaf),
            ("a leaf of the future", young_leaf(3), 1, Step::IssueLeaf),
            ("a leaf for other names", leaf(|l| l.dns_names = vec!["a.svc".into()]), 0, Step::IssueLeaf),
            ("a leaf of another CA", leaf(|l| l.by_ca = false), 0, Step::IssueLeaf),
            ("a bundle that is wrong", Observed { bundle_is_right: false, ..good() }, 0, Step::WriteBundle),
            ("the day before two thirds of the CA", young_leaf(1999), 1999, Step::Keep),
            ("two thirds of the CA", young_leaf(2000), 2000, Step::AnnounceNextCa),
            ("the next CA is announced", announced(2000), 2000, Step::Keep),
            ("before half of the rest", young_leaf_announced(2499, 2000), 2499, Step::Keep),
            ("half of the rest: 5/6", young_leaf_announced(2500, 2000), 2500, Step::SwitchToNextCa),
            (
                "an announcement that came late gets its time",
                young_leaf_announced(2800, 2800),
                2800,
                Step::Keep,
            ),
            ("and then is used", young_leaf_announced(2900, 2800), 2900, Step::SwitchToNextCa),
            (
                "a next CA that has ended is announced again",
                Observed { next_ca: life(0, 1), ..young_leaf(2000) },
                2000,
                Step::AnnounceNextCa,
            ),
            (
                "a ticket key alone is missing",
                Observed { ticket_key: false, ..good() },
                0,
                Step::MakeTicketKey,
            ),
        ];
        for (sentence, observed, today, expected) in cases {
            assert_eq!(plan(&observed, &names(), day(today)), expected, "{sentence}");
        }
    }

    fn young_leaf_announced(leaf_from: i32, announced: i32) -> Observed {
        Observed { next_ca: life(announced, announced + 3000), ..young_leaf(leaf_from) }
    }
}
