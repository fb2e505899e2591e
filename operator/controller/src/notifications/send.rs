//! How is a notification sent? As one POST, whose answer counts by its status alone.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use fleetprof_core::outbox::Attempt;
use fleetprof_core::session::{Notification, notify};
use fleetprof_core::text::{cut, printable};
use http::Request;
use http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER, USER_AGENT};
use http_body_util::Full;
use hyper_util::client::legacy::Client;
use jiff::{SignedDuration, Timestamp};
use tokio::time::timeout;

use super::sign::Keys;
use crate::destinations::{Connector, Made, Secrets, chain, client, connector};

/// Longest time for an answer.
const ANSWER: Duration = Duration::from_secs(10);
/// What a status says of a receiver to which there is no connection.
const UNREACHABLE: &str = "could not connect, or the connection broke; see the operator log";
/// Longest text of an error in a message, in bytes.
const MAX_CAUSE: usize = 240;
/// Who sends.
const AGENT: &str = concat!("fleetprof/", env!("CARGO_PKG_VERSION"));

type Http = Client<Connector, Full<Bytes>>;

/// What is made of the files of the Secret.
struct Ready {
    http: Http,
    keys: Keys,
}

/// A receiver of notifications.
pub struct Webhook {
    url: String,
    made: Made<Ready>,
}

impl Webhook {
    /// The receiver at that address. The folder holds the files of its Secret: `signing-key`, and where they are
    /// needed `token` and `ca.crt`.
    #[must_use]
    pub fn new(url: &str, credentials: PathBuf) -> Self {
        Self { url: url.to_owned(), made: Made::of(Some(credentials)) }
    }

    /// One attempt.
    pub(super) async fn post(&self, name: &str, notification: &Notification) -> Attempt {
        match self.ask(name, notification).await {
            Ok((code, again)) => notify::answered(code, again),
            Err(error) => Attempt::Again(error, None),
        }
    }

    /// The status of the answer, and after how long the receiver wants to be asked again.
    async fn ask(
        &self,
        name: &str,
        notification: &Notification,
    ) -> Result<(u16, Option<SignedDuration>), String> {
        let (ready, secrets) = self.made.get(ready)?;
        let request = self.request(&ready.keys, &secrets, notification, Timestamp::now())?;
        let answer = timeout(ANSWER, ready.http.request(request)).await;
        let answer = answer.map_err(|_| format!("no answer within {} s", ANSWER.as_secs()))?;
        let answer = answer.map_err(|error| {
            // The status is read by tenants, and the cause may hold the receiver's address.
            let cause = cut(&printable(&secrets.hide(&chain(&error))), MAX_CAUSE);
            tracing::warn!(
                fleetprof.receiver = name,
                cause,
                "failed to tell a receiver: there is no connection"
            );
            UNREACHABLE.to_owned()
        })?;
        let again = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        // The body is not read: whatever it says changes nothing.
        Ok((answer.status().as_u16(), again.map(SignedDuration::from_secs)))
    }

    fn request(
        &self,
        keys: &Keys,
        secrets: &Secrets,
        notification: &Notification,
        now: Timestamp,
    ) -> Result<Request<Full<Bytes>>, String> {
        let Notification { id, body } = notification;
        let second = now.as_second();
        let mut request = Request::post(&self.url)
            .header(CONTENT_TYPE, "application/cloudevents+json; charset=utf-8")
            .header(USER_AGENT, AGENT)
            .header("webhook-id", id)
            .header("webhook-timestamp", second)
            .header("webhook-signature", keys.signatures(id, second, body));
        if let Some(token) = secrets.get("token") {
            if !self.url.starts_with("https:") {
                return Err(
                    "the token is not sent without encryption: use an https:// URL, or remove the token \
                            from the Secret"
                        .to_owned(),
                );
            }
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request.body(Full::new(Bytes::from(body.clone())));
        request.map_err(|_| "the URL or the token cannot be sent in a request".to_owned())
    }
}

fn ready(secrets: &Secrets) -> Result<Ready, String> {
    let key = secrets.get("signing-key").ok_or("its Secret is missing, or has no signing-key")?;
    Ok(Ready { keys: Keys::read(key)?, http: client(connector(secrets)?) })
}
