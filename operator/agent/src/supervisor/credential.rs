//! Who is the agent to the gateway? A sidecar shows its projected token, an attached agent what its ticket
//! was exchanged for.
//!
//! ```text
//! ticket ─► credential ─► (due, or refused) ─► shown in place of the ticket ─► the next credential
//! ```

use std::future::Future;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use fleetprof_crds::wire::{Enroll, EnrollReply};
use tokio::sync::Mutex;

use super::gateway::CallError;
use crate::proc::read_bounded;

/// Most bytes of a token.
const MAX_TOKEN_BYTES: u64 = 16 * 1024;
/// When to try again to renew a credential that the gateway still accepts.
const RENEW_AGAIN: Duration = Duration::from_secs(300);

/// Why the agent has no credential.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// The token cannot be read now.
    #[error("failed to read token {path}: {error}; check the pod's volume fleetprof-token")]
    Token {
        /// The file.
        path: String,
        /// Why.
        error: String,
    },
    /// The gateway cannot exchange the ticket now.
    #[error("failed to exchange the ticket: {message}")]
    Later {
        /// Why.
        message: String,
        /// When to come back.
        retry_after: Option<Duration>,
    },
    /// The gateway will never exchange the ticket, or no longer accepts the credential.
    #[error("the gateway no longer accepts this agent: {0}; attach a new one")]
    Never(String),
}

/// What the agent shows with each call.
pub enum Credential {
    /// A projected token: the kubelet renews the file, so it is read for each call.
    TokenFile(PathBuf),
    /// A ticket, redeemed once however many calls need it at once.
    Ticket {
        /// The ticket.
        ticket: String,
        /// What it was exchanged for.
        held: Mutex<Option<Held>>,
    },
}

/// A credential that the gateway gave.
#[derive(Debug)]
pub struct Held {
    credential: String,
    /// When it is to be renewed; `None` where the gateway renews none.
    renew_at: Option<Instant>,
    /// The gateway refused it.
    refused: bool,
}

impl Held {
    /// What the gateway gave just now; `chance` spreads the agents of a fleet that enrolled together.
    fn of(reply: EnrollReply, now: Instant, chance: f64) -> Self {
        let spread = |ms| Duration::from_millis(ms).mul_f64(1.0 - 0.2 * chance.clamp(0.0, 1.0));
        let renew_at = reply.renew_after_ms.and_then(|ms| now.checked_add(spread(ms)));
        Self { credential: reply.credential, renew_at, refused: false }
    }

    /// It was not renewed: what to call with nevertheless.
    fn kept(&mut self, error: &CallError, now: Instant) -> Result<String, CredentialError> {
        if self.refused {
            return Err(classify(error));
        }
        tracing::warn!(%error, "failed to renew the credential; it is still valid");
        self.renew_at = now.checked_add(RENEW_AGAIN);
        Ok(self.credential.clone())
    }

    /// What to show for the next credential, if it is time. A gateway that renews none is shown the ticket again,
    /// which tells whether this agent is still wanted: redeemed tickets are refused for good.
    fn due<'a>(&'a self, ticket: &'a str, now: Instant) -> Option<&'a str> {
        match self.renew_at {
            Some(at) => (self.refused || now >= at).then_some(&self.credential),
            None => self.refused.then_some(ticket),
        }
    }
}

impl Credential {
    /// A credential in a file.
    #[must_use]
    pub const fn token_file(path: PathBuf) -> Self {
        Self::TokenFile(path)
    }

    /// A credential that is still to be had for a ticket.
    #[must_use]
    pub fn ticket(ticket: String) -> Self {
        Self::Ticket { ticket, held: Mutex::new(None) }
    }

    /// The bearer credential for a call; `enroll` exchanges the ticket where that is still to be done, or the
    /// credential where that is due. `chance` is random in `0.0..1.0`.
    pub async fn bearer<F>(
        &self,
        enroll: impl FnOnce(Enroll) -> F,
        chance: f64,
    ) -> Result<String, CredentialError>
    where
        F: Future<Output = Result<EnrollReply, CallError>>,
    {
        let (ticket, held) = match self {
            Self::TokenFile(path) => return read_token(path),
            Self::Ticket { ticket, held } => (ticket, held),
        };
        let mut held = held.lock().await;
        let now = Instant::now();
        let shown = match held.as_ref().map(|held| (held.due(ticket, now), &held.credential)) {
            Some((None, credential)) => return Ok(credential.clone()),
            Some((Some(shown), _)) => shown.to_owned(),
            None => ticket.clone(),
        };
        match Box::pin(enroll(Enroll { ticket: shown })).await {
            Ok(reply) => {
                tracing::info!(expires_at = reply.expires_at, "enrolled");
                Ok(held.insert(Held::of(reply, now, chance)).credential.clone())
            }
            Err(error) => held.as_mut().map_or_else(|| Err(classify(&error)), |held| held.kept(&error, now)),
        }
    }

    /// The gateway refused the credential. A token may have been renewed meanwhile; a credential may have ended
    /// while nobody answered, and is shown once more to be renewed.
    pub fn refused(&self, bearer: &str) {
        if let Self::Ticket { held, .. } = self
            && let Ok(mut held) = held.try_lock()
            && let Some(held) = held.as_mut().filter(|held| held.credential == bearer)
        {
            held.refused = true;
        }
    }
}

fn read_token(path: &std::path::Path) -> Result<String, CredentialError> {
    let failed = |error: String| CredentialError::Token { path: path.display().to_string(), error };
    let bytes = read_bounded(path, MAX_TOKEN_BYTES).map_err(|e| failed(e.to_string()))?;
    let token = String::from_utf8_lossy(&bytes).trim().to_owned();
    if token.is_empty() || !token.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(failed("the file holds no token".to_owned()));
    }
    Ok(token)
}

/// A refusal is final, unless it says when to come back or is the server's own trouble.
fn classify(error: &CallError) -> CredentialError {
    match error {
        CallError::Refused { status: 400..=407 | 409..=428, message, .. } => {
            CredentialError::Never(message.clone())
        }
        _ => CredentialError::Later { message: error.to_string(), retry_after: error.retry_after() },
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    fn block_on<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
    }

    fn refusal(status: u16) -> CallError {
        CallError::Refused { status, retry_after: None, message: "no".into() }
    }

    /// A gateway that answers with these, one after another, and what it was shown.
    struct Answers {
        left: RefCell<Vec<Result<EnrollReply, CallError>>>,
        shown: RefCell<Vec<String>>,
    }

    impl Answers {
        fn new(answers: impl IntoIterator<Item = Result<(&'static str, Option<u64>), CallError>>) -> Self {
            let reply = |(credential, renew_after_ms): (&str, _)| EnrollReply {
                credential: credential.into(),
                expires_at: 0,
                renew_after_ms,
            };
            let mut left: Vec<_> = answers.into_iter().map(|answer| answer.map(reply)).collect();
            left.reverse();
            Self { left: RefCell::new(left), shown: RefCell::default() }
        }

        fn bearer(&self, credential: &Credential) -> Result<String, CredentialError> {
            let enroll = |enroll: Enroll| {
                self.shown.borrow_mut().push(enroll.ticket);
                std::future::ready(self.left.borrow_mut().pop().unwrap())
            };
            block_on(credential.bearer(enroll, 0.5))
        }
    }

    #[test]
    fn a_credential_is_renewed_when_it_is_due_and_used_until_then() {
        let credential = Credential::ticket("ticket".into());
        let gateway = Answers::new([Ok(("one", Some(0))), Ok(("two", Some(60_000)))]);
        assert_eq!(gateway.bearer(&credential).unwrap(), "one");
        assert_eq!(gateway.bearer(&credential).unwrap(), "two", "it was due at once");
        assert_eq!(gateway.bearer(&credential).unwrap(), "two");
        assert_eq!(*gateway.shown.borrow(), ["ticket", "one"]);
    }

    #[test]
    fn a_credential_that_cannot_be_renewed_yet_is_used_on() {
        for error in [refusal(503), refusal(401), refusal(403)] {
            let credential = Credential::ticket("ticket".into());
            let gateway = Answers::new([Ok(("one", Some(0))), Err(error)]);
            for _ in 0..3 {
                assert_eq!(gateway.bearer(&credential).unwrap(), "one");
            }
            assert_eq!(*gateway.shown.borrow(), ["ticket", "one"], "not asked again at once");
        }
    }

    #[test]
    fn a_credential_that_ended_is_renewed_as_soon_as_somebody_answers() {
        let credential = Credential::ticket("ticket".into());
        let gateway = Answers::new([Ok(("one", Some(60_000))), Err(refusal(503)), Ok(("two", Some(60_000)))]);
        gateway.bearer(&credential).unwrap();
        credential.refused("of another agent");
        assert_eq!(gateway.bearer(&credential).unwrap(), "one");
        credential.refused("one");
        assert!(matches!(gateway.bearer(&credential), Err(CredentialError::Later { .. })));
        assert_eq!(gateway.bearer(&credential).unwrap(), "two");
        assert_eq!(*gateway.shown.borrow(), ["ticket", "one", "one"]);
    }

    #[test]
    fn a_gateway_that_renews_none_is_shown_the_ticket_again() {
        let credential = Credential::ticket("ticket".into());
        let gateway = Answers::new([Ok(("one", None)), Err(refusal(409))]);
        gateway.bearer(&credential).unwrap();
        assert_eq!(gateway.bearer(&credential).unwrap(), "one");
        credential.refused("one");
        assert!(matches!(gateway.bearer(&credential), Err(CredentialError::Never(_))));
        assert_eq!(*gateway.shown.borrow(), ["ticket", "ticket"]);
    }

    #[test]
    fn agents_that_enrolled_together_do_not_renew_together() {
        let now = Instant::now();
        let reply = |ms| EnrollReply { credential: "c".into(), expires_at: 0, renew_after_ms: Some(ms) };
        let at = |chance| Held::of(reply(43_200_000), now, chance).renew_at.unwrap() - now;
        assert_eq!((at(0.0).as_secs(), at(0.5).as_secs(), at(1.0).as_secs()), (43_200, 38_880, 34_560));
        assert!(Held::of(reply(u64::MAX), now, 0.0).renew_at.is_none_or(|at| at > now));
    }

    #[test]
    fn only_a_true_refusal_ends_an_attached_agent() {
        let refused = |status| CallError::Refused { status, retry_after: None, message: "no".into() };
        for status in [400, 401, 403, 409, 410] {
            assert!(matches!(classify(&refused(status)), CredentialError::Never(_)), "{status}");
        }
        for error in
            [refused(408), refused(429), refused(500), refused(503), CallError::Transport("x".into())]
        {
            assert!(matches!(classify(&error), CredentialError::Later { .. }));
        }
    }

    #[test]
    fn a_token_is_one_line_of_text() {
        let path = std::env::temp_dir().join(format!("fleetprof-token-{}", std::process::id()));
        for (text, wanted) in [("abc.def\n", Some("abc.def")), ("", None), ("a\nb", None)] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(read_token(&path).ok().as_deref(), wanted);
        }
        std::fs::remove_file(&path).unwrap();
        assert!(read_token(&path).unwrap_err().to_string().contains("fleetprof-token"));
    }
}
