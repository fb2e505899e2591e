//! What holds of the ledger whatever is asked in whatever order.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;

use super::*;
use crate::budget::queues::is_made;

/// The same without queues: every claim looks at all that wait, and takes turns one by one.
#[derive(Default)]
struct Plain {
    held: Vec<Claim>,
    waiting: Vec<(Claim, Account, Timestamp)>,
}

impl Plain {
    /// `served` is the last grant of a namespace on an account.
    fn claim(
        &mut self,
        claim: &Claim,
        served: &dyn Fn(&Account, &str) -> u64,
        now: Timestamp,
    ) -> Option<Reason> {
        if self.held.iter().any(|c| c.capture == claim.capture) {
            return None;
        }
        self.waiting.retain(|(c, _, seen)| c.capture != claim.capture && is_made(*seen, now));
        for (account, limit) in accounts(claim) {
            let used = self.held.iter().filter(|c| counts(c, &account)).count();
            let ahead = self.ahead(&account, claim, served);
            if self.is_for_people(&account) || used + ahead >= limit {
                let reason = busy(&account, (used, limit), "").reason;
                self.waiting.push((claim.clone(), account, now));
                return Some(reason);
            }
        }
        self.held.push(claim.clone());
        None
    }
    fn is_for_people(&self, account: &Account) -> bool {
        let Account::Container(container) = account else { return false };
        let people = Account::ContainerForPeople(container.clone());
        self.held.iter().any(|c| counts(c, &people)) || self.waiting.iter().any(|(_, at, _)| *at == people)
    }
    /// How many have their turn before the claim: again and again the namespace with fewest slots has one.
    fn ahead(&self, account: &Account, claim: &Claim, served: &dyn Fn(&Account, &str) -> u64) -> usize {
        let mut slots: BTreeMap<&str, usize> = BTreeMap::new();
        for c in self.held.iter().filter(|c| counts(c, account)) {
            *slots.entry(&c.namespace).or_default() += 1;
        }
        let mut left: Vec<&Claim> =
            self.waiting.iter().filter(|(_, at, _)| at == account).map(|(c, ..)| c).chain([claim]).collect();
        for ahead in 0.. {
            let first_of = |namespace: &str| {
                left.iter().filter(|c| c.namespace == namespace).min_by_key(|c| Rank::of(c)).copied()
            };
            let heads: Vec<&Claim> = ["0", "1", "2"].into_iter().filter_map(first_of).collect();
            let by = |c: &&&Claim| {
                let everywhere = if c.asker == Asker::ClusterPolicy { -c.priority } else { 0 };
                let held = slots.get(c.namespace.as_str()).copied().unwrap_or(0);
                let served = served(account, &c.namespace);
                (held, everywhere, served, c.since, c.session.clone(), c.capture.clone())
            };
            let next = *heads.iter().min_by_key(by).unwrap();
            if next.capture == claim.capture {
                return ahead;
            }
            *slots.entry(&next.namespace).or_default() += 1;
            left.retain(|c| c.capture != next.capture);
        }
        0
    }
    fn keep(&mut self, keeps: impl Fn(&Claim) -> bool) {
        self.held.retain(&keeps);
        self.waiting.retain(|(c, ..)| keeps(c));
    }
}

fn counts(claim: &Claim, account: &Account) -> bool {
    accounts(claim).iter().any(|(a, _)| a == account)
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
        8 => (0..60u8, -2..3i8).prop_map(|(capture, priority)| Event::Claim { capture, priority }),
        3 => (0..60u8).prop_map(Event::Release),
        1 => (0..60u8).prop_map(Event::SessionGone),
        1 => Just(Event::Failover),
    ]
}

/// A capture has one pod, so one container, node, namespace and policy; of three, one is a person's. Captures
/// of one remainder by 20 are of one container.
fn claim_of(capture: u8, priority: i8, limits: Limits) -> Claim {
    let pod = capture % 20;
    let asker = [Asker::Policy, Asker::ClusterPolicy, Asker::Person][usize::from(capture / 20)];
    Claim {
        namespace: (pod % 3).to_string(),
        policy: if asker == Asker::ClusterPolicy { "all".into() } else { (pod % 6).to_string() },
        container: format!("c-{pod}"),
        asker,
        since: at(i64::from(capture % 7)),
        ..claim(&capture.to_string(), &(pod / 7).to_string(), i32::from(priority), limits)
    }
}

fn limits() -> impl Strategy<Value = Limits> {
    (1..4usize, 1..4usize, 1..6usize, 1..5usize, 1..8usize, 1..4usize).prop_map(
        |(node, policy_on_node, namespace, policy, fleet, people)| Limits {
            node,
            policy_on_node,
            namespace,
            policy,
            fleet,
            people,
        },
    )
}

/// What the leader does at an event.
fn apply(ledger: &mut Ledger, event: &Event, limits: Limits, now: Timestamp) -> Option<Place> {
    match event {
        Event::Claim { capture, priority } => {
            return Some(ledger.claim(claim_of(*capture, *priority, limits), now));
        }
        Event::Release(capture) => ledger.release(&capture.to_string()),
        Event::SessionGone(capture) => ledger.retain_sessions(|s| s != format!("s-{capture}")),
        Event::Failover => {
            let mut next = Ledger::default();
            ledger.held.values().cloned().for_each(|claim| next.hold(claim));
            *ledger = next;
        }
    }
    None
}

proptest! {
    /// The queues answer as a look at all that wait does, whoever comes, goes, changes its priority or is
    /// silent for a while.
    #[test]
    fn queues_decide_as_a_look_at_everybody_does(
        events in prop::collection::vec((event(), 0..4i64), 1..200), limits in limits()
    ) {
        let (mut ledger, mut plain, mut now) = (Ledger::default(), Plain::default(), 0);
        for (event, pause) in events {
            now += pause;
            if let Event::Claim { capture, priority } = event {
                ledger.waiting.sweep(at(now));
                ledger.waiting.remove(&capture.to_string());
                let served = |account: &Account, namespace: &str| {
                    let queue = ledger.waiting.by_account.get(account);
                    queue.and_then(|queue| queue.served.get(namespace)).copied().unwrap_or(0)
                };
                let wanted = plain.claim(&claim_of(capture, priority, limits), &served, at(now));
                prop_assert_eq!(apply(&mut ledger, &event, limits, at(now)).and_then(reason), wanted);
                continue;
            }
            apply(&mut ledger, &event, limits, at(now));
            match event {
                Event::Claim { .. } => {}
                Event::Release(capture) | Event::SessionGone(capture) => {
                    plain.keep(|c| c.capture != capture.to_string());
                }
                Event::Failover => plain.waiting.clear(),
            }
            prop_assert!(ledger.waiting.by_capture.len() <= 60);
            let in_queues: usize =
                ledger.waiting.by_account.values().flat_map(|queue| queue.claims.values()).map(BTreeMap::len).sum();
            prop_assert_eq!(in_queues, ledger.waiting.by_capture.len());
        }
    }

    /// Whatever is asked in whatever order, also over changes of the leader: no account holds more than its
    /// limit, a container has at most one capture that does not yield, and what is released counts nowhere.
    #[test]
    fn no_account_is_overdrawn(events in prop::collection::vec(event(), 1..200), limits in limits()) {
        let mut ledger = Ledger::default();
        for (n, event) in events.into_iter().enumerate() {
            apply(&mut ledger, &event, limits, at(i64::try_from(n).unwrap()));
            let mut used: HashMap<Account, usize> = HashMap::new();
            let mut on_container: HashMap<&str, usize> = HashMap::new();
            for claim in ledger.held.values() {
                for (account, limit) in accounts(claim) {
                    let used = used.entry(account.clone()).or_default();
                    *used += 1;
                    prop_assert!(*used <= limit, "{:?} holds {}", account, used);
                }
                let stays = ledger.yields_to(&claim.capture).is_none();
                *on_container.entry(&claim.container).or_default() += usize::from(stays);
            }
            prop_assert!(on_container.values().all(|n| *n <= 1), "{:?}", on_container);
            let counted: HashMap<Account, usize> =
                ledger.used.iter().map(|(account, used)| (account.clone(), used.total)).collect();
            prop_assert_eq!(counted, used);
            let parts = |used: &Used| used.by_namespace.values().sum::<usize>();
            prop_assert!(ledger.used.values().all(|used| parts(used) == used.total));
            prop_assert_eq!(ledger.on_container.values().map(BTreeSet::len).sum::<usize>(), ledger.len());
        }
    }

    /// Whatever machines hold or want, people are answered as if there were none.
    #[test]
    fn a_person_never_waits_for_a_machine(events in prop::collection::vec((event(), 0..4i64), 1..200), limits in limits()) {
        let (mut all, mut people, mut now) = (Ledger::default(), Ledger::default(), 0);
        for (event, pause) in events {
            now += pause;
            let answer = apply(&mut all, &event, limits, at(now));
            let is_machine = |capture: u8| claim_of(capture, 0, limits).asker != Asker::Person;
            match event {
                Event::Claim { capture, .. } | Event::Release(capture) | Event::SessionGone(capture)
                    if is_machine(capture) => {}
                event => prop_assert_eq!(answer, apply(&mut people, &event, limits, at(now))),
            }
        }
    }

    /// Where namespaces ask for ever, each for as much as it can, what they hold of a full node differs by one
    /// capture at most, whatever their priorities, how many claims each has and who asks first.
    #[test]
    fn namespaces_share_a_node(
        limit in 1..9usize, wants in prop::collection::vec((9..30usize, -1000..1000i32), 2..5), seed in 0..1000usize
    ) {
        let limits = Limits { node: limit, ..WIDE };
        let (mut ledger, mut next, mut granted) = (Ledger::default(), 0usize, VecDeque::new());
        let mut waiting: Vec<(usize, Claim)> = Vec::new();
        for second in 0..40usize {
            let now = at(i64::try_from(second).unwrap());
            for (n, (want, priority)) in wants.iter().enumerate() {
                while waiting.iter().filter(|(owner, _)| *owner == n).count() < *want {
                    next += 1;
                    let claim = claim(&format!("{next:04}"), "n1", *priority, limits);
                    waiting.push((n, Claim { namespace: n.to_string(), since: now, ..claim }));
                }
            }
            // Captures last equally long.
            if ledger.len() == limit {
                ledger.release(&granted.pop_front().unwrap_or_else(String::new));
            }
            let first = (seed * 31 + second) % waiting.len();
            waiting.rotate_left(first);
            waiting.retain(|(_, claim)| {
                let is_granted = ledger.claim(claim.clone(), now) == Place::Granted;
                granted.extend(is_granted.then(|| claim.capture.clone()));
                !is_granted
            });
            let held = |n: usize| ledger.held.values().filter(|c| c.namespace == n.to_string()).count();
            let all: Vec<usize> = (0..wants.len()).map(held).collect();
            let (least, most) = (all.iter().min().unwrap(), all.iter().max().unwrap());
            prop_assert_eq!(all.iter().sum::<usize>(), limit);
            prop_assert!(second < 20 || most - least <= 1, "{:?} in second {}", all, second);
        }
    }
}
