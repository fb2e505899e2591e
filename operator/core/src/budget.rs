//! May one more target be captured now? A ledger of slots that never exceeds a limit, and in which people do
//! not wait for machines.
//!
//! ```text
//! claim ─► held (there was room on every account)            ─► release, when the capture is over
//!      └─► waiting (said which account is full), asked again ─► held | forgotten
//! ```
//! Captures that schedules and triggers start share the accounts of their container, node, policy, namespace
//! and fleet. A capture that a person requests has two accounts that only people fill: its container, and its
//! node with a generous limit. Where it gets the container that a machine's capture holds, that one yields.
//!
//! The leader keeps one ledger. A target's slot is written to its session's status before the capture is
//! ordered, so a new leader restores all slots before it grants new ones.

mod accounts;
mod cores;
mod queues;

use std::collections::{BTreeSet, HashMap};

use fleetprof_crds::Reason;
use jiff::Timestamp;

use accounts::{Account, accounts, busy};
pub use cores::per_node;
use queues::{Asked, Queues, Rank};

/// A target that needs a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The target's capture, which owns the slot.
    pub capture: String,
    /// UID of the session.
    pub session: String,
    /// Name of the session.
    pub name: String,
    /// Namespace of the session.
    pub namespace: String,
    /// UID of the session's policy; empty without a policy.
    pub policy: String,
    /// Node of the pod.
    pub node: String,
    /// The container: UID of the pod and name of the container.
    pub container: String,
    /// Whether a person or a machine asks.
    pub asker: Asker,
    /// Higher goes first, see [`Asker`].
    pub priority: i32,
    /// With equal priority, the earlier claim goes first.
    pub since: Timestamp,
    /// The limits that apply.
    pub limits: Limits,
}

/// What asks for a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Asker {
    /// A person: never waits for a machine.
    Person,
    /// A schedule or trigger of a policy of a namespace: its priority counts within its namespace.
    Policy,
    /// A schedule or trigger of a cluster policy: its priority counts everywhere.
    ClusterPolicy,
}

/// Limits for concurrent captures on the accounts of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// On the claim's node, for scheduled and triggered captures of any policy.
    pub node: usize,
    /// On the claim's node, for captures of the claim's policy.
    pub policy_on_node: usize,
    /// In the claim's namespace, for scheduled and triggered captures.
    pub namespace: usize,
    /// Scheduled and triggered captures of the claim's policy.
    pub policy: usize,
    /// Scheduled and triggered captures in the whole fleet.
    pub fleet: usize,
    /// On the claim's node, for captures that people requested.
    pub people: usize,
}

/// The result of a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// The target may be captured.
    Granted,
    /// An account is full.
    Busy(Busy),
}

/// The full account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Busy {
    /// `NodeBusy`, `BudgetExhausted` or `ContainerBusy`.
    pub reason: Reason,
    /// The account and its limit, as a message.
    pub message: String,
}

/// Whether the reason is that of a target that waits for a slot.
#[must_use]
pub const fn is_busy(reason: Reason) -> bool {
    matches!(reason, Reason::NodeBusy | Reason::BudgetExhausted | Reason::ContainerBusy)
}

/// What is held on one account.
#[derive(Clone, Debug, Default)]
struct Used {
    total: usize,
    by_namespace: HashMap<String, usize>,
}

/// Which captures hold a slot, and which wait for one.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    held: HashMap<String, Claim>,
    used: HashMap<Account, Used>,
    /// The captures that hold each container.
    on_container: HashMap<String, BTreeSet<String>>,
    waiting: Queues,
}

impl Ledger {
    /// Claims a slot. A slot that is already held is granted again; a waiting claim must be repeated within
    /// 15 s.
    pub fn claim(&mut self, claim: Claim, now: Timestamp) -> Place {
        if self.held.contains_key(&claim.capture) {
            return Place::Granted;
        }
        self.waiting.sweep(now);
        self.waiting.remove(&claim.capture);
        for (account, limit) in accounts(&claim) {
            let limit = if self.is_for_people(&account, now) { 0 } else { limit };
            let used = self.used.get(&account);
            let held = used.map_or(0, |used| used.total);
            let asked = Asked { account: &account, claim: &claim, used, now };
            if self.waiting.at_least(limit.saturating_sub(held), &asked) {
                let busy = busy(&account, (held, limit), self.holder(&claim.container));
                self.waiting.push(account, Rank::of(&claim), claim.namespace, now);
                return Place::Busy(busy);
            }
        }
        for (account, _) in accounts(&claim) {
            self.waiting.granted(&account, &claim.namespace);
        }
        self.hold(claim);
        Place::Granted
    }

    /// Takes a slot unconditionally, because the capture is running or may have been ordered.
    pub fn hold(&mut self, claim: Claim) {
        self.waiting.remove(&claim.capture);
        if self.held.contains_key(&claim.capture) {
            return;
        }
        for (account, _) in accounts(&claim) {
            let used = self.used.entry(account).or_default();
            used.total += 1;
            *used.by_namespace.entry(claim.namespace.clone()).or_default() += 1;
        }
        self.on_container.entry(claim.container.clone()).or_default().insert(claim.capture.clone());
        self.held.insert(claim.capture.clone(), claim);
    }

    /// Releases a slot; does nothing if the capture holds none.
    pub fn release(&mut self, capture: &str) {
        self.waiting.remove(capture);
        let Some(claim) = self.held.remove(capture) else { return };
        for (account, _) in accounts(&claim) {
            self.give_back(&account, &claim.namespace);
        }
        if let Some(captures) = self.on_container.get_mut(&claim.container) {
            captures.remove(capture);
            if captures.is_empty() {
                self.on_container.remove(&claim.container);
            }
        }
    }

    fn give_back(&mut self, account: &Account, namespace: &str) {
        let Some(used) = self.used.get_mut(account) else { return };
        used.total = used.total.saturating_sub(1);
        if let Some(count) = used.by_namespace.get_mut(namespace) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                used.by_namespace.remove(namespace);
            }
        }
        if used.total == 0 {
            self.used.remove(account);
        }
    }

    /// Releases the slots of deleted sessions.
    pub fn retain_sessions(&mut self, lives: impl Fn(&str) -> bool) {
        let gone: Vec<String> =
            self.held.values().filter(|c| !lives(&c.session)).map(|c| c.capture.clone()).collect();
        gone.iter().for_each(|capture| self.release(capture));
        self.waiting.retain_sessions(lives);
    }

    /// Name of the session to which a capture yields: a person requested it for the same container. `None`
    /// for a capture that holds no slot or that a person requested.
    #[must_use]
    pub fn yields_to(&self, capture: &str) -> Option<&str> {
        let claim = self.held.get(capture).filter(|claim| claim.asker != Asker::Person)?;
        self.on(&claim.container).find(|c| c.asker == Asker::Person).map(|person| person.name.as_str())
    }

    /// Sessions whose captures yield to this one, as (namespace, name).
    #[must_use]
    pub fn yielding_to(&self, capture: &str) -> Vec<(String, String)> {
        let Some(claim) = self.held.get(capture).filter(|claim| claim.asker == Asker::Person) else {
            return Vec::new();
        };
        let machines = self.on(&claim.container).filter(|c| c.asker != Asker::Person);
        machines.map(|c| (c.namespace.clone(), c.name.clone())).collect()
    }

    /// Number of slots held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether no slot is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Whether a container is taken by a person, or will be as soon as another person's capture ends: no
    /// machine gets it then.
    fn is_for_people(&self, account: &Account, now: Timestamp) -> bool {
        let Account::Container(container) = account else { return false };
        let people = Account::ContainerForPeople(container.clone());
        self.used.contains_key(&people) || self.waiting.is_awaited(&people, now)
    }

    fn on(&self, container: &str) -> impl Iterator<Item = &Claim> {
        self.on_container.get(container).into_iter().flatten().filter_map(|capture| self.held.get(capture))
    }

    /// Name of the session that holds a container, a person's before a machine's; empty where none does.
    fn holder(&self, container: &str) -> &str {
        let holder = self.on(container).min_by_key(|c| c.asker != Asker::Person);
        holder.map_or("", |c| c.name.as_str())
    }
}

#[cfg(test)]
mod tests;
