//! Which states does a session go through, and which its targets?

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where a session stands.
///
/// ```text
/// Pending ─► Starting ─► Running ─► Uploading ─► Processing ─► Succeeded | PartiallySucceeded
///    │          │           │            │            │
///    └──────────┴───────────┴────────────┴────────────┴──────► Failed | Cancelled | Expired
/// ```
/// Every state that is not an end has a deadline. `Expired`: results did not come by `resultDeadline`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum Phase {
    /// Accepted; nothing has been asked of any agent.
    #[default]
    Pending,
    /// Orders are out.
    Starting,
    /// At least one target is being captured.
    Running,
    /// Capturing is over; slices are on their way.
    Uploading,
    /// Every slice that can be had is here; results are being made, or are late.
    Processing,
    /// Every target gave data.
    Succeeded,
    /// Some targets gave data.
    PartiallySucceeded,
    /// No target gave data.
    Failed,
    /// Stopped by a person.
    Cancelled,
    /// Results did not arrive by the result deadline.
    Expired,
}

impl Phase {
    /// Whether nothing more will happen.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        matches!(
            self,
            Self::Succeeded | Self::PartiallySucceeded | Self::Failed | Self::Cancelled | Self::Expired
        )
    }

    /// The word in status, logs and metrics.
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
        }
    }
}

/// Where a target stands.
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
    /// The order is out.
    Ordered,
    /// Being captured.
    Running,
    /// Captured; slices are on their way.
    Uploading,
    /// Its profile is stored.
    Succeeded,
    /// No profile, or not all that was wanted.
    Failed,
    /// Never tried.
    Skipped,
    /// Stopped by a person before there was data.
    Cancelled,
}

impl TargetPhase {
    /// Whether the target takes a place in the budgets: it is captured, or may be at any moment.
    #[must_use]
    pub const fn takes_place(self) -> bool {
        matches!(self, Self::Attaching | Self::Ordered | Self::Running)
    }

    /// Whether nothing more will happen to the target.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Skipped | Self::Cancelled)
    }
}
