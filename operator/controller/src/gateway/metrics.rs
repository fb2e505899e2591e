//! What can be counted at the gateway?

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fleetprof_crds::ProfileKind;
use fleetprof_crds::wire::AgentMode;
use http::StatusCode;
use jiff::Timestamp;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeLabelValue, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use super::Fleet;
use super::sink::{SinkError, Stored};
use crate::agents::AgentView;

/// Versions with a label value of their own; agents of further ones are counted as `other`.
const MAX_VERSIONS: usize = 16;

/// The gateway's metrics; a cheap handle.
#[derive(Clone, Debug, Default)]
pub struct GatewayMetrics {
    requests: Family<RequestLabels, Counter>,
    slices: Family<SliceLabels, Counter>,
    slice_bytes: Counter,
    ignored: Counter,
}

impl GatewayMetrics {
    /// Metrics in the registry, under their full names (`fleetprof_…`), with the agents of the fleet.
    pub fn register(registry: &mut Registry, fleet: &Fleet) -> Self {
        let metrics = Self::default();
        registry.register(
            "fleetprof_gateway_requests",
            "Requests from agents, by endpoint and status code",
            metrics.requests.clone(),
        );
        registry.register(
            "fleetprof_slices",
            "Slices uploaded by agents, by outcome and kind",
            metrics.slices.clone(),
        );
        registry.register("fleetprof_slice_bytes", "Bytes of stored slices", metrics.slice_bytes.clone());
        registry.register(
            "fleetprof_gateway_ignored_reports",
            "Heartbeat entries ignored: invalid ids, and captures that do not belong to the pod",
            metrics.ignored.clone(),
        );
        registry.register_collector(Box::new(Agents(fleet.clone())));
        metrics
    }

    pub(super) fn request(&self, endpoint: Endpoint, status: StatusCode) {
        self.requests.get_or_create(&RequestLabels { endpoint, code: status.as_u16() }).inc();
    }

    pub(super) fn slice(&self, outcome: SliceOutcome, kind: ProfileKind, bytes: u64) {
        self.slices.get_or_create(&SliceLabels { outcome: outcome.as_str(), kind: kind.name() }).inc();
        if outcome == SliceOutcome::Stored {
            self.slice_bytes.inc_by(bytes);
        }
    }

    pub(super) fn ignored(&self, rows: usize) {
        self.ignored.inc_by(rows as u64);
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    endpoint: Endpoint,
    code: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SliceLabels {
    outcome: &'static str,
    kind: &'static str,
}

/// What a path asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types, reason = "the names are label values")]
pub(super) enum Endpoint {
    enroll,
    heartbeat,
    orders,
    slices,
    other,
}

impl Endpoint {
    pub(super) fn of(path: &str) -> Self {
        match path {
            "/v1/enroll" => Self::enroll,
            "/v1/heartbeat" | "/v1/heartbeat/changes" => Self::heartbeat,
            "/v1/orders" => Self::orders,
            _ if path.starts_with("/v1/captures/") => Self::slices,
            _ => Self::other,
        }
    }
}

/// Outcome of an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SliceOutcome {
    /// Stored.
    Stored,
    /// Stored before.
    Duplicate,
    /// Refused before it was stored; the status code of the request says why.
    Refused,
    /// Not an acceptable profile.
    Rejected,
    /// Different bytes under the same sequence number.
    Conflict,
    /// No space.
    Full,
    /// The volume is not writable.
    Failed,
}

impl SliceOutcome {
    pub(super) const fn of(stored: &Stored) -> Self {
        if stored.duplicate { Self::Duplicate } else { Self::Stored }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Duplicate => "duplicate",
            Self::Refused => "refused",
            Self::Rejected => "rejected",
            Self::Conflict => "conflict",
            Self::Full => "full",
            Self::Failed => "failed",
        }
    }

    pub(super) const fn failed(error: &SinkError) -> Self {
        match error {
            SinkError::Rejected(_) => Self::Rejected,
            SinkError::Conflict => Self::Conflict,
            SinkError::Full | SinkError::NamespaceFull(_) => Self::Full,
            SinkError::Io(_) => Self::Failed,
        }
    }
}

/// Counts the agents when somebody asks, so that the number cannot drift.
#[derive(Debug)]
struct Agents(Fleet);

impl Collector for Agents {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let agents = self.0.agents();
        let seen = seen(&agents);
        let help = "Agents that report, by mode and version";
        let mut family = encoder.encode_descriptor("fleetprof_agents", help, None, MetricType::Gauge)?;
        for ((mode, version), count) in count(seen.into_iter()) {
            let labels = [("mode", mode), ("version", version)];
            ConstGauge::new(count).encode(family.encode_family(&labels)?)?;
        }
        let help = "Largest difference between the clock of an agent's node and the leader's";

        let skew =
            encoder.encode_descriptor("fleetprof_clock_skew_seconds", help, None, MetricType::Gauge)?;
        ConstGauge::new(skew_of(agents.iter().map(|agent| &**agent))).encode(skew)?;
        Ok(())
    }
}

/// Mode and version of each agent. That of a node stands for many pods, and counts once.
fn seen(agents: &[Arc<AgentView>]) -> Vec<(AgentMode, &str)> {
    let mut nodes = BTreeSet::new();
    let views = agents.iter().map(|agent| &agent.heartbeat);
    let once = views.filter(|beat| beat.mode != AgentMode::Node || nodes.insert(beat.instance.as_str()));
    once.map(|beat| (beat.mode, beat.version.as_str())).collect()
}

/// The largest difference in seconds, in either direction, between when an agent sent its last heartbeat by
/// its own clock and when it came: 0 where none tells.
fn skew_of<'a>(agents: impl Iterator<Item = &'a AgentView>) -> f64 {
    let differences = agents.filter_map(|agent| {
        let sent = Timestamp::from_millisecond(agent.heartbeat.sent_at_ms?).ok()?;
        Some(agent.received.duration_since(sent).as_secs_f64().abs())
    });
    differences.fold(0.0, f64::max)
}

/// Agents by mode and version, with a bounded number of versions. The version is an agent's word, so only
/// what looks like a version becomes a label value.
fn count<'a>(
    agents: impl Iterator<Item = (AgentMode, &'a str)> + Clone,
) -> BTreeMap<(&'static str, &'a str), i64> {
    let mut versions = BTreeMap::<&str, usize>::new();
    for (_, version) in agents.clone().filter(|(_, version)| is_version(version)) {
        *versions.entry(version).or_default() += 1;
    }
    // The most used, so that a few invented versions cannot hide the current one.
    let mut ranked: Vec<_> = versions.into_iter().collect();
    ranked.sort_by_key(|(_, agents)| Reverse(*agents));
    let named: BTreeSet<&str> = ranked.into_iter().take(MAX_VERSIONS).map(|(version, _)| version).collect();
    let mut counts = BTreeMap::new();
    for (mode, version) in agents {
        let mode = match mode {
            AgentMode::Sidecar => "Sidecar",
            AgentMode::Ephemeral => "Ephemeral",
            AgentMode::Node => "Node",
            AgentMode::Unknown => "Unknown",
        };
        let version = named.get(version).copied().unwrap_or("other");
        *counts.entry((mode, version)).or_default() += 1;
    }
    counts
}

fn is_version(text: &str) -> bool {
    (1..=32).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".+-".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_bounded_whatever_agents_say() {
        let current = ["0.1.0".to_owned(), "0.1.0".to_owned(), "\"} 1\n".to_owned()];
        let invented: Vec<String> = (0..1000).map(|n| format!("z.{n}")).chain(current).collect();
        let counts = count(invented.iter().map(|version| (AgentMode::Sidecar, version.as_str())));
        assert_eq!(counts.len(), MAX_VERSIONS + 1);
        assert_eq!(counts.values().sum::<i64>(), 1003);
        assert_eq!(counts[&("Sidecar", "0.1.0")], 2);
        assert_eq!(counts[&("Sidecar", "other")], 1003 - 2 - (MAX_VERSIONS as i64 - 1));
    }
}
