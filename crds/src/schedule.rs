//! When are linked apps profiled?

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Duration;
use crate::defaults::default_duration;

/// The CEL pattern of one field of a cron expression: values, ranges and steps, separated by commas.
macro_rules! field {
    ($value:literal) => {
        concat!(
            r"(\*|",
            $value,
            "(-",
            $value,
            r")?)(/[0-9]{1,2})?(,(\*|",
            $value,
            "(-",
            $value,
            ")?)(/[0-9]{1,2})?)*"
        )
    };
}

/// What CEL can check of a cron expression. The policy's condition `Configured` reports expressions that
/// never match, such as 30 February.
const CRON: &str = concat!(
    r"!has(self.cron) || self.cron.matches(r'^(?i)(@(hourly|daily|weekly|monthly)|",
    field!(r"[0-5]?[0-9]"),
    " ",
    field!(r"([01]?[0-9]|2[0-3])"),
    " ",
    field!(r"(0?[1-9]|[12][0-9]|3[01])"),
    " ",
    field!(r"(0?[1-9]|1[0-2]|jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)"),
    " ",
    field!(r"([0-7]|sun|mon|tue|wed|thu|fri|sat)"),
    r")$')"
);

/// Schedule for profiling linked apps: one of `every`, `cron` and `preset`. Defaults to every hour.
///
/// The schema has no default for `every`: it would be stored with the object and would have to be removed
/// when switching to `cron`.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "[has(self.every), has(self.cron), has(self.preset)].filter(x, x).size() <= 1"
)
.message(
    "schedule must have at most one of every, cron and preset"
))]
#[x_kube(validation = Rule::new(
    "!has(self.every) || (duration(self.every) >= duration('1m') && duration(self.every) <= duration('168h'))"
)
.message(
    "schedule.every must be between 1m and 168h"
))]
#[x_kube(validation = Rule::new(
    "duration(self.duration) >= duration('10s') && duration(self.duration) <= duration('6m')"
)
.message(
    "schedule.duration must be between 10s and 6m"
))]
#[x_kube(validation = Rule::new(
    "!has(self.every) || duration(self.every) > duration(self.duration)"
)
.message(
    "schedule.every must be longer than schedule.duration"
))]
#[x_kube(validation = Rule::new(
    "!has(self.preset) || duration(self.duration) >= duration('45s')"
)
.message(
    "schedule.duration must be at least 45s with a preset, so that there is at most one round a minute"
))]
#[x_kube(validation = Rule::new(
    "!has(self.timeZone) || has(self.cron)"
)
.message(
    "schedule.timeZone requires schedule.cron"
))]
#[x_kube(validation = Rule::new(CRON).message("schedule.cron must have five fields (minute, hour, day of \
                                               month, month, day of week), such as 0 3 * * MON-FRI, or be \
                                               @hourly, @daily, @weekly or @monthly"))]
pub struct Schedule {
    /// Interval between rounds, such as `1h`; 1m to 168h. The policy's offset within the interval is derived
    /// from its UID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<Duration>,
    /// Cron expression, as in `0 3 * * MON-FRI`: minute, hour, day of month, month, day of week. Rounds start
    /// up to 30 s later, depending on the policy's UID, so that not all policies start at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 100))]
    pub cron: Option<String>,
    /// Time zone of `cron`, such as `Europe/Berlin`; defaults to UTC. Fixed times skipped by daylight saving
    /// run right after the change; times that occur twice run once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*$"))]
    pub time_zone: Option<String>,
    /// Interval derived from the share of the time that a picked pod is profiled: `Normal` 5 %, `High` 50 %,
    /// `Maximum` 75 %.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preset: Option<Preset>,
    /// Capture time per round, such as `2m`; 10s to 6m.
    #[serde(default = "default_duration")]
    pub duration: Duration,
}

impl Default for Schedule {
    fn default() -> Self {
        Self { every: None, cron: None, time_zone: None, preset: None, duration: default_duration() }
    }
}

/// Share of the time that a picked pod is profiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Preset {
    /// 5 % of the time.
    Normal,
    /// 50 % of the time.
    High,
    /// 75 % of the time.
    Maximum,
    /// A value of a newer version. The policy is reported as invalid and starts nothing by its schedule.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

impl Preset {
    /// The share of the time, in percent.
    #[must_use]
    pub const fn percent(self) -> u32 {
        match self {
            Self::Normal => 5,
            Self::High => 50,
            Self::Maximum => 75,
            Self::Unknown => 0,
        }
    }

    /// The name in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::High => "High",
            Self::Maximum => "Maximum",
            Self::Unknown => "Unknown",
        }
    }
}

/// What happens to running sessions when a policy is suspended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum SuspendBehavior {
    /// They finish.
    #[default]
    Finish,
    /// They are stopped; captured data is kept.
    Cancel,
    /// A value of a newer version. Sessions run to their end.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}
