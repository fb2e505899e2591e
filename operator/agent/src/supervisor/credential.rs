//! Who is the agent to the gateway? A sidecar shows its projected token, an attached agent what its ticket
//! was exchanged for.

use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use fleetprof_crds::wire::{Enroll, EnrollReply};
use tokio::sync::Mutex;

use super::gateway::CallError;
use crate::proc::read_bounded;

/// Most bytes of a token.
const MAX_TOKEN_BYTES: u64 = 16 * 1024;

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
        redeemed: Mutex<Option<EnrollReply>>,
    },
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
        Self::Ticket { ticket, redeemed: Mutex::new(None) }
    }

    /// The bearer credential for a call; `enroll` exchanges the ticket where that is still to be done.
    pub async fn bearer<F>(&self, enroll: impl FnOnce(Enroll) -> F) -> Result<String, CredentialError>
    where
        F: Future<Output = Result<EnrollReply, CallError>>,
    {
        match self {
            Self::TokenFile(path) => read_token(path),
            Self::Ticket { ticket, redeemed } => {
                let mut redeemed = redeemed.lock().await;
                if let Some(reply) = redeemed.as_ref() {
                    return Ok(reply.credential.clone());
                }
                let reply = Box::pin(enroll(Enroll { ticket: ticket.clone() })).await.map_err(classify)?;
                tracing::info!(expires_at = reply.expires_at, "enrolled");
                Ok(redeemed.insert(reply).credential.clone())
            }
        }
    }

    /// The gateway refused the credential. A token may have been renewed meanwhile; a ticket is shown again,
    /// which tells whether this agent is still wanted: redeemed tickets are refused for good.
    pub fn refused(&self, bearer: &str) {
        if let Self::Ticket { redeemed, .. } = self
            && let Ok(mut redeemed) = redeemed.try_lock()
            && redeemed.as_ref().is_some_and(|r| r.credential == bearer)
        {
            *redeemed = None;
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
fn classify(error: CallError) -> CredentialError {
    match &error {
        CallError::Refused { status: 400..=407 | 409..=428, message, .. } => {
            CredentialError::Never(message.clone())
        }
        _ => CredentialError::Later { message: error.to_string(), retry_after: error.retry_after() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_true_refusal_ends_an_attached_agent() {
        let refused = |status| CallError::Refused { status, retry_after: None, message: "no".into() };
        for status in [400, 401, 403, 409, 410] {
            assert!(matches!(classify(refused(status)), CredentialError::Never(_)), "{status}");
        }
        for error in
            [refused(408), refused(429), refused(500), refused(503), CallError::Transport("x".into())]
        {
            assert!(matches!(classify(error), CredentialError::Later { .. }));
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
