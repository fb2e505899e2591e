//! What are the lines of an answer that never ends? A watch sends one event a line.

use std::time::Duration;

use axum::body::Body;
use http_body_util::BodyExt;
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

/// What each watch asks for: a bookmark about once a minute, so that silence tells, and an end before proxies
/// end it.
pub(crate) const WATCH: [(&str, &str); 3] =
    [("watch", "true"), ("allowWatchBookmarks", "true"), ("timeoutSeconds", "290")];
/// After so long without a byte nobody is there any more: a laptop that slept, or a proxy that forgot the
/// connection, ends none.
const SILENCE: Duration = Duration::from_mins(5);
/// The longest line: an object of Kubernetes has at most 1.5 MB.
const LONGEST: usize = 8 << 20;

/// The lines of a body as they arrive.
pub(crate) struct Lines {
    body: Body,
    waiting: Vec<u8>,
    silence: Duration,
    /// When the last bytes came.
    heard: Instant,
}

impl Lines {
    /// The lines of this body.
    pub(crate) fn new(body: Body) -> Self {
        Self { body, waiting: Vec::new(), silence: SILENCE, heard: Instant::now() }
    }

    /// The next event of a watch; nothing once the connection ends, which is normal after some minutes, or is
    /// silent for longer than a watch lasts.
    pub(crate) async fn event(&mut self) -> Option<Value> {
        loop {
            if let Some(line) = line(&mut self.waiting) {
                match serde_json::from_slice(&line) {
                    Ok(event) => return Some(event),
                    Err(_) if line.trim_ascii().is_empty() => continue,
                    Err(_) => return None,
                }
            }
            if self.waiting.len() > LONGEST {
                return None;
            }
            let frame = timeout_at(self.heard + self.silence, self.body.frame()).await.ok()??.ok()?;
            self.heard = Instant::now();
            if let Ok(data) = frame.into_data() {
                self.waiting.extend_from_slice(&data);
            }
        }
    }
}

/// Takes the first whole line.
fn line(waiting: &mut Vec<u8>) -> Option<Vec<u8>> {
    let end = waiting.iter().position(|byte| *byte == b'\n')?;
    let rest = waiting.split_off(end + 1);
    Some(std::mem::replace(waiting, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_that_died_without_a_word_ends_though_others_wait_beside_it() {
        let silent = futures::stream::pending::<Result<Vec<u8>, std::io::Error>>();
        let mut lines = Lines::new(Body::from_stream(silent));
        lines.silence = Duration::from_millis(60);
        let end = async {
            loop {
                // As a bar that moves meanwhile.
                tokio::select! {
                    event = lines.event() => return event,
                    () = tokio::time::sleep(Duration::from_millis(10)) => {}
                }
            }
        };
        let ended = tokio::time::timeout(Duration::from_secs(10), end).await;
        assert_eq!(ended, Ok(None));
    }

    #[test]
    fn lines_are_taken_one_by_one_and_what_is_not_whole_waits() {
        let mut waiting = b"one\ntwo\nthr".to_vec();
        assert_eq!(line(&mut waiting).as_deref(), Some(&b"one\n"[..]));
        assert_eq!(line(&mut waiting).as_deref(), Some(&b"two\n"[..]));
        assert_eq!((line(&mut waiting), waiting), (None, b"thr".to_vec()));
    }
}
