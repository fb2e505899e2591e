//! What does the gateway answer to a heartbeat?

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{ContainerReport, Signals};

/// The gateway's answer to a heartbeat.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HeartbeatReply {
    /// When to send the next one, in milliseconds; the agent adds up to 10 % jitter. 1,000 to 300,000.
    pub next_ms: u64,
    /// Captures whose outcome is recorded: the agent forgets their files and reports, but not that it ran
    /// them.
    #[serde(default)]
    pub settled: Vec<String>,
    /// Lines that a trigger waits for: the agent measures every few seconds and reports at once when one is
    /// crossed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watch: Option<Watch>,
    /// The same for the agent of a node, by container id.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub watches: BTreeMap<String, Watch>,
    /// The CA certificates to trust from now on (PEM), when they differ from what the agent was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_bundle: Option<String>,
    /// The heartbeat whose containers the gateway holds: the next one may tell what changed since, by
    /// [`super::HeartbeatChanges`]. Absent where it holds none, and from gateways of earlier versions: then
    /// the next one tells everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holds: Option<u64>,
    /// How long an attached agent stays; it holds until another one comes. Absent for other agents, and from
    /// gateways of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stay: Option<Stay>,
}

/// How long an attached agent stays in its pod. One that has captures which are not settled stays in any
/// case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stay {
    /// Until it has had nothing to do for so long, in milliseconds. Absent: as long as the gateway answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_ms: Option<u64>,
}

/// Lines that a trigger waits for, in % as in [`ContainerReport`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Watch {
    /// CPU use of a container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_percent: Option<i32>,
    /// Memory use of a container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_percent: Option<i32>,
    /// Other figures of a container, which are measured while there is a line for one.
    #[serde(default, skip_serializing_if = "Signals::is_empty")]
    pub signals: Signals,
}

impl Watch {
    /// Whether one of the containers has reached one of the lines.
    #[must_use]
    pub fn reached(&self, containers: &[ContainerReport]) -> bool {
        let over = |line: Option<i32>, value: Option<i32>| matches!((line, value), (Some(line), Some(value)) if value >= line);
        containers.iter().any(|c| {
            over(self.cpu_percent, c.cpu_percent)
                || over(self.memory_percent, c.memory_percent)
                || c.signals.is_some_and(|signals| signals.reach(self.signals))
        })
    }

    /// The lower line of both, measure by measure.
    #[must_use]
    pub fn or_lower(self, other: Self) -> Self {
        let lower = |a: Option<i32>, b: Option<i32>| a.into_iter().chain(b).min();
        Self {
            cpu_percent: lower(self.cpu_percent, other.cpu_percent),
            memory_percent: lower(self.memory_percent, other.memory_percent),
            signals: self.signals.or_lower(other.signals),
        }
    }
}
