//! For how long do sessions of a policy wait, how long are they kept, and what may users ask for?

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::Duration;
use crate::defaults::{default_result_deadline, default_result_timeout, default_start_deadline, default_ttl};

/// Deadlines and retention of sessions.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "duration(self.startDeadline) >= duration('5s') && duration(self.startDeadline) <= duration('1h')"
)
.message(
    "session.startDeadline must be between 5s and 1h"
))]
#[x_kube(validation = Rule::new(
    "duration(self.resultTimeout) >= duration('10s') && duration(self.resultTimeout) <= \
     duration(self.resultDeadline)"
)
.message(
    "session.resultTimeout must be between 10s and session.resultDeadline"
))]
#[x_kube(validation = Rule::new(
    "duration(self.resultDeadline) <= duration('168h')"
)
.message(
    "session.resultDeadline must be at most 168h"
))]
#[x_kube(validation = Rule::new(
    "duration(self.ttl) >= duration('1m')"
)
.message(
    "session.ttl must be at least 1m"
))]
pub struct SessionRules {
    /// How long a target waits for a slot, and then for its agent to start; 5s to 1h. Targets of a scheduled
    /// round wait for a slot until shortly before the next round, at most 1h.
    #[serde(default = "default_start_deadline")]
    pub start_deadline: Duration,
    /// Time after the capture until missing results set the condition `ResultsDelayed`. They may still
    /// arrive.
    #[serde(default = "default_result_timeout")]
    pub result_timeout: Duration,
    /// Time after the capture until missing results are given up.
    #[serde(default = "default_result_deadline")]
    pub result_deadline: Duration,
    /// Sessions and their profiles are deleted this long after the session ended.
    #[serde(default = "default_ttl")]
    pub ttl: Duration,
    /// Number of ended sessions to keep.
    #[serde(default)]
    pub history: History,
    /// The most that a session may ask for which a user starts under the policy (Profile Now). One that asks
    /// for more fails at once with `LimitExceeded`.
    #[serde(default, skip_serializing_if = "SessionLimits::is_empty")]
    pub limits: SessionLimits,
}

impl Default for SessionRules {
    fn default() -> Self {
        Self {
            start_deadline: default_start_deadline(),
            result_timeout: default_result_timeout(),
            result_deadline: default_result_deadline(),
            ttl: default_ttl(),
            history: History::default(),
            limits: SessionLimits::default(),
        }
    }
}

/// Number of ended sessions to keep per namespace. Only applies to sessions started by the policy.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct History {
    /// Sessions that ended `Succeeded` or `PartiallySucceeded`.
    #[serde(default = "default_history_succeeded")]
    #[schemars(range(min = 0, max = 1000))]
    pub succeeded: i32,
    /// Sessions that ended otherwise.
    #[serde(default = "default_history_failed")]
    #[schemars(range(min = 0, max = 1000))]
    pub failed: i32,
}

impl Default for History {
    fn default() -> Self {
        Self { succeeded: default_history_succeeded(), failed: default_history_failed() }
    }
}

/// The most that a session may ask for which a user starts. What is not set is limited by the administrator
/// alone (chart values `budgets.onDemandDuration` and `budgets.onDemandFrequencyHz`).
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "!has(self.duration) || (duration(self.duration) >= duration('10s') && duration(self.duration) <= \
     duration('6m'))"
)
.message(
    "session.limits.duration must be between 10s and 6m"
))]
pub struct SessionLimits {
    /// Longest `duration` of a session; 10s to 6m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<Duration>,
    /// Highest `frequencyHz` of a session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub frequency_hz: Option<i32>,
}

impl SessionLimits {
    /// Whether nothing is limited.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.duration.is_none() && self.frequency_hz.is_none()
    }
}

const fn default_history_succeeded() -> i32 {
    10
}
const fn default_history_failed() -> i32 {
    5
}
