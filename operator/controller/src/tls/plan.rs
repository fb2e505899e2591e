//! What needs to be done about the certificates now? A pure function of their state and the time.
//!
//! ```text
//! CA:    key held ──── certificate unreadable, expired, of the future, 2/3 used up ────► ReissueCa: same key
//!        key gone, or unreadable and no good leaf left ────────────────────────────────► MakeCa: new key
//! leaf:  by the CA, renewed at 2/3 of its life
//!        by a lost CA, served until a day before its end: the bundle names both CAs, and agents learn it
//! ```
//! Agents trust a CA by name and key, whatever its dates, and a running agent learns of another one only from
//! a server that it trusts. So only a lost key is a reason for another one, and time is not.

use fleetprof_core::time::{after, before};
use jiff::{SignedDuration, Timestamp};

/// Life of a CA's certificate.
pub(super) const CA_LIFE: SignedDuration = SignedDuration::from_hours(10 * 365 * 24);
/// Life of a leaf.
pub(super) const LEAF_LIFE: SignedDuration = SignedDuration::from_hours(90 * 24);
/// How far certificates are backdated, to tolerate clock skew.
pub(super) const BACKDATED: SignedDuration = SignedDuration::from_hours(1);
/// A leaf of a lost CA is replaced this long before it ends.
const HAND_OVER: SignedDuration = SignedDuration::from_hours(24);
/// A lost CA is trusted for this long after its last leaf was replaced, as servers still present that one for
/// a moment; and another one is announced for this long before it signs, as long as the old leaf lasts.
const OVERLAP: SignedDuration = SignedDuration::from_hours(24);

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

    /// It is a day old at most.
    pub fn has_just_begun(&self, now: Timestamp) -> bool {
        now < after(after(self.from, BACKDATED), OVERLAP)
    }
}

/// The CA in the Secret.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Ca {
    /// Its key is held. Without a life, the certificate is missing, unreadable or of another key.
    Held(Option<Life>),
    /// There is something in place of its key that is none.
    Unreadable,
    /// It has no key.
    #[default]
    Gone,
}

/// Who signed the leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signer {
    /// The CA whose key is held.
    Ca,
    /// One whose key is not held, but whose certificate is in a bundle.
    LostCa,
    Unknown,
}

/// The leaf that servers present.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Leaf {
    pub life: Life,
    /// Sorted.
    pub dns_names: Vec<String>,
    pub signer: Signer,
}

impl Leaf {
    /// Clients that know the bundle accept it.
    fn is_accepted(&self, dns_names: &[String], now: Timestamp) -> bool {
        self.life.holds(now) && self.dns_names == dns_names && self.signer != Signer::Unknown
    }

    /// It is time for the next one, by a CA of this life.
    fn is_due(&self, ca: &Life, now: Timestamp) -> bool {
        match self.signer {
            Signer::Ca => self.life.is_aged(now),
            // As late as possible: agents that restart without their spool know no other CA.
            Signer::LostCa => now >= before(self.life.until, HAND_OVER) && !ca.has_just_begun(now),
            Signer::Unknown => true,
        }
    }
}

/// Content of the Secrets. A leaf that is missing, invalid or has a wrong key is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Observed {
    pub ca: Ca,
    pub leaf: Option<Leaf>,
    /// Both Secrets hold the bundle that belongs to the CA and the leaf.
    pub bundle_is_right: bool,
    pub ticket_key: bool,
}

/// The next thing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    MakeTicketKey,
    MakeCa,
    ReissueCa,
    IssueLeaf,
    WriteBundle,
    Keep,
}

/// The next step; called again after each until it returns [`Step::Keep`]. `dns_names` are sorted.
pub(super) fn plan(observed: &Observed, dns_names: &[String], now: Timestamp) -> Step {
    if !observed.ticket_key {
        return Step::MakeTicketKey;
    }
    let leaf = observed.leaf.as_ref().filter(|leaf| leaf.is_accepted(dns_names, now));
    let ca = match observed.ca {
        Ca::Held(Some(life)) if life.holds(now) && !life.is_aged(now) => life,
        Ca::Held(_) => return Step::ReissueCa,
        // Somebody may still restore it, and nothing needs its key yet.
        Ca::Unreadable if leaf.is_some_and(|leaf| !leaf.life.is_aged(now)) => return bundle(observed),
        Ca::Unreadable | Ca::Gone => return Step::MakeCa,
    };
    if leaf.is_none_or(|leaf| leaf.is_due(&ca, now)) { Step::IssueLeaf } else { bundle(observed) }
}

fn bundle(observed: &Observed) -> Step {
    if observed.bundle_is_right { Step::Keep } else { Step::WriteBundle }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: SignedDuration = SignedDuration::from_hours(24);

    fn day(n: i32) -> Timestamp {
        "2026-01-01T00:00:00Z".parse::<Timestamp>().unwrap() + DAY * n
    }

    fn life(from: i32, until: i32) -> Life {
        Life { from: day(from), until: day(until) }
    }

    fn names() -> Vec<String> {
        vec!["a.svc".into(), "b.svc".into()]
    }

    /// A CA of 3000 days and a leaf of 90 days, both made on day 0.
    fn good() -> Observed {
        let leaf = Leaf { life: life(0, 90), dns_names: names(), signer: Signer::Ca };
        Observed {
            ca: Ca::Held(Some(life(0, 3000))),
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

    fn lost() -> Observed {
        leaf(|l| l.signer = Signer::LostCa)
    }

    #[test]
    fn each_state_of_the_ca_has_its_next_step() {
        let ca = |ca| Observed { ca, ..good() };
        let young = |from| leaf(|l| l.life = life(from, from + 90));
        let unreadable = || Observed { ca: Ca::Unreadable, ..lost() };
        let cases = [
            ("nothing at all", Observed::default(), 0, Step::MakeTicketKey),
            (
                "a ticket key alone is missing",
                Observed { ticket_key: false, ..good() },
                0,
                Step::MakeTicketKey,
            ),
            ("no CA", Observed { ca: Ca::Gone, ..lost() }, 0, Step::MakeCa),
            ("a key without its certificate", ca(Ca::Held(None)), 0, Step::ReissueCa),
            ("a CA that has ended", good(), 3000, Step::ReissueCa),
            ("a CA of the future", ca(Ca::Held(Some(life(5, 3005)))), 4, Step::ReissueCa),
            ("the day before two thirds of the CA", young(1999), 1999, Step::Keep),
            ("two thirds of the CA", young(2000), 2000, Step::ReissueCa),
            ("an unreadable CA is left alone", unreadable(), 59, Step::Keep),
            ("until a leaf is due", unreadable(), 60, Step::MakeCa),
            ("or there is none", Observed { leaf: None, ..unreadable() }, 0, Step::MakeCa),
            ("or nobody would accept it", Observed { ca: Ca::Unreadable, ..young(3) }, 1, Step::MakeCa),
            (
                "its bundle is kept right",
                Observed { bundle_is_right: false, ..unreadable() },
                0,
                Step::WriteBundle,
            ),
        ];
        for (sentence, observed, today, expected) in cases {
            assert_eq!(plan(&observed, &names(), day(today)), expected, "{sentence}");
        }
    }

    fn told_on(day: i32) -> Observed {
        Observed { ca: Ca::Held(Some(life(day, day + 3000))), ..lost() }
    }

    #[test]
    fn each_state_of_the_leaf_has_its_next_step() {
        let cases = [
            ("no leaf", Observed { leaf: None, ..good() }, 0, Step::IssueLeaf),
            ("all is well", good(), 0, Step::Keep),
            ("the day before two thirds of the leaf", good(), 59, Step::Keep),
            ("two thirds of the leaf", good(), 60, Step::IssueLeaf),
            ("a leaf that has ended", good(), 91, Step::IssueLeaf),
            ("a leaf of the future", leaf(|l| l.life = life(3, 93)), 1, Step::IssueLeaf),
            ("a leaf for other names", leaf(|l| l.dns_names = vec!["a.svc".into()]), 0, Step::IssueLeaf),
            ("a leaf of nobody", leaf(|l| l.signer = Signer::Unknown), 0, Step::IssueLeaf),
            ("a leaf of a lost CA is served", lost(), 88, Step::Keep),
            ("until a day before its end", lost(), 89, Step::IssueLeaf),
            ("if its agents were told for a day", told_on(89), 89, Step::Keep),
            ("and never beyond it", told_on(89), 90, Step::IssueLeaf),
            ("a bundle that is wrong", Observed { bundle_is_right: false, ..good() }, 0, Step::WriteBundle),
        ];
        for (sentence, observed, today, expected) in cases {
            assert_eq!(plan(&observed, &names(), day(today)), expected, "{sentence}");
        }
    }
}
