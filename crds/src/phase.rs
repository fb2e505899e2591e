//! Which phases do sessions and their targets go through?

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Phase of a session.
///
/// ```text
/// Pending ─► Starting ─► Running ─► Uploading ─► Processing ─► Succeeded | PartiallySucceeded
///    │          │           │            │            │
///    └──────────┴───────────┴────────────┴────────────┴──────► Failed | Cancelled | Expired
/// ```
/// Every non-terminal phase has a deadline. `Expired`: results did not arrive by `resultDeadline`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum Phase {
    /// Accepted; no capture has been ordered yet.
    #[default]
    Pending,
    /// Captures are ordered.
    Starting,
    /// At least one target is being captured.
    Running,
    /// Captures have ended; slices are being uploaded.
    Uploading,
    /// All available slices are stored; results are being assembled or are delayed.
    Processing,
    /// All targets returned data.
    Succeeded,
    /// Some targets returned data.
    PartiallySucceeded,
    /// No target returned data.
    Failed,
    /// Cancelled by a user.
    Cancelled,
    /// Results did not arrive by the result deadline.
    Expired,
    /// A value of a newer version. It has not ended as far as this version can tell: nothing is done with the session.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

impl Phase {
    /// Whether the phase is final.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        matches!(
            self,
            Self::Succeeded | Self::PartiallySucceeded | Self::Failed | Self::Cancelled | Self::Expired
        )
    }

    /// The name in status, logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Starting => "Starting",
            Self::Running => "Running",
            Self::Uploading => "Uploading",
            Self::Processing => "Processing",
            Self::Succeeded => "Succeeded",
            Self::PartiallySucceeded => "PartiallySucceeded",
            Self::Failed => "Failed",
            Self::Cancelled => "Cancelled",
            Self::Expired => "Expired",
            Self::Unknown => "Unknown",
        }
    }
}

/// Phase of a target.
///
/// ```text
/// Pending ─► Attaching ─► Ordered ─► Running ─► Uploading ─► Succeeded
///                 (any) ─► Failed | Skipped | Cancelled
/// ```
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum TargetPhase {
    /// Picked.
    #[default]
    Pending,
    /// An agent is being attached to the pod.
    Attaching,
    /// The capture is ordered.
    Ordered,
    /// Being captured.
    Running,
    /// Captured; slices are being uploaded.
    Uploading,
    /// Its profile is stored.
    Succeeded,
    /// No profile, or an incomplete one.
    Failed,
    /// Never attempted.
    Skipped,
    /// Cancelled by a user before there was data.
    Cancelled,
    /// A value of a newer version. Nothing is done with its session.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

impl TargetPhase {
    /// Whether the target takes a slot in the budgets: it is being captured, or may be at any moment.
    #[must_use]
    pub const fn holds_place(self) -> bool {
        matches!(self, Self::Attaching | Self::Ordered | Self::Running | Self::Unknown)
    }

    /// Whether the phase is final.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Skipped | Self::Cancelled)
    }
}
