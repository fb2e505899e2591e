//! What starts a session?

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What started a session.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum Trigger {
    /// A person or program created it.
    #[default]
    OnDemand,
    /// The policy's schedule.
    Schedule,
    /// A container used much CPU for a while.
    #[serde(rename = "CPU")]
    Cpu,
    /// A container used much memory for a while.
    Memory,
    /// An alert of Alertmanager.
    Alert,
    /// A query of Prometheus.
    #[serde(rename = "PromQL")]
    PromQl,
    /// A new revision was rolled out.
    Rollout,
}

impl Trigger {
    /// The word in labels and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OnDemand => "OnDemand",
            Self::Schedule => "Schedule",
            Self::Cpu => "CPU",
            Self::Memory => "Memory",
            Self::Alert => "Alert",
            Self::PromQl => "PromQL",
            Self::Rollout => "Rollout",
        }
    }

    /// Whether a trigger of a policy started it, in contrast to a person and the schedule.
    #[must_use]
    pub const fn is_event(self) -> bool {
        !matches!(self, Self::OnDemand | Self::Schedule)
    }
}
