//! How far is a session? Shows it on stderr until the session ends: a bar on a terminal, elsewhere a line for
//! each phase and one every 30 s, so that nobody and no proxy takes the command for dead.

use std::io::IsTerminal;
use std::time::Duration;

use fleetprof_crds::ProfileSession;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use jiff::Timestamp;
use serde_json::Value;
use tokio::time::Instant;

use crate::cluster::{Ask, Cluster};
use crate::ended;
use crate::exit::Failure;
use crate::lines::WATCH;
use crate::output;
use crate::paths;

/// Without a terminal, the longest silence.
const SILENCE: i64 = 30;
/// Before a watch that ended is begun again.
const PAUSE: Duration = Duration::from_secs(1);
/// For how long the API server may fail: a laptop that changes its network, or an API server that restarts, does
/// not end a wait. Time, not tries: a try that nothing answers can last half a minute.
const PATIENCE: Duration = Duration::from_mins(1);
/// How often a bar moves.
const TICK: Duration = Duration::from_millis(500);

/// How the wait ended.
#[derive(Debug)]
pub(crate) enum Followed {
    /// The session has ended.
    Ended(Box<Value>),
    /// The time to wait is over.
    TimedOut,
    /// The user pressed Ctrl-C.
    Interrupted,
}

/// Follows a session for `limit`; zero means until it ends.
///
/// # Errors
/// The session cannot be read, such as when it was deleted.
pub(crate) async fn follow(
    cluster: &Cluster,
    namespace: &str,
    name: &str,
    limit: Duration,
) -> Result<Followed, Failure> {
    let mut progress = Progress::new();
    let end = async {
        match limit.is_zero() {
            true => std::future::pending().await,
            false => tokio::time::sleep(limit).await,
        }
    };
    let followed = tokio::select! {
        ended = until_ended(cluster, namespace, name, &mut progress) => {
            ended.map(|object| Followed::Ended(Box::new(object)))
        }
        () = end => Ok(Followed::TimedOut),
        _ = tokio::signal::ctrl_c() => Ok(Followed::Interrupted),
    };
    progress.finish();
    followed
}

async fn until_ended(
    cluster: &Cluster,
    namespace: &str,
    name: &str,
    progress: &mut Progress,
) -> Result<Value, Failure> {
    let field = format!("metadata.name={name}");
    loop {
        let object = read(cluster, namespace, name).await?;
        if progress.show(&object)? {
            return Ok(object);
        }
        let version = object["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned();
        let from = [("fieldSelector", field.as_str()), ("resourceVersion", version.as_str())];
        let path = paths::with(&paths::sessions(Some(namespace)), &[&WATCH[..], &from].concat());
        // Without the right to watch, or when the version is gone, the object is read again.
        if let Ok(mut lines) = cluster.lines(&Ask::get(path)).await {
            loop {
                let event = tokio::select! {
                    event = lines.event() => event,
                    () = tokio::time::sleep(TICK) => { progress.tick(); continue }
                };
                let Some(event) = event else { break };
                match event["type"].as_str() {
                    Some("MODIFIED" | "ADDED") => {}
                    Some("BOOKMARK") => continue,
                    _ => break,
                }
                if progress.show(&event["object"])? {
                    return Ok(event["object"].clone());
                }
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// The session, though the API server may not answer for a while.
async fn read(cluster: &Cluster, namespace: &str, name: &str) -> Result<Value, Failure> {
    patient(async || cluster.json(&Ask::get(paths::session(namespace, name))).await).await
}

/// What `ask` answers, though the API server may fail for a while.
///
/// # Errors
/// The API server refuses, or still fails a minute after the first try.
pub(crate) async fn patient<T>(ask: impl AsyncFn() -> Result<T, Failure>) -> Result<T, Failure> {
    until(Instant::now() + PATIENCE, Instant::now, ask).await
}

/// Asks again and again; `now` is the clock.
async fn until<T>(
    end: Instant,
    now: impl Fn() -> Instant,
    ask: impl AsyncFn() -> Result<T, Failure>,
) -> Result<T, Failure> {
    loop {
        match ask().await {
            Err(error) if passes(&error) && now() < end => tokio::time::sleep(PAUSE).await,
            answer => return answer,
        }
    }
}

/// Whether it may be otherwise in a moment: nobody answers, or an API server that is not well.
fn passes(error: &Failure) -> bool {
    error.status().is_none_or(|status| status == 429 || status >= 500)
}

/// What is shown of a session that goes on.
struct Progress {
    bar: Option<ProgressBar>,
    session: Option<ProfileSession>,
    said: Said,
}

/// When which phase was said last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Said {
    phase: String,
    second: i64,
}

impl Said {
    /// Whether a line is due: for each phase one, and one after a silence.
    fn is_due(&self, phase: &str, second: i64) -> bool {
        self.phase != phase || second.saturating_sub(self.second) >= SILENCE
    }
}

impl Progress {
    fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(Some(100), ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template("{spinner} [{bar:20}] {wide_msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "));
            bar
        });
        Self { bar, session: None, said: Said::default() }
    }

    /// Shows the session; whether it has ended.
    fn show(&mut self, object: &Value) -> Result<bool, Failure> {
        let session: ProfileSession = serde_json::from_value(object.clone()).map_err(|error| {
            Failure::error(format!("the session cannot be read ({error}): upgrade this plugin"))
        })?;
        let ended = session.status.as_ref().is_some_and(|status| status.phase.is_terminal());
        self.session = Some(session);
        if !ended {
            self.tick();
        }
        Ok(ended)
    }

    fn tick(&mut self) {
        let Some(session) = &self.session else { return };
        let now = Timestamp::now();
        let line = ended::progress(session, now);
        if let Some(bar) = &self.bar {
            bar.set_position(ended::percent(session, now).unwrap_or_default());
            bar.set_message(line);
            bar.tick();
            return;
        }
        let phase = session.status.as_ref().map_or("Pending", |status| status.phase.as_str());
        if self.said.is_due(phase, now.as_second()) {
            self.said = Said { phase: phase.to_owned(), second: now.as_second() };
            output::note(&line);
        }
    }

    fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_terminal_each_phase_is_said_once_and_silence_is_broken() {
        let said = Said { phase: "Running".into(), second: 100 };
        assert!(!said.is_due("Running", 129));
        assert!(said.is_due("Running", 130) && said.is_due("Uploading", 101));
        assert!(Said::default().is_due("Pending", 0));
    }

    #[tokio::test]
    async fn who_asks_patiently_hears_of_refusals_at_once_and_of_the_rest_once_it_passed() {
        let asked = std::cell::Cell::new(0);
        let answer = async |first: u16| {
            asked.set(asked.get() + 1);
            if asked.get() == 1 { Err(Failure::refused(first, "")) } else { Ok(asked.get()) }
        };
        assert_eq!(patient(async || answer(503).await).await, Ok(2));
        asked.set(0);
        assert_eq!(patient(async || answer(410).await).await.unwrap_err().status(), Some(410));
    }

    #[tokio::test]
    async fn patience_ends_with_its_time_and_not_after_many_tries() {
        let tries = async |each: Duration| {
            let (start, asked) = (Instant::now(), std::cell::Cell::new(0));
            // On the clock of a busy machine, a quick try may take as long as a slow one.
            let now = || start + each * asked.get() + PAUSE * (asked.get() - 1);
            let answer = until(start + PAUSE / 2, now, async || {
                asked.set(asked.get() + 1);
                Err::<(), _>(Failure::error("nobody answers"))
            });
            assert!(answer.await.is_err());
            assert!(start.elapsed() >= PAUSE * (asked.get() - 1), "it waits before it asks again");
            asked.get()
        };
        assert_eq!(tries(PAUSE * 3 / 5).await, 1, "a slow try uses up the time");
        assert_eq!(tries(Duration::ZERO).await, 2, "one within the time, and one after it");
    }

    #[test]
    fn a_wait_outlasts_a_server_that_does_not_answer_but_no_refusal() {
        assert!(passes(&Failure::error("connection refused")) && passes(&Failure::refused(503, "")));
        assert!(!passes(&Failure::refused(404, "")) && !passes(&Failure::refused(403, "")));
    }
}
