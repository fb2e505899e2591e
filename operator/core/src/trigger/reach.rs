//! Which workloads does an alert reach, and if none, what is missing?

use std::borrow::Borrow;

use super::alert::Alert;
use super::matcher::Matcher;
use super::place::{namespace, places};
use crate::link::PodLink;
use crate::text::counted;
use crate::view::PolicyView;

/// How far an alert came; what is greater came further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reach {
    /// No label names a namespace.
    NoNamespace,
    /// No policy with alert triggers covers the namespace.
    NoPolicy,
    /// No such policy has matchers that match.
    NoMatcher,
    /// Matchers match, but the labels name no pod or workload that the policy has linked.
    NoPod,
    /// It names workloads of a policy that asks for it.
    Matched,
}

impl Reach {
    /// All of them, from the one that came least far.
    pub const ALL: [Self; 5] =
        [Self::NoNamespace, Self::NoPolicy, Self::NoMatcher, Self::NoPod, Self::Matched];

    /// Value of the metric's label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoNamespace => "no_namespace",
            Self::NoPolicy => "no_policy",
            Self::NoMatcher => "no_matcher",
            Self::NoPod => "no_pod",
            Self::Matched => "matched",
        }
    }

    /// What is the matter with `n` alerts, without a full stop.
    #[must_use]
    pub fn says(self, n: usize) -> String {
        let alerts = |one: &str, many: &str| counted(n, &format!("alert {one}"), &format!("alerts {many}"));
        match self {
            Self::NoNamespace => alerts("has no label for a namespace", "have no label for a namespace"),
            Self::NoPolicy => alerts(
                "is for a namespace where no policy has alert triggers",
                "are for namespaces where no policy has alert triggers",
            ),
            Self::NoMatcher => {
                alerts("matches no alert trigger of a policy", "match no alert trigger of a policy")
            }
            Self::NoPod => alerts(
                "matches an alert trigger, but its labels name no linked pod or workload",
                "match an alert trigger, but their labels name no linked pod or workload",
            ),
            Self::Matched => alerts("matched", "matched"),
        }
    }

    /// Whether somebody asked for the alert, as far as it can be told: a route may send any alert here.
    #[must_use]
    pub const fn is_wanted(self) -> bool {
        matches!(self, Self::NoPod | Self::Matched)
    }
}

/// How far an alert comes before any policy is asked.
#[must_use]
pub fn before_policies(alert: &Alert) -> Reach {
    match namespace(|name| alert.labels.get(name).map(String::as_str)) {
        Some(_) => Reach::NoPolicy,
        None => Reach::NoNamespace,
    }
}

/// How far each alert comes with one policy whose pods are `links`.
#[must_use]
pub fn with_policy(policy: &PolicyView, links: &[PodLink], alerts: &[impl Borrow<Alert>]) -> Vec<Reach> {
    let rules: Vec<Vec<Matcher>> = policy
        .spec
        .triggers
        .alerts
        .iter()
        .filter_map(|rule| rule.matchers.iter().map(|m| Matcher::parse(m)).collect::<Result<_, _>>().ok())
        .collect();
    alerts.iter().map(|alert| one(policy, &rules, links, alert.borrow())).collect()
}

fn one(policy: &PolicyView, rules: &[Vec<Matcher>], links: &[PodLink], alert: &Alert) -> Reach {
    let label = |name: &str| alert.labels.get(name).map(String::as_str);
    let Some(named) = namespace(label) else { return Reach::NoNamespace };
    if policy.spec.suspend || rules.is_empty() || policy.namespace.is_some_and(|own| own != named) {
        return Reach::NoPolicy;
    }
    if !rules.iter().any(|matchers| matchers.iter().all(|m| m.holds(&alert.labels))) {
        return Reach::NoMatcher;
    }
    if places(label, None, links).is_empty() { Reach::NoPod } else { Reach::Matched }
}

/// How many came how far, in a sentence: what Alertmanager's log shows.
#[must_use]
pub fn summary(reached: &[Reach]) -> String {
    let of = |reach: Reach| reached.iter().filter(|r| **r == reach).count();
    let told = Reach::ALL.iter().rev().map(|reach| (reach, of(*reach))).filter(|(_, n)| *n > 0);
    let told: Vec<String> = told.map(|(reach, n)| reach.says(n)).collect();
    if told.is_empty() { "no alert is firing".to_owned() } else { told.join("; ") }
}
