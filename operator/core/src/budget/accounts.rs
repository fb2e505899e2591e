//! On which accounts does a capture count, and what is said of one that is full?

use fleetprof_crds::Reason;

use super::{Asker, Busy, Claim, Limits};
use crate::text::counted;

/// Something that only a limited number of captures may use at a time.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Account {
    /// A container, for machines: an agent captures it once at a time.
    Container(String),
    /// A container, for people.
    ContainerForPeople(String),
    /// A node, for machines.
    Node(String),
    /// A node, for people.
    NodeForPeople(String),
    /// A policy on a node.
    PolicyOnNode(String, String),
    /// A namespace, for machines.
    Namespace(String),
    /// A policy, for machines.
    Policy(String),
    /// The cluster, for machines.
    Fleet,
}

/// The accounts of a claim with their limits, in the order in which they are checked.
pub(super) fn accounts(claim: &Claim) -> Vec<(Account, usize)> {
    let Limits { node, policy_on_node, namespace, policy, fleet, people } = claim.limits;
    let (on, container) = (claim.node.clone(), claim.container.clone());
    if claim.asker == Asker::Person {
        return vec![(Account::ContainerForPeople(container), 1), (Account::NodeForPeople(on), people)];
    }
    // A session without a policy has its own account instead.
    let owner = if claim.policy.is_empty() { &claim.session } else { &claim.policy };
    vec![
        (Account::Container(container), 1),
        (Account::Node(on.clone()), node),
        (Account::PolicyOnNode(owner.clone(), on), policy_on_node),
        (Account::Namespace(claim.namespace.clone()), namespace),
        (Account::Policy(owner.clone()), policy),
        (Account::Fleet, fleet),
    ]
}

/// The message about an account, its captures and its limit; `holder` is the session
/// that captures the container.
pub(super) fn busy(account: &Account, (used, limit): (usize, usize), holder: &str) -> Busy {
    let reason = match account {
        Account::Container(_) | Account::ContainerForPeople(_) => Reason::ContainerBusy,
        Account::Node(_) | Account::NodeForPeople(_) | Account::PolicyOnNode(..) => Reason::NodeBusy,
        Account::Namespace(_) | Account::Policy(_) | Account::Fleet => Reason::BudgetExhausted,
    };
    let run = match account {
        Account::NodeForPeople(_) => {
            counted(used, "capture that users requested is", "captures that users requested are")
        }
        _ => counted(used, "scheduled or triggered capture is", "scheduled or triggered captures are"),
    };
    let (place, set_by) = match account {
        Account::Container(_) | Account::ContainerForPeople(_) => return taken(holder),
        Account::Node(node) => (format!("on node {node}"), "chart value budgets.node"),
        Account::NodeForPeople(node) => (format!("on node {node}"), "chart value budgets.onDemandPerNode"),
        Account::PolicyOnNode(_, node) => {
            (format!("for the policy on node {node}"), "budget.maxConcurrentPerNode")
        }
        Account::Namespace(namespace) => {
            (format!("in namespace {namespace}"), "chart value budgets.namespace")
        }
        Account::Policy(_) => ("for the policy".to_owned(), "budget.maxConcurrent"),
        Account::Fleet => ("in the cluster".to_owned(), "chart value budgets.fleet"),
    };
    Busy { reason, message: format!("{run} running {place}, the limit is {limit} ({set_by})") }
}

/// What is said of a container that `holder` captures; without a holder, one is about to.
fn taken(holder: &str) -> Busy {
    let message = match holder {
        "" => "another session is about to capture the container".to_owned(),
        holder => format!("session {holder} is capturing the container"),
    };
    Busy { reason: Reason::ContainerBusy, message }
}
