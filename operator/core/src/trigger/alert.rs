//! What did Alertmanager send, and which workloads of a policy does it concern? The payload of its webhook,
//! version 4.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fleetprof_crds::session::Trigger;
use fleetprof_crds::triggers::AlertTrigger;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use super::matcher::Matcher;
use super::place::{Labels, places, words};
use super::together::{Found, Together, together};
use super::{Firing, most_pods};
use crate::hash::short_name;
use crate::link::PodLink;
use crate::pod::Workload;
use crate::text::counted;
use crate::time::{after, before};
use crate::view::PolicyView;

/// Most bytes of a notification.
pub const MAX_BYTES: usize = 1024 * 1024;
/// Most alerts of one notification; `max_alerts` in Alertmanager's configuration keeps below it.
pub const MAX_ALERTS: usize = 1000;
/// Most labels of one alert.
const MAX_LABELS: usize = 64;
/// Most bytes of a label's name or value.
const MAX_LABEL: usize = 1024;
/// Most bytes of all of them; usual alerts have less than 2 KiB.
const MAX_LABELS_BYTES: usize = 8 * 1024;

/// An alert that starts no session is retried for this long, then not before Alertmanager repeats it: longer
/// than the cooldown between two triggers.
pub const TRIED: SignedDuration = SignedDuration::from_secs(300);
/// For so long an alert is known that is neither repeated nor resolved, so that what begins on other pods
/// meanwhile is known to be the same firing.
pub const KNOWN: SignedDuration = SignedDuration::from_hours(1);

/// An alert that has fired for longer is not looked at: its time is a mistake, such as the year 1 that some
/// senders write for none.
const OLDEST: SignedDuration = SignedDuration::from_hours(366 * 24);
/// So far ahead of the operator's clock the sender's may be.
const AHEAD: SignedDuration = SignedDuration::from_mins(5);

/// An alert that fires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alert {
    /// Its labels.
    pub labels: Labels,
    /// Alertmanager's name for this set of labels.
    pub fingerprint: String,
    /// Since when it fires; with the fingerprint it tells one firing from the next.
    pub starts_at: Timestamp,
}

/// An alert, and when Alertmanager told of it last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// When.
    pub at: Timestamp,
    /// The alert, which all who look at it share.
    pub alert: Arc<Alert>,
}

/// What a notification tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notification {
    /// Alerts that fire.
    pub firing: Vec<Arc<Alert>>,
    /// Fingerprints of alerts that fire no more.
    pub resolved: Vec<String>,
    /// Alerts without a fingerprint, or of a status that nobody knows.
    pub unusable: usize,
    /// Alerts with more or larger labels than are kept.
    pub too_large: usize,
    /// Alerts that fire since more than 366 days, or since a time more than 5 minutes in the future.
    pub out_of_range: usize,
}

impl Notification {
    /// What is to be said of alerts that are too large.
    #[must_use]
    pub fn says_too_large(&self) -> Option<String> {
        let alerts = || counted(self.too_large, "alert is ignored: it has", "alerts are ignored: each has");
        let limits =
            || format!("labels of more than {MAX_LABELS_BYTES} bytes, or one of more than {MAX_LABEL}");
        (self.too_large > 0).then(|| format!("{} {}", alerts(), limits()))
    }
}

/// Why a notification is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It is not JSON of the right structure.
    #[error("the body is not an Alertmanager notification: line {0}, column {1}")]
    Shape(usize, usize),
    /// It is of another version.
    #[error("unsupported notification version {0:?}; fleetprof supports version \"4\"")]
    Version(String),
    /// It holds too many alerts.
    #[error("the notification contains {0} alerts, more than {MAX_ALERTS}; set max_alerts of the receiver")]
    TooMany(usize),
}

#[derive(Deserialize)]
struct Payload {
    version: String,
    alerts: Vec<PayloadAlert>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PayloadAlert {
    status: String,
    labels: Labels,
    starts_at: String,
    fingerprint: String,
}

/// Reads the body of a notification that arrives now.
///
/// # Errors
/// When it is not what Alertmanager sends; nothing of it is to be believed then.
pub fn parse(body: &[u8], now: Timestamp) -> Result<Notification, Malformed> {
    // The version first: another one may have another shape.
    #[derive(Deserialize)]
    struct Version {
        version: String,
    }
    let shape = |e: &serde_json::Error| Malformed::Shape(e.line(), e.column());
    let Version { version } = serde_json::from_slice(body).map_err(|e| shape(&e))?;
    if version != "4" {
        return Err(Malformed::Version(version.chars().take(16).collect()));
    }
    let payload: Payload = serde_json::from_slice(body).map_err(|e| shape(&e))?;
    debug_assert_eq!(payload.version, "4");
    if payload.alerts.len() > MAX_ALERTS {
        return Err(Malformed::TooMany(payload.alerts.len()));
    }
    let mut notification = Notification::default();
    for alert in payload.alerts {
        let small = is_small(&alert.labels);
        match (alert.status.clone().as_str(), read(alert)) {
            ("firing" | "resolved", Some(_)) if !small => notification.too_large += 1,
            ("firing", Some(read)) if is_in_range(read.starts_at, now) => {
                notification.firing.push(read.into());
            }
            ("firing", Some(_)) => notification.out_of_range += 1,
            ("resolved", Some(read)) => notification.resolved.push(read.fingerprint),
            _ => notification.unusable += 1,
        }
    }
    Ok(notification)
}

fn read(alert: PayloadAlert) -> Option<Alert> {
    let PayloadAlert { labels, starts_at, fingerprint, .. } = alert;
    let hex = (1..=64).contains(&fingerprint.len()) && fingerprint.bytes().all(|b| b.is_ascii_hexdigit());
    let starts_at = starts_at.parse().ok()?;
    hex.then_some(Alert { labels, fingerprint, starts_at })
}

fn is_small(labels: &Labels) -> bool {
    labels.len() <= MAX_LABELS
        && labels.iter().all(|(k, v)| k.len() <= MAX_LABEL && v.len() <= MAX_LABEL)
        && labels.iter().flat_map(|(k, v)| [k.len(), v.len()]).sum::<usize>() <= MAX_LABELS_BYTES
}

fn is_in_range(starts_at: Timestamp, now: Timestamp) -> bool {
    (before(now, OLDEST)..=after(now, AHEAD)).contains(&starts_at)
}

/// Most bytes of the matchers of a policy: 256 usual patterns take 8 MiB, and 110
/// with two `\w` as much as this.
const MAX_MATCHERS: usize = 16 << 20;

/// Counts a matcher of a policy.
///
/// # Errors
/// A sentence, where they take too much memory together.
fn within(bytes: &mut usize, matcher: Matcher) -> Result<Matcher, String> {
    *bytes += matcher.bytes();
    if *bytes <= MAX_MATCHERS {
        return Ok(matcher);
    }
    Err("the patterns of the policy take too much memory together; write fewer or simpler ones".to_owned())
}

/// The compiled matchers of `spec.triggers.alerts`. A policy may have hundreds of patterns, so they are
/// compiled once for each generation of it.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Those of each trigger; `None` where one of them is invalid.
    matchers: Vec<Option<Vec<Matcher>>>,
    /// What is wrong with them, as sentences that begin with the field.
    pub problems: Vec<String>,
}

impl Rules {
    /// Compiles the matchers of a policy.
    #[must_use]
    pub fn of(policy: &PolicyView) -> Self {
        let (mut rules, mut bytes) = (Self::default(), 0);
        for (n, rule) in policy.spec.triggers.alerts.iter().enumerate() {
            let mut matchers = Some(Vec::new());
            for (m, text) in rule.matchers.iter().enumerate() {
                match Matcher::parse(text).and_then(|matcher| within(&mut bytes, matcher)) {
                    Ok(matcher) => matchers.iter_mut().for_each(|all| all.push(matcher.clone())),
                    Err(why) => {
                        matchers = None;
                        rules.problems.push(format!("spec.triggers.alerts[{n}].matchers[{m}]: {why}"));
                    }
                }
            }
            rules.matchers.push(matchers);
        }
        rules
    }

    /// Most bytes that it takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let matchers = self.matchers.iter().flatten().flatten().map(Matcher::bytes).sum::<usize>();
        matchers + self.problems.iter().map(String::capacity).sum::<usize>()
    }
}

/// The firings of the alerts that a policy asks for, on its linked workloads. The first rule that an alert
/// passes counts.
#[must_use]
pub fn firings(
    policy: &PolicyView,
    rules: &Rules,
    links: &[PodLink],
    alerts: &[Told],
    now: Timestamp,
) -> Vec<Firing> {
    let tried = |told: &Told| now.duration_since(told.at) < TRIED;
    if !alerts.iter().any(tried) {
        return Vec::new();
    }
    let compiled = policy.spec.triggers.alerts.iter().zip(&rules.matchers);
    let rules: Vec<(&AlertTrigger, &Vec<Matcher>)> =
        compiled.filter_map(|(rule, matchers)| Some((rule, matchers.as_ref()?))).collect();
    let mut found: Vec<Vec<Found<&Told>>> = rules.iter().map(|_| Vec::new()).collect();
    let mut in_order: Vec<&Told> = alerts.iter().collect();
    in_order.sort_by(|a, b| a.alert.fingerprint.cmp(&b.alert.fingerprint));
    for told in in_order {
        let labels = &told.alert.labels;
        let Some(rule) = rules.iter().position(|(_, matchers)| matchers.iter().all(|m| m.holds(labels)))
        else {
            continue;
        };
        // A label of an alert that names no namespace could mean any: it means none.
        let places = places(|name| labels.get(name).map(String::as_str), None, links);
        found[rule].extend(places.into_iter().map(|place| Found {
            since: told.alert.starts_at,
            place,
            what: told,
        }));
    }
    let of_rule = rules.iter().zip(found);
    of_rule.flat_map(|((rule, _), found)| of_one_rule(policy, rule, found, tried)).collect()
}

/// One firing for each workload that has an alert of the rule of which Alertmanager told lately.
fn of_one_rule(
    policy: &PolicyView,
    rule: &AlertTrigger,
    found: Vec<Found<&Told>>,
    tried: impl Fn(&Told) -> bool,
) -> Vec<Firing> {
    let lately: BTreeSet<(String, Workload)> = found
        .iter()
        .filter(|f| tried(f.what))
        .map(|f| (f.place.namespace.clone(), f.place.workload.clone()))
        .collect();
    let matchers: Vec<&str> = rule.matchers.iter().map(String::as_str).collect();
    let source = format!("alert-{}", short_name(&matchers));
    let firing = |t: Together<&Told>| Firing {
        trigger: Trigger::Alert,
        source: source.clone(),
        cause: cause(&t),
        namespace: t.namespace,
        workload: t.workload,
        pods: t.pods,
        key: t.since.to_string(),
        ongoing: None,
        duration: rule.duration,
        cooldown: rule.cooldown,
        compare: None,
        labels: BTreeMap::new(),
    };
    let all = together(found, rule.cooldown, most_pods(policy)).into_iter();
    all.filter(|t| lately.contains(&(t.namespace.clone(), t.workload.clone()))).map(firing).collect()
}

fn cause(together: &Together<&Told>) -> String {
    let alert = &together.first.alert;
    let others = if together.count > 1 {
        format!("; {} alerts are firing together", together.count)
    } else {
        String::new()
    };
    format!(
        "an alert is firing since {}: {}{others}",
        alert.starts_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        words(&alert.labels)
    )
}
