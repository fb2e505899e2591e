//! How is a request refused? With a status, a reason, a sentence, and when to come back.

use std::hash::{BuildHasher, RandomState};

use axum::Json;
use axum::response::{IntoResponse, Response};
use fleetprof_core::text::sentence;
use fleetprof_crds::Reason;
use fleetprof_crds::wire::ErrorReply;
use http::{HeaderValue, StatusCode, header};

use super::auth::IdentifyError;
use super::fleet::{FleetFull, NotSynced};
use super::limits::NoUpload;
use super::sink::SinkError;
use crate::permits::NoPermit;
use crate::server::BodyError;
use crate::tickets::TicketError;

/// Seconds after which to try again what is refused for a moment.
const SOON: u64 = 2;
/// Seconds after which to try again what needs somebody to act.
const LATER: u64 = 30;

/// A refused request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    reason: Reason,
    message: String,
    retry_after: Option<u64>,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, reason: Reason, message: impl Into<String>) -> Self {
        Self { status, reason, message: message.into(), retry_after: None }
    }

    fn again(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// The request cannot be read.
    pub(super) fn malformed(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, Reason::MalformedRequest, message)
    }

    fn too_large(what: &str, most: usize) -> Self {
        let message = format!("The {what} exceeds the limit of {most} bytes.");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, Reason::MalformedRequest, message)
    }

    fn too_slow(what: &str) -> Self {
        let message = format!("The {what} did not arrive in time.");
        Self::new(StatusCode::REQUEST_TIMEOUT, Reason::MalformedRequest, message)
    }

    /// The body of the request, which is called `what` and may have `most` bytes, was not read.
    pub(super) fn of_body(what: &str, most: usize, error: BodyError) -> Self {
        match error {
            BodyError::TooLarge => Self::too_large(what, most),
            BodyError::TooSlow => Self::too_slow(what),
            BodyError::Incomplete => Self::malformed(format!("The {what} was incomplete.")),
            BodyError::NoRoom(denied) => denied.into(),
        }
    }

    pub(super) fn too_many(seconds: u64) -> Self {
        let message = "This agent sends too many requests; wait as long as Retry-After says.";
        Self::new(StatusCode::TOO_MANY_REQUESTS, Reason::TooManyRequests, message).again(seconds)
    }

    pub(super) fn busy(message: &str) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, Reason::TooManyRequests, message).again(SOON)
    }

    pub(super) fn starting() -> Self {
        let message = "The leader is still loading sessions; retry later.";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, Reason::GatewayStarting, message).again(SOON)
    }

    /// The heartbeat that another one builds on is not held.
    pub(super) fn not_held() -> Self {
        let message = "This leader does not hold the heartbeat that these changes are of; tell everything.";
        Self::new(StatusCode::CONFLICT, Reason::GatewayStarting, message)
    }

    pub(super) fn unauthenticated(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, Reason::Unauthenticated, message)
    }

    pub(super) fn unknown_capture() -> Self {
        let message = "This agent has no open capture with this ID; its session may have been deleted.";
        Self::new(StatusCode::NOT_FOUND, Reason::CaptureUnknown, message)
    }

    pub(super) fn settled_capture() -> Self {
        let message = "The outcome of this capture is already recorded; no more uploads are accepted.";
        Self::new(StatusCode::GONE, Reason::CaptureSettled, message)
    }

    pub(super) fn rejected(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, Reason::UploadRejected, message)
    }
}

impl From<IdentifyError> for Refusal {
    fn from(error: IdentifyError) -> Self {
        let message = error.to_string();
        match error {
            IdentifyError::Refused(_) => Self::unauthenticated(message),
            IdentifyError::Unavailable(_) => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, Reason::TokenReviewFailed, message).again(SOON)
            }
            IdentifyError::Crowded { after } | IdentifyError::TooMany { after } => {
                Self::new(StatusCode::TOO_MANY_REQUESTS, Reason::TooManyRequests, message).again(after)
            }
        }
    }
}

impl From<TicketError> for Refusal {
    fn from(error: TicketError) -> Self {
        let message = error.to_string();
        match error {
            TicketError::Forged | TicketError::Expired => Self::unauthenticated(message),
            TicketError::WrongAddress | TicketError::Moved => {
                Self::new(StatusCode::FORBIDDEN, Reason::Unauthenticated, message)
            }
            TicketError::Replayed => Self::new(StatusCode::CONFLICT, Reason::TicketUsed, message),
            TicketError::Busy => Self::busy(&message),
            TicketError::Unwritable => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, Reason::Internal, message)
            }
        }
    }
}

impl From<SinkError> for Refusal {
    fn from(error: SinkError) -> Self {
        match error {
            SinkError::Rejected(why) => Self::rejected(why),
            SinkError::Conflict => Self::new(StatusCode::CONFLICT, Reason::UploadRejected, error.to_string()),
            SinkError::Full => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, Reason::StorageFull, error.to_string())
                    .again(LATER)
            }
            SinkError::NamespaceFull(_) => {
                let message = sentence(&error.to_string());
                Self::new(StatusCode::SERVICE_UNAVAILABLE, Reason::NamespaceStorageFull, message).again(LATER)
            }
            // The message may contain paths, which pods must not see; it is in the log.
            SinkError::Io(_) => {
                let message = "The results volume is not writable; see the operator log.";
                Self::new(StatusCode::SERVICE_UNAVAILABLE, Reason::StorageFailed, message).again(LATER)
            }
        }
    }
}

impl From<NotSynced> for Refusal {
    fn from(_: NotSynced) -> Self {
        Self::starting()
    }
}

impl From<FleetFull> for Refusal {
    fn from(_: FleetFull) -> Self {
        let message = "The leader has reached its limit of agents; retry later.";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, Reason::TooManyRequests, message).again(LATER)
    }
}

impl From<NoPermit> for Refusal {
    fn from(denied: NoPermit) -> Self {
        match denied {
            NoPermit::ForHolder => Self::too_many(SOON),
            NoPermit::ForAnyone => {
                Self::busy("The gateway has reached its limit of concurrent requests; retry later.")
            }
        }
    }
}

impl From<NoUpload> for Refusal {
    fn from(denied: NoUpload) -> Self {
        match denied {
            NoUpload::Agent => Self::too_many(SOON),
            NoUpload::Namespace => Self::busy(
                "The pods of this namespace have reached the limit of concurrent uploads per namespace; \
                 retry later.",
            ),
            NoUpload::Anyone => {
                Self::busy("The gateway has reached its limit of concurrent uploads; retry later.")
            }
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        tracing::debug!(
            status = self.status.as_u16(),
            reason = self.reason.as_str(),
            message = self.message,
            "refused"
        );
        let body = Json(ErrorReply { reason: self.reason, message: self.message });
        let mut response = (self.status, body).into_response();
        if let Some(seconds) = self.retry_after {
            let value = HeaderValue::from(jittered(seconds, RandomState::new().hash_one(self.status)));
            response.headers_mut().insert(header::RETRY_AFTER, value);
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// Between `seconds` and twice that, so that those who were refused together do not come back together.
fn jittered(seconds: u64, random: u64) -> u64 {
    seconds + random % (seconds + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_stays_between_once_and_twice() {
        for random in 0..1000 {
            assert!((5..=10).contains(&jittered(5, random)));
        }
    }

    #[test]
    fn what_the_volume_says_stays_in_the_log() {
        let refusal = Refusal::from(SinkError::Io("/var/lib/secret is broken".into()));
        assert!(!refusal.message.contains("secret"));
    }
}
