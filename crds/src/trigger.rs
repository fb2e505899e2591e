//! What starts a session?

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What started a session.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum Trigger {
    /// Created by a user or a program.
    #[default]
    OnDemand,
    /// The policy's schedule.
    Schedule,
    /// High CPU usage of a container.
    #[serde(rename = "CPU")]
    Cpu,
    /// High memory usage of a container.
    Memory,
    /// CPU throttling of a container.
    Throttling,
    /// A container waited for CPU, memory or block devices.
    Pressure,
    /// Many threads in a container.
    Threads,
    /// An alert from Alertmanager.
    Alert,
    /// A Prometheus query.
    #[serde(rename = "PromQL")]
    PromQl,
    /// Rollout of a new revision.
    Rollout,
    /// A value of a newer version. Some event, as far as cooldowns are concerned.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

impl Trigger {
    /// The name in labels and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OnDemand => "OnDemand",
            Self::Schedule => "Schedule",
            Self::Cpu => "CPU",
            Self::Memory => "Memory",
            Self::Throttling => "Throttling",
            Self::Pressure => "Pressure",
            Self::Threads => "Threads",
            Self::Alert => "Alert",
            Self::PromQl => "PromQL",
            Self::Rollout => "Rollout",
            Self::Unknown => "Unknown",
        }
    }

    /// Whether it is an event trigger, rather than a user or the schedule.
    #[must_use]
    pub const fn is_event(self) -> bool {
        !matches!(self, Self::OnDemand | Self::Schedule)
    }
}
