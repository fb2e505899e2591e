//! What does a namespace demand of the resources of its pods, by LimitRanges and quotas?

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use fleetprof_crds::quantity::Quantity;
use k8s_openapi::api::core::v1::{LimitRange, LimitRangeItem, ResourceQuota};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

use super::raw::RawPod;
use super::resources::{PodResources, Side};
use super::scopes;
use crate::agent::Skip;

/// The LimitRanges and ResourceQuotas of a namespace.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ResourceRules {
    /// LimitRanges.
    pub limit_ranges: Vec<Arc<LimitRange>>,
    /// ResourceQuotas, with what is used of them.
    pub quotas: Vec<Arc<ResourceQuota>>,
}

/// What a rule counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Per {
    Container,
    Pod,
}

/// What a rule says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Min,
    Max,
    Ratio,
}

/// One number of a LimitRange.
pub(super) struct Rule<'a> {
    range: &'a str,
    name: &'a str,
    text: &'a str,
    pub per: Per,
    pub kind: Kind,
    amount: Quantity,
}

impl Rule<'_> {
    /// Whether the API server takes these sums.
    pub fn holds(&self, request: Option<Quantity>, limit: Option<Quantity>) -> bool {
        let amount = self.amount;
        match self.kind {
            Kind::Min => request.is_some_and(|r| r >= amount) && limit.is_none_or(|l| l >= amount),
            Kind::Max => limit.is_some_and(|l| l <= amount) && request.is_none_or(|r| r <= amount),
            Kind::Ratio => {
                let nanos = |side: Option<Quantity>| side.map_or(0, Quantity::nanos);
                let (request, limit) = (nanos(request), nanos(limit));
                let billion = 1_000_000_000;
                request > 0
                    && limit > 0
                    && limit.saturating_mul(billion) <= request.saturating_mul(amount.nanos())
            }
        }
    }
}

impl fmt::Display for Rule<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { range, name, text, per, kind, .. } = self;
        let kind = match kind {
            Kind::Min => "min",
            Kind::Max => "max",
            Kind::Ratio => "maxLimitRequestRatio",
        };
        write!(f, "the LimitRange {range} ({kind} {name} {text} per {per:?})")
    }
}

/// What a quota counts of one resource.
pub(super) struct Quota<'a> {
    quota: &'a str,
    key: &'a str,
    /// What is left of it, in billionths.
    pub left: i128,
    /// Every container has to name the resource.
    pub demands: bool,
}

impl fmt::Display for Quota<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the ResourceQuota {} ({})", self.quota, self.key)
    }
}

/// All rules of a namespace.
#[derive(Default)]
pub(super) struct Bounds<'a> {
    rules: Vec<Rule<'a>>,
    /// Resources that containers get by default.
    defaulted: Vec<&'a str>,
    /// Resources whose limit containers get by default.
    limited: Vec<&'a str>,
    quotas: Vec<(Side, &'a str, Quota<'a>)>,
}

impl<'a> Bounds<'a> {
    /// The rules that hold for a pod.
    ///
    /// # Errors
    /// `ResourcesConflict` where an agent would move the pod from one quota to another.
    pub fn of(rules: &'a ResourceRules, pod: &RawPod<'_>) -> Result<Self, Skip> {
        let (mut bounds, asks) = (Self::default(), PodResources::of(pod)?);
        for range in &rules.limit_ranges {
            let name = range.metadata.name.as_deref().unwrap_or_default();
            range.spec.iter().flat_map(|spec| &spec.limits).for_each(|item| bounds.take(name, item));
        }
        for quota in &rules.quotas {
            if scopes::counts(quota, pod, &asks)? {
                bounds.quotas.extend(counted(quota));
            }
        }
        Ok(bounds)
    }

    fn take(&mut self, range: &'a str, item: &'a LimitRangeItem) {
        let per = match item.type_.as_str() {
            "Container" => Per::Container,
            "Pod" => Per::Pod,
            _ => return,
        };
        let kinds =
            [(Kind::Min, &item.min), (Kind::Max, &item.max), (Kind::Ratio, &item.max_limit_request_ratio)];
        for (kind, amounts) in kinds {
            self.rules.extend(entries(amounts).filter_map(|(name, text)| {
                Some(Rule { range, name, text, per, kind, amount: text.parse().ok()? })
            }));
        }
        if per == Per::Container {
            // The API server takes `max` for a missing `default`, and both and `min` for `defaultRequest`.
            let limits = [&item.default, &item.max, &item.max_limit_request_ratio];
            self.limited.extend(limits.into_iter().flat_map(entries).map(|(name, _)| name));
            let requests = [&item.default, &item.max, &item.min, &item.default_request];
            let ratio = &item.max_limit_request_ratio;
            self.defaulted
                .extend(requests.into_iter().chain([ratio]).flat_map(entries).map(|(name, _)| name));
        }
    }

    /// Every resource that a rule names. A quota alone makes no container ask for anything but CPU and memory.
    pub fn names(&self) -> impl Iterator<Item = &'a str> {
        self.rules
            .iter()
            .filter(|rule| rule.per == Per::Container)
            .map(|rule| rule.name)
            .chain(self.defaulted.iter().copied())
    }

    pub fn rules_of(&self, name: &str) -> impl Iterator<Item = &Rule<'a>> {
        self.rules.iter().filter(move |rule| rule.name == name)
    }

    /// The number that leaves the least room, in billionths.
    pub fn tightest(&self, per: Per, kind: Kind, name: &str) -> Option<i128> {
        let all = self.rules_of(name).filter(|rule| rule.per == per && rule.kind == kind);
        let amounts = all.map(|rule| rule.amount.nanos());
        if kind == Kind::Min { amounts.max() } else { amounts.min() }
    }

    /// Whether a container without a limit would be refused, or get one that was not meant for it.
    pub fn needs_limit(&self, name: &str) -> bool {
        self.limited.contains(&name)
    }

    /// Whether a container that does not ask for the resource would get some of it.
    pub fn is_defaulted(&self, name: &str) -> bool {
        self.defaulted.contains(&name)
    }

    /// The quota that has the least left of what pods ask for.
    pub fn quota(&self, side: Side, name: &str) -> Option<&Quota<'a>> {
        let all = self.quotas.iter().filter(|(s, n, _)| *s == side && *n == name);
        all.map(|(.., quota)| quota).min_by_key(|quota| quota.left)
    }
}

fn entries(amounts: &Option<BTreeMap<String, Text>>) -> impl Iterator<Item = (&str, &str)> {
    amounts.iter().flatten().map(|(name, amount)| (name.as_str(), amount.0.as_str()))
}

/// What a quota counts of containers' resources.
fn counted(quota: &ResourceQuota) -> impl Iterator<Item = (Side, &str, Quota<'_>)> {
    let name = quota.metadata.name.as_deref().unwrap_or_default();
    let status = quota.status.as_ref();
    let used = status.and_then(|status| status.used.as_ref());
    let hard = status.and_then(|status| status.hard.as_ref()).or_else(|| quota.spec.as_ref()?.hard.as_ref());
    hard.into_iter().flatten().filter_map(move |(key, hard)| {
        let (side, resource) = match key.split_once('.') {
            _ if matches!(key.as_str(), "cpu" | "memory" | "ephemeral-storage") => {
                (Side::Requests, key.as_str())
            }
            Some(("requests", resource)) => (Side::Requests, resource),
            Some(("limits", resource)) => (Side::Limits, resource),
            _ => return None,
        };
        let amount = |text: &Text| text.0.parse::<Quantity>().ok().map(Quantity::nanos);
        let taken = used.and_then(|used| amount(used.get(key)?)).unwrap_or(0);
        let demands = matches!(resource, "cpu" | "memory");
        Some((side, resource, Quota { quota: name, key, left: amount(hard)? - taken, demands }))
    })
}
