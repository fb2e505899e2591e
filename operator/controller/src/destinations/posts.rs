//! How does a profile get to a server that takes it in parts, over HTTP? One part after the other, and after a failure
//! those that are missing.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use fleetprof_core::outbox::Attempt;
use fleetprof_core::text::{cut, printable};
use fleetprof_crds::Reason;
use fleetprof_profile::Limits;
use http::header::RETRY_AFTER;
use http::{HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use jiff::SignedDuration;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::client::{Connector, chain, client, connector};
use super::credentials::{Made, Secrets};

/// Longest time for an answer.
const ANSWER: Duration = Duration::from_secs(30);
/// Longest answer that is read, in bytes.
const MOST: usize = 64 << 10;
/// Longest text of the server in a message, in bytes.
const MAX_CAUSE: usize = 240;
/// Most profiles whose parts are remembered.
const MOST_BEGUN: usize = 1_000;

/// What a profile may hold: as much as a merge of slices can make.
pub(super) const LIMITS: Limits = Limits {
    compressed_bytes: 64 << 20,
    uncompressed_bytes: 128 << 20,
    samples: 1_000_000,
    strings: 2_000_000,
    string_length: 32 << 10,
    entries: 4_000_000,
    list_length: 8_192,
    memory_bytes: 256 << 20,
};

type Http = Client<Connector, Full<Bytes>>;

/// A server that profiles are posted to.
pub(super) struct Posts {
    /// The server in messages, such as `Pyroscope at http://pyroscope:4040`.
    who: String,
    made: Made<Http>,
    /// How many parts of a profile were stored, where not all were: what is sent twice counts twice with some servers.
    begun: Mutex<HashMap<String, usize>>,
    /// What takes as much memory as a merge of profiles waits for it.
    merges: Arc<Semaphore>,
}

/// An answer.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    /// When to come back.
    pub(super) after: Option<SignedDuration>,
    /// At most 64 KiB.
    pub(super) body: Bytes,
    /// What must not be repeated.
    pub(super) secrets: Arc<Secrets>,
}

impl Posts {
    /// The server that is called `who`.
    pub(super) fn new(who: String, credentials: Option<PathBuf>, merges: &Arc<Semaphore>) -> Self {
        Self { who, made: Made::of(credentials), begun: Mutex::default(), merges: Arc::clone(merges) }
    }

    fn begun(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The parts of a profile, which are made where it may block.
    ///
    /// # Errors
    /// What came of the attempt: there are no parts.
    pub(super) async fn parts<T: Send + 'static>(
        &self,
        make: impl FnOnce() -> Result<Vec<T>, String> + Send + 'static,
    ) -> Result<Vec<T>, Attempt> {
        let stopping = || Attempt::Again("preparing the profile was interrupted".to_owned(), None);
        let permit = Arc::clone(&self.merges).acquire_owned().await.map_err(|_| stopping())?;
        let made = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            make()
        });
        let made = made.await.map_err(|_| stopping())?;
        made.map_err(|error| Attempt::Failed(Reason::UploadRejected, error))
    }

    /// Sends the parts of the profile `key` that were not stored before, until one is not.
    pub(super) async fn send<T, S>(&self, key: &str, parts: &[T], send: impl Fn(usize, &T) -> S) -> Attempt
    where
        S: Future<Output = Result<(), Attempt>>,
    {
        let stored = self.begun().get(key).copied().unwrap_or(0);
        for (n, part) in parts.iter().enumerate().skip(stored) {
            if let Err(attempt) = send(n, part).await {
                return attempt;
            }
            // At once: whoever waits for this may give up at the next part.
            self.note(key, n + 1);
        }
        self.begun().remove(key);
        Attempt::Stored
    }

    fn note(&self, key: &str, stored: usize) {
        let mut begun = self.begun();
        if begun.len() < MOST_BEGUN || begun.contains_key(key) {
            begun.insert(key.to_owned(), stored);
        }
    }

    /// Sends a request, which `make` makes of the credentials as they are now.
    ///
    /// # Errors
    /// A sentence: the credentials cannot be used, or there was no answer.
    pub(super) async fn ask(
        &self,
        make: impl FnOnce(&Secrets) -> Result<Request<Full<Bytes>>, String>,
    ) -> Result<Answer, String> {
        let (http, secrets) = self.made.get(|secrets| Ok(client(connector(secrets)?)))?;
        let request = make(&secrets).map_err(|error| self.said(&error, &secrets))?;
        let ask = async {
            let answer = http.request(request).await.map_err(|error| chain(&error))?;
            let (head, body) = answer.into_parts();
            let body = Limited::new(body, MOST).collect().await.map_err(|error| error.to_string())?;
            Ok::<_, String>((head, body.to_bytes()))
        };
        let late = |_| Err(format!("no answer within {} s", ANSWER.as_secs()));
        let answer = timeout(ANSWER, ask).await.unwrap_or_else(late);
        let (head, body) = answer.map_err(|error| self.said(&error, &secrets))?;
        let after = head.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        Ok(Answer { status: head.status, after: after.map(SignedDuration::from_secs), body, secrets })
    }

    /// A sentence of what went wrong, without secrets and at most 240 bytes of it.
    pub(super) fn said(&self, error: &str, secrets: &Secrets) -> String {
        let error = cut(&printable(&secrets.hide(error)), MAX_CAUSE);
        format!("{} failed: {error}", self.who)
    }
}

/// The credentials as the header `Authorization`; none where the Secret has none. The error says what is wrong with
/// them, without them.
pub(crate) fn authorization(secrets: &Secrets) -> Result<Option<HeaderValue>, String> {
    let value = match (secrets.get("token"), secrets.get("username"), secrets.get("password")) {
        (Some(token), ..) => format!("Bearer {token}"),
        (None, Some(user), Some(password)) => {
            format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
        }
        _ => return Ok(None),
    };
    let mut header = HeaderValue::from_str(&value).map_err(|_| {
        "the token of the Secret has a character that a header cannot have, such as a line break".to_owned()
    })?;
    header.set_sensitive(true);
    Ok(Some(header))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As when the time for the whole attempt is over.
    #[tokio::test]
    async fn a_part_that_was_stored_is_not_sent_again_by_whoever_gave_up_later() {
        let posts = Posts::new("a server".to_owned(), None, &Arc::new(Semaphore::new(1)));
        let sent = Mutex::new(Vec::new());
        let send = |hangs: Option<usize>| {
            let sent = &sent;
            move |n: usize, _: &()| async move {
                if hangs == Some(n) {
                    std::future::pending::<()>().await;
                }
                sent.lock().unwrap().push(n);
                Ok(())
            }
        };
        let parts = [(), (), (), ()];
        for hangs in [0, 1, 3] {
            let attempt = posts.send("key", &parts, send(Some(hangs)));
            assert!(timeout(Duration::from_millis(50), attempt).await.is_err());
        }
        assert_eq!(posts.send("key", &parts, send(None)).await, Attempt::Stored);
        assert_eq!(*sent.lock().unwrap(), [0, 1, 2, 3]);
        assert!(posts.begun().is_empty(), "the next profile of that name is another one");
    }
}
