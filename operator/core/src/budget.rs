//! May one more target be captured now? A ledger of places that is never overdrawn: by node, namespace, policy and fleet.
//!
//! ```text
//! claim ─► held (there was room on every account)            ─► release, when the capture is over
//!      └─► waiting (said which account is full), asked again ─► held | forgotten
//! ```
//! The leader keeps one ledger. A target's place is written into its session's status before its order goes out, so that the
//! next leader holds the same places before it gives any away.

use std::collections::HashMap;

use fleetprof_crds::Reason;
use jiff::{SignedDuration, Timestamp};

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

#[derive(Clone, Debug)]
struct Waiting {
    claim: Claim,
    at: Account,
    seen: Timestamp,
}

/// Who holds a place and who waits for one.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    held: HashMap<String, Claim>,
    used: HashMap<Account, usize>,
    waiting: HashMap<String, Waiting>,
}

impl Ledger {
    /// Asks for a place. One that is held is granted again; a claim that must wait is to be repeated within 15 s.
    pub fn claim(&mut self, claim: Claim, now: Timestamp) -> Place {
        if self.held.contains_key(&claim.capture) {
            return Place::Granted;
        }
        self.waiting.retain(|_, w| now.duration_since(w.seen) < FORGOTTEN_AFTER);
        for (account, limit) in accounts(&claim) {
            let used = self.used.get(&account).copied().unwrap_or_default();
            let ahead = self.waiting.values().filter(|w| w.at == account && goes_before(&w.claim, &claim)).count();
            if used + ahead >= limit {
                let busy = busy(&account, used, limit);
                self.waiting.insert(claim.capture.clone(), Waiting { claim, at: account, seen: now });
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
        let gone: Vec<String> = self.held.values().filter(|c| !lives(&c.session)).map(|c| c.capture.clone()).collect();
        gone.iter().for_each(|capture| self.release(capture));
        self.waiting.retain(|_, w| lives(&w.claim.session));
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

fn goes_before(a: &Claim, b: &Claim) -> bool {
    let rank = |c: &Claim| (std::cmp::Reverse(c.priority), c.since, c.session.clone(), c.capture.clone());
    rank(a) < rank(b)
}

fn busy(account: &Account, used: usize, limit: usize) -> Busy {
    let (reason, message) = match account {
        Account::Node(node) => {
            (Reason::NodeBusy, format!("{used} captures run on the node {node}, and budget.maxConcurrentPerNode is {limit}"))
        }
        Account::Namespace(namespace) => (
            Reason::BudgetExhausted,
            format!("{used} captures run in the namespace {namespace}, and the operator allows {limit} (budgets.namespace)"),
        ),
        Account::Policy(_) => (Reason::BudgetExhausted, format!("{used} captures of the policy run, and budget.maxConcurrent is {limit}")),
        Account::Fleet => {
            (Reason::BudgetExhausted, format!("{used} captures run in the cluster, and the operator allows {limit} (budgets.fleet)"))
        }
    };
    Busy { reason, message }
}

#[cfg(test)]
mod tests;
