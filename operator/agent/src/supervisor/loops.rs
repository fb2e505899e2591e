//! What does the agent do all day? Loops: it tells how it is, measures, asks for orders, and uploads slices.
//!
//! Each loop keeps its own back-off, so that an upload that is refused for now delays no order.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use fleetprof_crds::Reason;
use fleetprof_crds::wire::{OrderList, SliceId};
use tokio::time::Instant;

use super::agent::{Agent, chance, most_rows, steady_seconds};
use super::backoff::{Backoff, heartbeat_interval};
use super::captures::problem;
use super::credential::CredentialError;
use super::gateway::CallError;
use super::glance;
use super::order::arrived;
use super::told::Message;

/// Heartbeats that changes ask for are at least this far apart.
const COALESCE: Duration = Duration::from_millis(100);
/// How often use is measured while a trigger waits for a line.
const MEASURE: Duration = Duration::from_secs(5);
/// A poll that comes back sooner without news is not repeated at once.
const TOO_SOON: Duration = Duration::from_secs(1);
/// How long a gateway may not know a capture before its slices are thrown away.
const UNKNOWN_FOR: Duration = Duration::from_secs(600);
/// How long an upload of a capture that the gateway does not know is put off.
const UNKNOWN_AGAIN: Duration = Duration::from_secs(15);
/// When an agent that is let in no more asks again while it has something to lose.
const REFUSED_AGAIN: Duration = Duration::from_secs(30);
/// Most orders that are looked at, as a multiple of the captures that an agent may have.
const MAX_ORDERS: usize = 4;

/// Tells the gateway how things are: every interval that it asked for, and at once when something changed.
pub async fn heartbeats(agent: Rc<Agent>) -> anyhow::Error {
    let mut backoff = Backoff::default();
    loop {
        let pause = match tell(&agent).await {
            Ok(next_ms) => {
                backoff.reset();
                heartbeat_interval(next_ms, chance())
            }
            Err(CallError::Credential(never @ CredentialError::Never(_))) => match refused(&agent) {
                Some(pause) => pause,
                None => return never.into(),
            },
            Err(error) => failed("heartbeat failed", &mut backoff, &error),
        };
        let next = Instant::now() + pause;
        tokio::time::sleep(COALESCE.min(pause)).await;
        tokio::select! {
            () = tokio::time::sleep_until(next) => {}
            () = agent.beat.notified(), if !backoff.failing() => {}
        }
    }
}

/// Sends a heartbeat, as what changed where the gateway holds the one before; when to send the next one, in
/// milliseconds. A gateway that does not hold it, or knows no changes, is told everything at once.
async fn tell(agent: &Agent) -> Result<u64, CallError> {
    let heartbeat = agent.heartbeat().await;
    let containers = heartbeat.containers.clone();
    let message = agent.told.borrow_mut().message(heartbeat.clone(), std::time::Instant::now());
    let mut answer = agent.gateway.tell(&message).await;
    if matches!(message, Message::Changes(_)) && answer.as_ref().is_err_and(wants_everything) {
        agent.told.borrow_mut().forget();
        let whole = agent.told.borrow_mut().message(heartbeat, std::time::Instant::now());
        answer = agent.gateway.tell(&whole).await;
    }
    let now = std::time::Instant::now();
    match answer {
        Ok(reply) => {
            agent.last_beat.set(now);
            agent.told.borrow_mut().answered(containers, reply.holds, now);
            agent.heard(&reply);
            Ok(reply.next_ms)
        }
        Err(error) => {
            agent.told.borrow_mut().forget();
            Err(error)
        }
    }
}

/// Whether a gateway could not take changes, and may take the whole: it does not hold what they build on, or
/// is of an earlier version.
const fn wants_everything(error: &CallError) -> bool {
    matches!(error, CallError::Refused { status: 400 | 404 | 405 | 409 | 413 | 422, .. })
}

/// While a trigger waits for a line, measures often and has it told at once when a line is crossed, in either
/// direction; above it, every [`Agent::hot`].
pub async fn levels(agent: Rc<Agent>) -> anyhow::Error {
    let mut was_over = false;
    loop {
        tokio::time::sleep(MEASURE).await;
        if agent.lines.borrow().is_empty() {
            was_over = false;
            continue;
        }
        let containers = agent.observe().await;
        let over = agent.lines.borrow().reached(&containers);
        if over != was_over || (over && agent.last_beat.get().elapsed() >= agent.hot.get()) {
            agent.beat.notify_one();
        }
        was_over = over;
    }
}

/// Looks whether a container has started, or another program in one, and has it told at once: somebody may
/// wait to profile it.
pub async fn changes(agent: Rc<Agent>) -> anyhow::Error {
    let (mut changed, mut cost) = (Instant::now(), Duration::ZERO);
    loop {
        tokio::time::sleep(glance::pause(changed.elapsed(), cost)).await;
        let before = glance::own_cpu_time();
        if agent.has_news().await {
            changed = Instant::now();
            agent.beat.notify_one();
        }
        cost = glance::own_cpu_time().saturating_sub(before);
    }
}

/// Asks for orders and obeys them; a list that does not come is asked for again.
pub async fn orders(agent: Rc<Agent>) -> anyhow::Error {
    let (mut backoff, mut have) = (Backoff::default(), None);
    let mut losses = agent.gateway.losses();
    loop {
        losses.mark_unchanged();
        let asked = Instant::now();
        let answer = tokio::select! {
            answer = agent.gateway.orders(&agent.instance, have) => answer,
            // Another call lost its connection: this poll may hang on the same dead gateway.
            Ok(()) = losses.changed() => { have = None; continue; }
        };
        match answer {
            Ok(list) => {
                if backoff.failing() {
                    // Perhaps another leader, that knows nothing of this agent yet.
                    agent.beat.notify_one();
                    backoff.reset();
                }
                let news = take(&agent, list, &mut have);
                if !news && asked.elapsed() < TOO_SOON {
                    tokio::time::sleep(TOO_SOON).await;
                }
            }
            Err(CallError::Credential(never @ CredentialError::Never(_))) => match refused(&agent) {
                Some(pause) => tokio::time::sleep(pause).await,
                None => return never.into(),
            },
            Err(error) => {
                have = None;
                // Perhaps a leader that has not seen this agent: it gives orders to those alone whose
                // containers it knows.
                agent.beat.notify_one();
                tokio::time::sleep(failed("polling for orders failed", &mut backoff, &error)).await;
            }
        }
    }
}

/// Obeys the list of orders that came, or else the one that is known; whether it is another one.
fn take(agent: &Rc<Agent>, list: Option<OrderList>, have: &mut Option<u64>) -> bool {
    let news = list.as_ref().is_some_and(|list| *have != Some(list.version));
    if let Some(mut list) = list {
        list.orders.truncate(MAX_ORDERS * most_rows(agent.mode));
        *have = Some(list.version);
        list.orders.iter_mut().for_each(|order| arrived(order, steady_seconds()));
        *agent.orders.borrow_mut() = list.orders;
    }
    agent.obey();
    news
}

/// Looks again at waiting orders once their deadline has passed, so that the gateway is told.
pub async fn deadlines(agent: Rc<Agent>) -> anyhow::Error {
    loop {
        let next = agent.captures.borrow().next_deadline(&agent.orders.borrow());
        let wait = next.map_or(60, |at| at.saturating_sub(steady_seconds()).saturating_add(1).clamp(1, 60));
        tokio::time::sleep(Duration::from_secs(wait.unsigned_abs())).await;
        agent.obey();
        agent.tidy();
    }
}

/// Uploads slices, oldest first, until the gateway has stored each or refused it for good.
pub async fn uploads(agent: Rc<Agent>) -> anyhow::Error {
    let mut backoff = Backoff::default();
    let mut shutdown = agent.shutdown.subscribe();
    loop {
        let next = agent.captures.borrow().next_upload(std::time::Instant::now());
        let Some((capture, slice)) = next else {
            let again = agent.captures.borrow().next_try();
            let again = again.map_or_else(|| Instant::now() + Duration::from_secs(3600), Instant::from_std);
            tokio::select! {
                () = agent.upload.notified() => {}
                () = tokio::time::sleep_until(again) => {}
            }
            continue;
        };
        if let Some(error) = upload(&agent, &capture, slice).await {
            let pause = failed("upload failed", &mut backoff, &error);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                // Little time is left: do not back off.
                Ok(()) = shutdown.changed() => backoff.reset(),
            }
        } else {
            backoff.reset();
        }
    }
}

/// One try; an error is worth another.
async fn upload(agent: &Agent, capture: &str, slice: SliceId) -> Option<CallError> {
    let body = match agent.spool.read_slice(capture, slice) {
        Ok(body) => Bytes::from(body),
        Err(error) => {
            let why = problem(Reason::SpoolFailed, format!("failed to upload {slice}: {error}"));
            agent.lose(capture, slice, why);
            return None;
        }
    };
    let profiles = agent.captures.borrow().get(capture)?.record.profiles.clone();
    match verdict(agent.gateway.upload(capture, &profiles, slice, body).await) {
        Verdict::Stored => agent.stored(capture, slice),
        Verdict::Refused(message) => agent.lose(capture, slice, problem(Reason::UploadRejected, message)),
        Verdict::Unwanted => agent.settle(capture),
        Verdict::Unknown => {
            if put_off(agent, capture) > UNKNOWN_FOR {
                tracing::warn!(fleetprof.capture = capture, "capture unknown to the gateway, dropping it");
                agent.settle(capture);
            }
        }
        Verdict::Again(error) => return Some(error),
    }
    None
}

/// The gateway lets the agent in no more. While a worker runs or slices wait, when to ask again: whatever made it
/// say so may be put right, and results are waited for; `None` where there is nothing to lose.
fn refused(agent: &Agent) -> Option<Duration> {
    (!agent.captures.borrow().is_idle()).then_some(REFUSED_AGAIN)
}

fn put_off(agent: &Agent, capture: &str) -> Duration {
    let now = std::time::Instant::now();
    let mut captures = agent.captures.borrow_mut();
    captures.get_mut(capture).map_or(Duration::ZERO, |c| c.unknown_until(now, now + UNKNOWN_AGAIN))
}

/// What an answer to an upload means.
#[derive(Debug)]
enum Verdict {
    Stored,
    /// This slice is never taken.
    Refused(String),
    /// Nothing of the capture is wanted any more.
    Unwanted,
    /// The gateway does not know the capture; it may still learn of it.
    Unknown,
    /// Worth another try.
    Again(CallError),
}

fn verdict(answer: Result<(), CallError>) -> Verdict {
    match answer {
        Ok(()) => Verdict::Stored,
        Err(CallError::Refused { status: 410, .. }) => Verdict::Unwanted,
        Err(CallError::Refused { status: 404, .. }) => Verdict::Unknown,
        Err(CallError::Refused { status: 401 | 408 | 425 | 429, retry_after, message }) => {
            Verdict::Again(CallError::Refused { status: 429, retry_after, message })
        }
        Err(CallError::Refused { status: 400..=499, message, .. }) => Verdict::Refused(message),
        Err(error) => Verdict::Again(error),
    }
}

fn failed(what: &str, backoff: &mut Backoff, error: &CallError) -> Duration {
    let retry_after = match error {
        CallError::Credential(CredentialError::Later { retry_after, .. }) => *retry_after,
        error => error.retry_after(),
    };
    let first = !backoff.failing();
    let pause = backoff.next(chance(), retry_after);
    let retry_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
    if first {
        tracing::warn!(%error, retry_ms, "{what}");
    } else {
        tracing::debug!(%error, retry_ms, "{what} again");
    }
    pause
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(status: u16) -> Result<(), CallError> {
        Err(CallError::Refused { status, retry_after: None, message: "because".into() })
    }

    #[test]
    fn every_answer_to_an_upload_has_its_meaning() {
        assert!(matches!(verdict(Ok(())), Verdict::Stored));
        assert!(matches!(verdict(said(410)), Verdict::Unwanted));
        assert!(matches!(verdict(said(404)), Verdict::Unknown));
        for status in [400, 403, 409, 413, 415, 422] {
            assert!(matches!(verdict(said(status)), Verdict::Refused(m) if m == "because"), "{status}");
        }
        for status in [401, 408, 425, 429, 500, 502, 503, 504, 507, 302] {
            assert!(matches!(verdict(said(status)), Verdict::Again(_)), "{status}");
        }
        assert!(matches!(verdict(Err(CallError::Transport("reset".into()))), Verdict::Again(_)));
    }
}
