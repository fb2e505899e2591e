//! Which resources can the agent have in this pod, so that nothing refuses the pod because of them?
//!
//! ```text
//! defaults ◄ chart ◄ policy ─► proposal ─► within LimitRanges, quotas, spec.resources? ─► resources
//!                                                                                    └──► ResourcesConflict
//! ```
//! The API server checks a pod after the webhook has answered, so what is proposed is held against the same
//! rules here. What a LimitRange would set by default is set explicitly: a CPU limit that was meant for small
//! apps would slow the agent down while a target waits for it.

use fleetprof_crds::Reason;
use fleetprof_crds::quantity::Quantity;
use serde_json::{Map, Value};

use super::bounds::{Bounds, Kind, Per, Quota};
use super::raw::RawPod;
use super::resources::{PodResources, Resources, Side, amounts, sum};
use crate::agent::Skip;

const NANOS: i128 = 1_000_000_000;
/// The most that a quantity can be.
const HUGE: i128 = i64::MAX as i128 * NANOS;

/// What an agent needs of a resource, in billionths.
struct Need {
    /// The smallest limit that a capture works with.
    least: i128,
    /// The limit that is enough for most captures.
    enough: i128,
    /// The limit where one has to be set and nobody says which.
    plenty: i128,
    /// The most that is requested because a rule demands it.
    most: i128,
}

impl Need {
    /// CPU: a capture of a Python process at 99 Hz was measured at 70 to 90m. Memory: an idle agent uses 9 MB, a
    /// capture the symbol tables of what the target maps. Of anything else the agent needs nothing.
    fn of(name: &str) -> Self {
        const MIB: i128 = NANOS << 20;
        match name {
            "cpu" => Self { least: NANOS / 10, enough: NANOS / 5, plenty: NANOS, most: NANOS / 4 },
            "memory" => Self { least: 32 * MIB, enough: 128 * MIB, plenty: 256 * MIB, most: 256 * MIB },
            _ => Self { least: 0, enough: 0, plenty: 0, most: 0 },
        }
    }
}

/// What the agent asks for of one resource.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ask {
    pub request: Option<Quantity>,
    pub limit: Option<Quantity>,
}

/// Of the CPU that the other containers request, the agent requests at most one part in so many, unless somebody says
/// how much: a HorizontalPodAutoscaler compares what a pod uses with the sum of its containers' requests, and acts on
/// a difference of a tenth.
const PARTS: i128 = 20;

/// What an agent gets where no rule forbids it, and which part of it was said by whom.
pub(super) struct Wanted {
    pub all: Value,
    pub by_policy: Resources,
    /// Neither the chart nor the policy says how much CPU the agent requests.
    pub has_default_cpu: bool,
}

impl Wanted {
    /// Each value of the policy before that of the chart before that of `defaults`.
    pub fn new(defaults: Value, chart: &Value, policy: Option<Value>) -> Self {
        let policy = policy.unwrap_or_default();
        let mut all = defaults;
        for over in [chart, &policy] {
            for side in ["requests", "limits"] {
                let values = over.get(side).and_then(Value::as_object).into_iter().flatten();
                for (name, value) in values.filter(|(_, value)| !value.is_null()) {
                    all[side][name] = value.clone();
                }
            }
        }
        let says_cpu = |of: &Value| of.pointer("/requests/cpu").is_some_and(|cpu| !cpu.is_null());
        let has_default_cpu = !says_cpu(chart) && !says_cpu(&policy);
        let by_policy =
            Resources { requests: amounts(policy.get("requests")), limits: amounts(policy.get("limits")) };
        Self { all, by_policy, has_default_cpu }
    }
}

/// The `resources` of the agent's container in this pod.
///
/// # Errors
/// `ResourcesConflict` where none would do, naming what is in the way.
pub(super) fn fit(wanted: &Wanted, pod: &RawPod<'_>, bounds: &Bounds<'_>) -> Result<Value, Skip> {
    let pod = PodResources::of(pod)?;
    let asked = Resources::of(Some(&wanted.all));
    let mut names: Vec<&str> = asked.names().chain(bounds.names()).collect();
    names.sort_unstable();
    names.dedup();
    let mut fitted = Map::new();
    for name in names {
        let is_small = name == "cpu" && wanted.has_default_cpu;
        let case = Case { name, pod: &pod, bounds, by_policy: &wanted.by_policy, is_small };
        let asked =
            Ask { request: asked.requests.get(name).copied(), limit: asked.limits.get(name).copied() };
        let ask = case.propose(asked);
        case.check(asked, ask)?;
        for (side, amount) in [(Side::Requests, ask.request), (Side::Limits, ask.limit)] {
            let Some(amount) = amount else { continue };
            let as_wanted = wanted.all[side.as_str()].get(name).filter(|_| asked.side(side) == Some(amount));
            let text = as_wanted.cloned().unwrap_or_else(|| text(name, amount).into());
            let values = fitted.entry(side.as_str()).or_insert_with(|| Value::Object(Map::new()));
            values[name] = text;
        }
    }
    Ok(Value::Object(fitted))
}

/// A pod that is `Guaranteed` may have cores of its own, and is the last one to be evicted: it stays so.
///
/// # Errors
/// `ResourcesConflict` where an agent with these `resources` would change it.
pub(super) fn keep_class(pod: &RawPod<'_>, agent: &Value) -> Result<(), Skip> {
    let pod = PodResources::of(pod)?;
    if !pod.is_guaranteed() || Resources::of(Some(agent)).is_guaranteed() {
        return Ok(());
    }
    Err(Skip::new(
        Reason::ResourcesConflict,
        "the pod is of the QoS class Guaranteed, and would be Burstable, because the agent does not request all of \
         the CPU and memory that it may use; to inject it, set agent.resources of the policy with equal requests \
         and limits",
    ))
}

impl Ask {
    fn side(self, side: Side) -> Option<Quantity> {
        match side {
            Side::Requests => self.request,
            Side::Limits => self.limit,
        }
    }
}

/// One resource of one pod.
struct Case<'a> {
    name: &'a str,
    pod: &'a PodResources,
    bounds: &'a Bounds<'a>,
    by_policy: &'a Resources,
    /// The request stays small beside those of the other containers.
    is_small: bool,
}

impl Case<'_> {
    /// As little as the rules allow and a capture needs. It may break a rule: [`Self::check`] tells.
    fn propose(&self, asked: Ask) -> Ask {
        let (name, bounds, need) = (self.name, self.bounds, Need::of(self.name));
        let min = bounds.tightest(Per::Container, Kind::Min, name).unwrap_or(0);
        let mut limit = asked.limit.map(Quantity::nanos);
        if limit.is_none() && bounds.needs_limit(name) {
            limit = Some(need.plenty);
        }
        let mut request = asked.request.map(|request| request.nanos().min(self.unnoticed()));
        if self.takes_nothing_of(Side::Requests) || (request.is_none() && bounds.is_defaulted(name)) {
            request = Some(0);
        }
        if self.by_policy.get(Side::Requests, name).is_none()
            && let Some(chosen) = self.by_policy.get(Side::Limits, name)
        {
            request = request.map(|request| request.min(chosen.nanos()));
        }
        request = request.map(|request| request.max(min));
        limit = limit.map(|limit| limit.max(min).max(request.unwrap_or(0)));
        let max = bounds.tightest(Per::Container, Kind::Max, name);
        let of_pod = self.pod.of_pod(Side::Limits, name).map(Quantity::nanos);
        limit =
            limit.map(|l| [max, of_pod, self.room(Side::Limits)].into_iter().flatten().fold(l, i128::min));
        request = request.map(|r| self.room(Side::Requests).map_or(r, |room| r.min(room.max(0))));
        let (request, limit) = self.in_ratio(request, limit, &need);
        let limit = limit.map(|limit| limit - limit.rem_euclid(self.grain()));
        let request = request.map(|request| ceil(request, self.grain()).min(limit.unwrap_or(HUGE)));
        Ask { request: request.map(Quantity::from_nanos), limit: limit.map(Quantity::from_nanos) }
    }

    /// Whether the agent requests nothing, because whatever it takes is missing elsewhere: in `spec.resources`,
    /// or in a quota that the policy does not tell it to use.
    fn takes_nothing_of(&self, side: Side) -> bool {
        let chosen = self.by_policy.get(side, self.name).is_some();
        self.pod.is_set_for_pod(self.name) || (!chosen && self.bounds.quota(side, self.name).is_some())
    }

    /// The most that is requested so that an autoscaler sees what it would see without the agent; anything where
    /// the other containers request nothing, since no autoscaler works then.
    fn unnoticed(&self) -> i128 {
        let share = self.pod.beside(Side::Requests, self.name).nanos();
        let share = if self.is_small && share > 0 { share / PARTS } else { HUGE };
        share - share.rem_euclid(self.grain())
    }

    /// What LimitRanges for pods leave to the agent.
    fn room(&self, side: Side) -> Option<i128> {
        let max = self.bounds.tightest(Per::Pod, Kind::Max, self.name)?;
        let others = self.pod.beside(side, self.name).nanos();
        self.pod.of_pod(side, self.name).is_none().then_some(max - others)
    }

    /// The API server compares thousandths of a core, and bytes.
    fn grain(&self) -> i128 {
        if self.name == "cpu" { NANOS / 1000 } else { NANOS }
    }

    /// Lowers the limit as far as is enough for a capture, then raises the request.
    fn in_ratio(
        &self,
        request: Option<i128>,
        limit: Option<i128>,
        need: &Need,
    ) -> (Option<i128>, Option<i128>) {
        let (Some(mut request), Some(mut limit)) = (request, limit) else { return (request, limit) };
        let grain = self.grain();
        for per in [Per::Container, Per::Pod] {
            let Some(ratio) = self.bounds.tightest(per, Kind::Ratio, self.name) else { continue };
            let others = |side| match per {
                Per::Container => 0,
                Per::Pod => self.pod.beside(side, self.name).nanos(),
            };
            // The API server divides floating-point numbers.
            let margin = if ratio % NANOS == 0 { 0 } else { grain };
            let most = |request: i128| {
                let all = (request + others(Side::Requests)).saturating_mul(ratio) / NANOS;
                all - all.rem_euclid(grain) - margin - others(Side::Limits)
            };
            if limit > most(request) {
                limit = most(request).max(need.enough).min(limit);
            }
            if limit > most(request) {
                let all = (limit + others(Side::Limits)).saturating_mul(NANOS) / ratio.max(1);
                request = (ceil(all.min(HUGE), grain) + margin - others(Side::Requests)).min(HUGE);
            }
        }
        (Some(request), Some(limit))
    }

    /// Whether the API server takes the pod with this, and a capture works with it.
    fn check(&self, asked: Ask, ask: Ask) -> Result<(), Skip> {
        let (name, need) = (self.name, Need::of(self.name));
        let request = ask.request.or(ask.limit);
        let at_pod = |side, added| self.pod.with(side, name, added);
        for rule in self.bounds.rules_of(name) {
            let holds = match rule.per {
                Per::Container => rule.holds(request, ask.limit),
                Per::Pod => rule.holds(at_pod(Side::Requests, request), at_pod(Side::Limits, ask.limit)),
            };
            if !holds {
                return Err(self.refused(&rule.to_string(), ask));
            }
        }
        let least = asked.limit.map_or(need.least, |asked| asked.nanos().min(need.least));
        if ask.limit.is_some_and(|limit| limit.nanos() < least) {
            return Err(self.refused(
                &self.what_limits(),
                Ask { request: None, limit: Some(Quantity::from_nanos(least)) },
            ));
        }
        let most = asked.request.map_or(need.most, |asked| asked.nanos().max(need.most));
        if let Some(rule) = self.bounds.rules_of(name).find(|rule| rule.kind != Kind::Max)
            && ask.request.is_some_and(|request| request.nanos() > most)
        {
            return Err(self.refused(&rule.to_string(), ask));
        }
        self.in_pod(request)?;
        self.in_quotas(ask)
    }

    /// What made the limit as small as it is.
    fn what_limits(&self) -> String {
        let rule = self.bounds.rules_of(self.name).find(|rule| rule.kind != Kind::Min);
        rule.map_or_else(
            || format!("spec.resources.limits.{} of the pod", self.name),
            |rule| rule.to_string(),
        )
    }

    /// `spec.resources` must hold what all containers request.
    fn in_pod(&self, request: Option<Quantity>) -> Result<(), Skip> {
        let (name, pod) = (self.name, self.pod);
        let Some(most) = pod.of_pod(Side::Requests, name).or_else(|| pod.of_pod(Side::Limits, name)) else {
            return Ok(());
        };
        let added = request.filter(|request| request.nanos() > 0);
        if added.is_some() && pod.containers(Side::Requests, name, added).is_some_and(|all| all > most) {
            let what = format!("spec.resources.requests.{name} of the pod");
            return Err(self.refused(&what, Ask { request, limit: None }));
        }
        Ok(())
    }

    /// A quota counts what all containers of the pod ask for.
    fn in_quotas(&self, ask: Ask) -> Result<(), Skip> {
        for side in [Side::Requests, Side::Limits] {
            let Some(quota) = self.bounds.quota(side, self.name) else { continue };
            if self.pod.of_pod(side, self.name).is_some() {
                continue;
            }
            let added = ask.side(side).filter(|added| added.nanos() > 0);
            let chosen = self.by_policy.get(side, self.name).is_some();
            let demands = quota.demands && !self.pod.has_own();
            if side == Side::Limits && !chosen && (added.is_some() || demands) {
                return Err(self.kept_out(quota));
            }
            let all = self.pod.with(side, self.name, added).unwrap_or(Quantity::ZERO);
            if added.is_some() && sum(all, self.pod.overhead(self.name)).nanos() > quota.left {
                return Err(self.refused(&quota.to_string(), ask));
            }
        }
        Ok(())
    }

    fn kept_out(&self, quota: &Quota) -> Skip {
        let cause = format!(
            "{quota} would count the agent's limit, and other pods would lack it; a policy that sets \
             agent.resources.limits.{} uses the quota",
            self.name
        );
        Skip::new(Reason::ResourcesConflict, cause)
    }

    fn refused(&self, what: &str, ask: Ask) -> Skip {
        let amount = |(side, amount): (Side, Option<Quantity>)| {
            Some(format!("a {} of {}", side.as_str().trim_end_matches('s'), text(self.name, amount?)))
        };
        let needs = [(Side::Requests, ask.request), (Side::Limits, ask.limit)];
        let needs = needs.into_iter().filter_map(amount).collect::<Vec<_>>().join(" and ");
        let needs = if needs.is_empty() { "none".to_owned() } else { needs };
        let cause = format!("{what} leaves no room for the agent, which needs {needs} ({})", self.name);
        Skip::new(Reason::ResourcesConflict, cause)
    }
}

/// The next multiple of `grain`.
fn ceil(amount: i128, grain: i128) -> i128 {
    amount + (-amount).rem_euclid(grain)
}

/// A quantity as people write it; rounded up to thousandths of a core, or to one.
fn text(name: &str, amount: Quantity) -> String {
    let up = |unit: i128| amount.nanos().div_euclid(unit) + i128::from(amount.nanos().rem_euclid(unit) > 0);
    match name {
        "cpu" => format!("{}m", up(NANOS / 1000)),
        _ => match up(NANOS) {
            bytes if bytes != 0 && bytes % (1 << 20) == 0 => format!("{}Mi", bytes >> 20),
            bytes => bytes.to_string(),
        },
    }
}
