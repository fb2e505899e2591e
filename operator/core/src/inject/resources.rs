//! What do the containers of a pod ask for, each and all of them? Counted as the API server does: a sidecar runs
//! beside the app, any other init container before it.

use std::collections::BTreeMap;

use fleetprof_crds::quantity::Quantity;
use serde_json::{Map, Value};

use super::raw::{RawPod, array};
use crate::agent::Skip;

/// Amounts by the name of their resource.
pub(super) type Amounts = BTreeMap<String, Quantity>;

/// One half of a container's resources.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Side {
    Requests,
    Limits,
}

impl Side {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Limits => "limits",
        }
    }
}

/// Requests and limits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Resources {
    pub requests: Amounts,
    pub limits: Amounts,
}

impl Resources {
    /// Those in `resources` of a container; without a request the limit is requested. What cannot be read is
    /// the API server's to refuse.
    pub fn of(resources: Option<&Value>) -> Self {
        let limits = amounts(resources.and_then(|r| r.get("limits")));
        let mut requests = limits.clone();
        requests.extend(amounts(resources.and_then(|r| r.get("requests"))));
        Self { requests, limits }
    }

    pub fn get(&self, side: Side, name: &str) -> Option<Quantity> {
        match side {
            Side::Requests => self.requests.get(name).copied(),
            Side::Limits => self.limits.get(name).copied(),
        }
    }

    /// Whether it requests all of the CPU and memory that it may use, as each container of a pod of the class
    /// `Guaranteed` does.
    pub fn is_guaranteed(&self) -> bool {
        ["cpu", "memory"].iter().all(|name| {
            let limit = self.get(Side::Limits, name).filter(|limit| limit.nanos() > 0);
            limit.is_some() && self.get(Side::Requests, name) == limit
        })
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.requests.keys().chain(self.limits.keys()).map(String::as_str)
    }

    fn add(&mut self, other: &Self) {
        merge(&mut self.requests, &other.requests, sum);
        merge(&mut self.limits, &other.limits, sum);
    }

    fn raise_to(&mut self, other: &Self) {
        merge(&mut self.requests, &other.requests, Ord::max);
        merge(&mut self.limits, &other.limits, Ord::max);
    }
}

fn merge(into: &mut Amounts, other: &Amounts, how: impl Fn(Quantity, Quantity) -> Quantity) {
    for (name, amount) in other {
        into.entry(name.clone()).and_modify(|known| *known = how(*known, *amount)).or_insert(*amount);
    }
}

pub(super) fn sum(a: Quantity, b: Quantity) -> Quantity {
    Quantity::from_nanos(a.nanos().saturating_add(b.nanos()))
}

/// The amounts in an object such as `requests`.
pub(super) fn amounts(object: Option<&Value>) -> Amounts {
    let all = object.and_then(Value::as_object).into_iter().flatten();
    all.filter_map(|(name, amount)| Some((name.clone(), quantity(amount)?))).collect()
}

/// A quantity may be a number as well as text.
fn quantity(value: &Value) -> Option<Quantity> {
    match value {
        Value::String(text) => text.parse().ok(),
        Value::Number(number) => number.to_string().parse().ok(),
        _ => None,
    }
}

/// What a pod asks for without the agent.
#[derive(Debug, Default)]
pub(super) struct PodResources {
    /// The sum of the containers that run at the same time as the agent.
    beside: Resources,
    /// The most that runs at one time before the app.
    before: Resources,
    /// `spec.resources`, which stand for the containers' where they name a resource.
    of_pod: Option<Resources>,
    /// What the runtime needs.
    overhead: Amounts,
    /// Whether each container requests what it may use.
    is_guaranteed: bool,
}

impl PodResources {
    pub fn of(pod: &RawPod<'_>) -> Result<Self, Skip> {
        let (mut beside, mut sidecars, mut before): (Resources, Resources, Resources) = Default::default();
        let mut is_guaranteed = true;
        for container in objects(array(pod.spec(), "containers")?) {
            let resources = Resources::of(container.get("resources"));
            is_guaranteed &= resources.is_guaranteed();
            beside.add(&resources);
        }
        for container in objects(array(pod.spec(), "initContainers")?) {
            let mut resources = Resources::of(container.get("resources"));
            is_guaranteed &= resources.is_guaranteed();
            if container.get("restartPolicy").is_some_and(|policy| policy == "Always") {
                beside.add(&resources);
                sidecars.add(&resources);
                resources = sidecars.clone();
            } else {
                resources.add(&sidecars);
            }
            before.raise_to(&resources);
        }
        let of_pod = pod.spec().get("resources").filter(|r| r.is_object()).map(|resources| Resources {
            requests: amounts(resources.get("requests")),
            limits: amounts(resources.get("limits")),
        });
        let overhead = amounts(pod.spec().get("overhead"));
        Ok(Self { beside, before, of_pod, overhead, is_guaranteed })
    }

    /// What all containers ask for, when the agent asks for `added`; `None` where none of them does.
    pub fn with(&self, side: Side, name: &str, added: Option<Quantity>) -> Option<Quantity> {
        if let Some(amount) = self.of_pod(side, name) {
            return Some(amount);
        }
        self.containers(side, name, added)
    }

    /// The same without regard to `spec.resources`.
    pub fn containers(&self, side: Side, name: &str, added: Option<Quantity>) -> Option<Quantity> {
        let beside = [self.beside.get(side, name), added].into_iter().flatten().reduce(sum);
        beside.max(self.before.get(side, name))
    }

    /// What those that run at the same time as the agent ask for.
    pub fn beside(&self, side: Side, name: &str) -> Quantity {
        self.beside.get(side, name).unwrap_or(Quantity::ZERO)
    }

    /// What `spec.resources` names.
    pub fn of_pod(&self, side: Side, name: &str) -> Option<Quantity> {
        self.of_pod.as_ref()?.get(side, name)
    }

    /// Whether `spec.resources` names the resource: a limit there defaults its request.
    pub fn is_set_for_pod(&self, name: &str) -> bool {
        self.of_pod(Side::Requests, name).or_else(|| self.of_pod(Side::Limits, name)).is_some()
    }

    /// Whether there is a `spec.resources`: quotas then ask no container for its limits.
    pub fn has_own(&self) -> bool {
        self.of_pod.as_ref().is_some_and(|resources| resources.names().next().is_some())
    }

    /// Whether no container asks for CPU or memory, as the API server tells the class `BestEffort`.
    pub fn is_best_effort(&self) -> bool {
        let asks = |side, name: &&str| self.with(side, name, None).is_some_and(|amount| amount.nanos() > 0);
        let mut asked =
            [Side::Requests, Side::Limits].into_iter().flat_map(|side| ["cpu", "memory"].map(|n| (side, n)));
        !asked.any(|(side, name)| asks(side, &name))
    }

    /// Whether the pod is `Guaranteed` by the resources of its containers, so that those of one more count.
    /// Where there is a `spec.resources`, the class follows from that alone.
    pub fn is_guaranteed(&self) -> bool {
        self.is_guaranteed && !self.has_own()
    }

    /// What the runtime of the pod needs.
    pub fn overhead(&self, name: &str) -> Quantity {
        self.overhead.get(name).copied().unwrap_or(Quantity::ZERO)
    }
}

fn objects(list: &[Value]) -> impl Iterator<Item = &Map<String, Value>> {
    list.iter().filter_map(Value::as_object)
}
