//! When are linked apps profiled without being asked?

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Duration;
use crate::defaults::default_duration;

/// The CEL pattern of one field of a cron line: values, ranges and steps, separated by commas.
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

/// What CEL can tell of a cron line. That it names a time which never comes, such as 30 February, is told by
/// the policy's condition `Configured`.
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

/// When linked apps are profiled without being asked: by `every`, `cron` or `preset`; with none of them every
/// hour.
///
/// No default of `every` stands in the schema: it would be stored with the object, and a change to `cron`
/// would then have to take it out again.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "[has(self.every), has(self.cron), has(self.preset)].filter(x, x).size() <= 1"
)
.message(
    "schedule takes one of every, cron and preset; remove the others"
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
    "schedule.timeZone needs schedule.cron"
))]
#[x_kube(validation = Rule::new(CRON).message("schedule.cron must have five fields, minute hour day-of-month \
                                               month day-of-week, such as 0 3 * * MON-FRI, or be @hourly, \
                                               @daily, @weekly or @monthly"))]
pub struct Schedule {
    /// Time between two rounds, such as `1h`; 1m to 168h. The policy's own offset in it is derived from its
    /// uid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<Duration>,
    /// Rounds by the clock, as in `0 3 * * MON-FRI`: minute, hour, day of month, month, day of week.
    /// A policy starts up to 30 s later than that, by its uid, so that not all start at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 100))]
    pub cron: Option<String>,
    /// The zone of the clock that `cron` goes by, such as `Europe/Berlin`; UTC where it is left out. When
    /// clocks are put forward, a fixed time that is skipped runs right after; when they are put back, it runs
    /// once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*$"))]
    pub time_zone: Option<String>,
    /// Rounds so often that a picked pod is profiled for this share of time: `Normal` 5 %, `High` 50 %,
    /// `Maximum` 75 %.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preset: Option<Preset>,
    /// How long each round captures, such as `2m`; 10s to 6m.
    #[serde(default = "default_duration")]
    pub duration: Duration,
}

impl Default for Schedule {
    fn default() -> Self {
        Self { every: None, cron: None, time_zone: None, preset: None, duration: default_duration() }
    }
}

/// How much of the time a picked pod is profiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Preset {
    /// 5 % of time.
    Normal,
    /// 50 % of time.
    High,
    /// 75 % of time.
    Maximum,
}

impl Preset {
    /// The share of time, in percent.
    #[must_use]
    pub const fn percent(self) -> u32 {
        match self {
            Self::Normal => 5,
            Self::High => 50,
            Self::Maximum => 75,
        }
    }

    /// The word in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::High => "High",
            Self::Maximum => "Maximum",
        }
    }
}

/// What becomes of running sessions when a policy is suspended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum SuspendBehavior {
    /// They run to their end.
    #[default]
    Finish,
    /// They are stopped; what was captured is kept.
    Cancel,
}
