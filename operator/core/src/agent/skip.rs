//! Why does a pod get no agent?

use fleetprof_crds::Reason;

use crate::text::sentence;

/// A "no" with its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skip {
    /// Why.
    pub reason: Reason,
    /// Why in this case, as a message without the advice.
    pub cause: String,
}

impl Skip {
    /// A "no" for this reason; the cause is a part of a sentence.
    #[must_use]
    pub fn new(reason: Reason, cause: impl Into<String>) -> Self {
        Self { reason, cause: cause.into() }
    }

    /// The cause with what to do about it, as a sentence of a status.
    #[must_use]
    pub fn sentence(&self) -> String {
        match self.reason.advice() {
            "" => sentence(&self.cause),
            advice => sentence(&format!("{}; {advice}", self.cause)),
        }
    }

    /// The cause with what to do about it.
    #[must_use]
    pub fn message(&self) -> String {
        match self.reason.advice() {
            "" => self.cause.clone(),
            advice => format!("{}: {advice}", self.cause),
        }
    }
}
