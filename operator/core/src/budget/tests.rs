use proptest::prelude::*;

use super::*;

const WIDE: Limits = Limits { node: 100, namespace: 100, policy: 100, fleet: 100 };

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

fn claim(capture: &str, node: &str, priority: i32, limits: Limits) -> Claim {
    Claim {
        capture: capture.into(),
        session: format!("s-{capture}"),
        namespace: "shop".into(),
        policy: "p".into(),
        node: node.into(),
        priority,
        since: at(0),
        limits,
    }
}

fn reason(place: Place) -> Option<Reason> {
    match place {
        Place::Granted => None,
        Place::Busy(busy) => Some(busy.reason),
    }
}

#[test]
fn each_account_binds_and_is_named() {
    let cases = [
        (Limits { node: 1, ..WIDE }, Reason::NodeBusy, "the limit is 1 (budget.maxConcurrentPerNode)"),
        (Limits { namespace: 1, ..WIDE }, Reason::BudgetExhausted, "budgets.namespace"),
        (Limits { policy: 1, ..WIDE }, Reason::BudgetExhausted, "the limit is 1 (budget.maxConcurrent)"),
        (Limits { fleet: 1, ..WIDE }, Reason::BudgetExhausted, "budgets.fleet"),
        (Limits { node: 1, namespace: 1, policy: 1, fleet: 1 }, Reason::NodeBusy, "on node n1"),
    ];
    for (limits, wanted, words) in cases {
        let mut ledger = Ledger::default();
        assert_eq!(ledger.claim(claim("a", "n1", 0, limits), at(0)), Place::Granted);
        assert_eq!(ledger.claim(claim("a", "n1", 0, limits), at(0)), Place::Granted, "the same again");
        let Place::Busy(busy) = ledger.claim(claim("b", "n1", 0, limits), at(0)) else { panic!("{words}") };
        assert!(busy.reason == wanted && busy.message.contains(words), "{busy:?}");
        ledger.release("a");
        assert_eq!(ledger.claim(claim("b", "n1", 0, limits), at(0)), Place::Granted);
    }
}

#[test]
fn who_waits_with_a_higher_priority_goes_first() {
    let one = Limits { node: 1, ..WIDE };
    let mut ledger = Ledger::default();
    assert_eq!(ledger.claim(claim("running", "n1", 0, one), at(0)), Place::Granted);
    assert_eq!(reason(ledger.claim(claim("low", "n1", 1, one), at(0))), Some(Reason::NodeBusy));
    assert_eq!(reason(ledger.claim(claim("high", "n1", 5, one), at(1))), Some(Reason::NodeBusy));
    ledger.release("running");
    assert_eq!(
        reason(ledger.claim(claim("low", "n1", 1, one), at(2))),
        Some(Reason::NodeBusy),
        "the place is for who goes before"
    );
    assert_eq!(ledger.claim(claim("other node", "n2", 0, one), at(2)), Place::Granted);
    assert_eq!(ledger.claim(claim("high", "n1", 5, one), at(2)), Place::Granted);
    ledger.release("high");
    assert_eq!(ledger.claim(claim("low", "n1", 1, one), at(3)), Place::Granted);
}

#[test]
fn who_asks_no_more_keeps_nobody_waiting() {
    let one = Limits { node: 1, ..WIDE };
    let mut ledger = Ledger::default();
    ledger.hold(claim("running", "n1", 0, one));
    assert_eq!(reason(ledger.claim(claim("gone", "n1", 9, one), at(0))), Some(Reason::NodeBusy));
    ledger.release("running");
    assert_eq!(reason(ledger.claim(claim("b", "n1", 0, one), at(14))), Some(Reason::NodeBusy));
    assert_eq!(ledger.claim(claim("b", "n1", 0, one), at(15)), Place::Granted);
}

#[test]
fn sessions_without_a_policy_do_not_share_an_account() {
    let mine = |capture: &str| Claim {
        policy: String::new(),
        ..claim(capture, capture, 0, Limits { policy: 1, ..WIDE })
    };
    let mut ledger = Ledger::default();
    assert_eq!(
        [ledger.claim(mine("a"), at(0)), ledger.claim(mine("b"), at(0))],
        [Place::Granted, Place::Granted]
    );
}

/// The same without queues: every claim looks at all that wait.
#[derive(Default)]
struct Plain {
    held: Vec<Claim>,
    waiting: Vec<(Claim, Account, Timestamp)>,
}

impl Plain {
    fn claim(&mut self, claim: &Claim, now: Timestamp) -> Option<Reason> {
        if self.held.iter().any(|c| c.capture == claim.capture) {
            return None;
        }
        self.waiting
            .retain(|(c, _, seen)| c.capture != claim.capture && now.duration_since(*seen) < FORGOTTEN_AFTER);
        for (account, limit) in accounts(claim) {
            let used = self.held.iter().filter(|c| accounts(c).iter().any(|(a, _)| *a == account)).count();
            let ahead =
                self.waiting.iter().filter(|(c, at, _)| *at == account && rank(c) < rank(claim)).count();
            if used + ahead >= limit {
                let reason = busy(&account, used, limit).reason;
                self.waiting.push((claim.clone(), account, now));
                return Some(reason);
            }
        }
        self.held.push(claim.clone());
        None
    }
    fn keep(&mut self, keeps: impl Fn(&Claim) -> bool) {
        self.held.retain(&keeps);
        self.waiting.retain(|(c, ..)| keeps(c));
    }
}

#[derive(Clone, Debug)]
enum Event {
    Claim {
        capture: u8,
        priority: i8,
    },
    Release(u8),
    SessionGone(u8),
    /// The leader is gone; the next one holds what was granted before it answers anybody.
    Failover,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => (0..40u8, -2..3i8).prop_map(|(capture, priority)| Event::Claim { capture, priority }),
        3 => (0..40u8).prop_map(Event::Release),
        1 => (0..40u8).prop_map(Event::SessionGone),
        1 => Just(Event::Failover),
    ]
}

/// A capture has one pod, so one node, namespace and policy.
fn claim_of(capture: u8, priority: i8, limits: Limits) -> Claim {
    Claim {
        namespace: (capture % 3).to_string(),
        policy: (capture / 3 % 3).to_string(),
        ..claim(&capture.to_string(), &(capture / 9).to_string(), i32::from(priority), limits)
    }
}

proptest! {
    /// The queues answer as a look at all that wait does, whoever comes, goes, changes its priority or is
    /// silent for a while.
    #[test]
    fn queues_decide_as_a_look_at_everybody_does(
        events in prop::collection::vec((event(), 0..4i64), 1..200), node in 1..3usize, namespace in 1..6usize, policy in 1..5usize, fleet in 0..8usize
    ) {
        let limits = Limits { node, namespace, policy, fleet };
        let (mut ledger, mut plain, mut now) = (Ledger::default(), Plain::default(), 0);
        for (event, pause) in events {
            now += pause;
            match event {
                Event::Claim { capture, priority } => {
                    let claim = claim_of(capture, priority, limits);
                    let wanted = plain.claim(&claim, at(now));
                    prop_assert_eq!(reason(ledger.claim(claim, at(now))), wanted);
                }
                Event::Release(capture) => {
                    plain.keep(|c| c.capture != capture.to_string());
                    ledger.release(&capture.to_string());
                }
                Event::SessionGone(capture) => {
                    plain.keep(|c| c.capture != capture.to_string());
                    ledger.retain_sessions(|s| s != format!("s-{capture}"));
                }
                Event::Failover => {
                    plain.waiting.clear();
                    let mut next = Ledger::default();
                    ledger.held.values().cloned().for_each(|claim| next.hold(claim));
                    ledger = next;
                }
            }
            prop_assert!(ledger.waiting.by_capture.len() <= 40);
            let in_queues: usize = ledger.waiting.by_account.values().map(BTreeMap::len).sum();
            prop_assert_eq!(in_queues, ledger.waiting.by_capture.len());
        }
    }

    /// Whatever is asked in whatever order, also over changes of the leader: no account holds more than its
    /// limit.
    #[test]
    fn no_account_is_overdrawn(events in prop::collection::vec(event(), 1..200), node in 1..3usize, namespace in 1..6usize, policy in 1..5usize, fleet in 1..8usize) {
        let limits = Limits { node, namespace, policy, fleet };
        let mut ledger = Ledger::default();
        for (n, event) in events.into_iter().enumerate() {
            match event {
                Event::Claim { capture, priority } => {
                    let _ = ledger.claim(claim_of(capture, priority, limits), at(i64::try_from(n).unwrap()));
                }
                Event::Release(capture) => ledger.release(&capture.to_string()),
                Event::SessionGone(capture) => ledger.retain_sessions(|s| s != format!("s-{capture}")),
                Event::Failover => {
                    let mut next = Ledger::default();
                    ledger.held.values().cloned().for_each(|claim| next.hold(claim));
                    ledger = next;
                }
            }
            let count = |of: &dyn Fn(&Claim) -> String| {
                let mut counts = HashMap::new();
                ledger.held.values().for_each(|c| *counts.entry(of(c)).or_insert(0usize) += 1);
                counts.values().copied().max().unwrap_or(0)
            };
            prop_assert!(count(&|c| c.node.clone()) <= limits.node);
            prop_assert!(count(&|c| c.namespace.clone()) <= limits.namespace);
            prop_assert!(count(&|c| c.policy.clone()) <= limits.policy);
            prop_assert!(ledger.len() <= limits.fleet);
            prop_assert_eq!(ledger.used.get(&Account::Fleet).copied().unwrap_or(0), ledger.len());
        }
    }
}
