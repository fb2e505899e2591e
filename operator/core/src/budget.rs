//! May one more target be captured now? A ledger of places that is never overdrawn: by node, namespace,
//! policy and fleet.
//!
//! ```text
//! claim ─► held (there was room on every account)            ─► release, when the capture is over
//!      └─► waiting (said which account is full), asked again ─► held | forgotten
//! ```
//! The leader keeps one ledger. A target's place is written into its session's status before its order goes
//! out, so that the next leader holds the same places before it gives any away.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

use fleetprof_crds::Reason;
use jiff::{SignedDuration, Timestamp};

use crate::text::counted;

/// A claim that was not repeated for so long waits no more.
const FORGOTTEN_AFTER: SignedDuration = SignedDuration::from_secs(15);

/// A target that wants a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The target's capture: a place belongs to one.
    pub capture: String,
    /// Uid of the session.
    pub session: String,
    /// Namespace of the session.
    pub namespace: String,
    /// Uid of the session's policy; empty without one.
    pub policy: String,
    /// Node of the pod.
    pub node: String,
    /// Higher goes first.
    pub priority: i32,
    /// Of the same priority, earlier goes first.
    pub since: Timestamp,
    /// What is allowed.
    pub limits: Limits,
}

/// How many targets may be captured at the same time on the accounts of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// On the claim's node, whoever ordered them.
    pub node: usize,
    /// In the claim's namespace.
    pub namespace: usize,
    /// Of the claim's policy.
    pub policy: usize,
    /// In the whole fleet.
    pub fleet: usize,
}

/// The answer to a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// The target may be captured.
    Granted,
    /// An account is full.
    Busy(Busy),
}

/// Which account is full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Busy {
    /// `NodeBusy` or `BudgetExhausted`.
    pub reason: Reason,
    /// The account and its limit, for a person.
    pub message: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Account {
    Node(String),
    Namespace(String),
    Policy(String),
    Fleet,
}

/// Who goes first: the smaller.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    priority: Reverse<i32>,
    since: Timestamp,
    session: String,
    capture: String,
}

/// Who waits: for each account the claims that found it full, in their order, and when each was made last. A
/// claim looks only at those before it on its own four accounts, so that thousands may wait and ask every
/// second.
#[derive(Clone, Debug, Default)]
struct Queues {
    by_account: HashMap<Account, BTreeMap<Rank, Timestamp>>,
    /// Where each capture waits.
    by_capture: HashMap<String, (Account, Rank)>,
    swept: Timestamp,
}

impl Queues {
    fn push(&mut self, account: Account, rank: Rank, now: Timestamp) {
        self.by_capture.insert(rank.capture.clone(), (account.clone(), rank.clone()));
        self.by_account.entry(account).or_default().insert(rank, now);
    }

    fn remove(&mut self, capture: &str) {
        let Some((account, rank)) = self.by_capture.remove(capture) else { return };
        if let Some(queue) = self.by_account.get_mut(&account) {
            queue.remove(&rank);
            if queue.is_empty() {
                self.by_account.remove(&account);
            }
        }
    }

    /// Whether at least `room` claims wait for the account that go before `rank` and are still made.
    fn at_least(&self, room: usize, account: &Account, rank: &Rank, now: Timestamp) -> bool {
        let before = self.by_account.get(account).into_iter().flat_map(|queue| queue.range(..rank));
        before.filter(|(_, seen)| is_made(**seen, now)).take(room).count() >= room
    }

    /// Forgets claims that are made no more. They count for nobody before that, so now and then is enough.
    fn sweep(&mut self, now: Timestamp) {
        if is_made(self.swept, now) {
            return;
        }
        self.swept = now;
        let seen = |(account, rank): &(Account, Rank)| {
            self.by_account.get(account).and_then(|queue| queue.get(rank))
        };
        let over = |at: &(Account, Rank)| seen(at).is_none_or(|seen| !is_made(*seen, now));
        let gone: Vec<String> =
            self.by_capture.iter().filter(|(_, at)| over(at)).map(|(capture, _)| capture.clone()).collect();
        gone.iter().for_each(|capture| self.remove(capture));
    }

    fn retain_sessions(&mut self, lives: impl Fn(&str) -> bool) {
        let gone: Vec<String> = self
            .by_capture
            .values()
            .filter(|(_, rank)| !lives(&rank.session))
            .map(|(_, rank)| rank.capture.clone())
            .collect();
        gone.iter().for_each(|capture| self.remove(capture));
    }
}

/// Whether a claim that was made last at `seen` still counts.
fn is_made(seen: Timestamp, now: Timestamp) -> bool {
    now.duration_since(seen) < FORGOTTEN_AFTER
}

/// Who holds a place and who waits for one.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    held: HashMap<String, Claim>,
    used: HashMap<Account, usize>,
    waiting: Queues,
}

impl Ledger {
    /// Asks for a place. One that is held is granted again; a claim that must wait is to be repeated within
    /// 15 s.
    pub fn claim(&mut self, claim: Claim, now: Timestamp) -> Place {
        if self.held.contains_key(&claim.capture) {
            return Place::Granted;
        }
        self.waiting.sweep(now);
        self.waiting.remove(&claim.capture);
        let rank = rank(&claim);
        for (account, limit) in accounts(&claim) {
            let used = self.used.get(&account).copied().unwrap_or_default();
            if self.waiting.at_least(limit.saturating_sub(used), &account, &rank, now) {
                let busy = busy(&account, used, limit);
                self.waiting.push(account, rank, now);
                return Place::Busy(busy);
            }
        }
        self.hold(claim);
        Place::Granted
    }

    /// Takes a place without asking: the capture runs, or its order may be out.
    pub fn hold(&mut self, claim: Claim) {
        self.waiting.remove(&claim.capture);
        if self.held.contains_key(&claim.capture) {
            return;
        }
        for (account, _) in accounts(&claim) {
            *self.used.entry(account).or_default() += 1;
        }
        self.held.insert(claim.capture.clone(), claim);
    }

    /// Gives a place back; a capture that holds none has no effect.
    pub fn release(&mut self, capture: &str) {
        self.waiting.remove(capture);
        let Some(claim) = self.held.remove(capture) else { return };
        for (account, _) in accounts(&claim) {
            let left = self.used.get(&account).copied().unwrap_or_default().saturating_sub(1);
            if left == 0 {
                self.used.remove(&account)
            } else {
                self.used.insert(account, left)
            };
        }
    }

    /// Gives back the places of sessions that are gone.
    pub fn retain_sessions(&mut self, lives: impl Fn(&str) -> bool) {
        let gone: Vec<String> =
            self.held.values().filter(|c| !lives(&c.session)).map(|c| c.capture.clone()).collect();
        gone.iter().for_each(|capture| self.release(capture));
        self.waiting.retain_sessions(lives);
    }

    /// How many places are held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether no place is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }
}

/// In the order in which they bind.
fn accounts(claim: &Claim) -> [(Account, usize); 4] {
    let Limits { node, namespace, policy, fleet } = claim.limits;
    // Sessions without a policy have no account of one: each is its own.
    let owner = if claim.policy.is_empty() { &claim.session } else { &claim.policy };
    [
        (Account::Node(claim.node.clone()), node),
        (Account::Namespace(claim.namespace.clone()), namespace),
        (Account::Policy(owner.clone()), policy),
        (Account::Fleet, fleet),
    ]
}

fn rank(claim: &Claim) -> Rank {
    let Claim { priority, since, session, capture, .. } = claim;
    Rank { priority: Reverse(*priority), since: *since, session: session.clone(), capture: capture.clone() }
}

fn busy(account: &Account, used: usize, limit: usize) -> Busy {
    let run = counted(used, "capture runs", "captures run");
    let (reason, message) = match account {
        Account::Node(node) => (
            Reason::NodeBusy,
            format!("{run} on the node {node}, and budget.maxConcurrentPerNode is {limit}"),
        ),
        Account::Namespace(namespace) => (
            Reason::BudgetExhausted,
            format!(
                "{run} in the namespace {namespace}, and the operator allows {limit} (budgets.namespace)"
            ),
        ),
        Account::Policy(_) => {
            (Reason::BudgetExhausted, format!("{run} under the policy, and budget.maxConcurrent is {limit}"))
        }
        Account::Fleet => (
            Reason::BudgetExhausted,
            format!("{run} in the cluster, and the operator allows {limit} (budgets.fleet)"),
        ),
    };
    Busy { reason, message }
}

#[cfg(test)]
mod tests;
