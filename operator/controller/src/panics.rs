//! What if the work on one object panics? It is retried after a growing delay and gets an event; the work
//! on all others goes on.
//!
//! A panic is a bug, whatever the object says. Without this it would end the leader, and the next one too.

use std::any::Any;
use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use fleetprof_core::text::advised;
use fleetprof_crds::Reason;
use futures::FutureExt;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Resource;
use kube_runtime::controller::Action;

use crate::events::Events;
use crate::metrics::Metrics;

/// How long an object waits after its first panic; twice as long after each further one.
const FIRST: Duration = Duration::from_secs(1);
/// How long it waits at most.
const LONGEST: Duration = Duration::from_secs(300);
/// Most objects that are remembered; those that have waited longest since are forgotten first.
const MAX_FAULTS: usize = 10_000;

/// Which objects panicked, and how long each waits.
pub struct Panics {
    events: Events,
    metrics: Metrics,
    faults: Mutex<HashMap<String, Fault>>,
}

/// The panics of one object in a row.
#[derive(Clone, Copy)]
struct Fault {
    generation: Option<i64>,
    times: u32,
    until: Instant,
}

impl Panics {
    /// None so far.
    #[must_use]
    pub fn new(events: Events, metrics: Metrics) -> Self {
        Self { events, metrics, faults: Mutex::default() }
    }

    /// One reconcile of `object`.
    ///
    /// # Errors
    /// Those of the work.
    pub async fn reconcile<K, E>(
        &self,
        object: &K,
        kind: &'static str,
        work: impl Future<Output = Result<Action, E>>,
    ) -> Result<Action, E>
    where
        K: Resource<DynamicType = ()>,
    {
        let (about, generation) = (object.object_ref(&()), object.meta().generation);
        self.guard(&about, generation, kind, work).await.unwrap_or_else(|wait| Ok(Action::requeue(wait)))
    }

    /// Does the work on an object, unless it has to wait after a panic. An object that was edited since does
    /// not wait.
    ///
    /// # Errors
    /// How long the object waits from now on, where it panicked or was not worked on.
    pub async fn guard<T>(
        &self,
        about: &ObjectReference,
        generation: Option<i64>,
        kind: &'static str,
        work: impl Future<Output = T>,
    ) -> Result<T, Duration> {
        let uid = about.uid.clone().unwrap_or_default();
        if let Some(wait) = self.left(&uid, generation, Instant::now()) {
            return Err(wait);
        }
        match AssertUnwindSafe(work).catch_unwind().await {
            Ok(done) => {
                self.faults().remove(&uid);
                Ok(done)
            }
            Err(panic) => {
                let wait = self.note(uid, generation, Instant::now());
                self.metrics.reconcile_panicked(kind);
                self.tell(about, &words(&*panic), wait).await;
                Err(wait)
            }
        }
    }

    async fn tell(&self, about: &ObjectReference, what: &str, wait: Duration) {
        tracing::error!(
            k8s.namespace.name = about.namespace,
            k8s.object.kind = about.kind,
            k8s.object.name = about.name,
            panic = what,
            "the work on an object panicked; this is a bug"
        );
        let cause = format!(
            "The operator failed to process this object, and retries in {} s: {what}",
            wait.as_secs()
        );
        let note = advised(cause, Reason::Internal);
        self.events.warning(about, Reason::Internal, "Reconcile", note).await;
    }

    /// How long the object still waits, if it does.
    fn left(&self, uid: &str, generation: Option<i64>, now: Instant) -> Option<Duration> {
        let fault = self.faults().get(uid).copied().filter(|fault| fault.generation == generation)?;
        let left = fault.until.saturating_duration_since(now);
        (!left.is_zero()).then_some(left)
    }

    /// Counts a panic of the object; how long it waits now.
    fn note(&self, uid: String, generation: Option<i64>, now: Instant) -> Duration {
        let mut faults = self.faults();
        let before = faults.get(&uid).filter(|fault| fault.generation == generation);
        let times = before.map_or(0, |fault| fault.times.saturating_add(1));
        let wait =
            2u32.checked_pow(times).and_then(|n| FIRST.checked_mul(n)).map_or(LONGEST, |t| t.min(LONGEST));
        let until = now.checked_add(wait).unwrap_or(now);
        if faults.len() >= MAX_FAULTS
            && let Some(oldest) =
                faults.iter().min_by_key(|(_, fault)| fault.until).map(|(uid, _)| uid.clone())
        {
            faults.remove(&oldest);
        }
        faults.insert(uid, Fault { generation, times, until });
        wait
    }

    fn faults(&self) -> std::sync::MutexGuard<'_, HashMap<String, Fault>> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a panic says.
fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "it panicked".to_owned())
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use fleetprof_crds::ProfileSession;
    use kube::Client;
    use serde_json::json;

    use super::*;

    /// Events go to a server that does not exist: a failed write stops nothing.
    fn panics() -> (Panics, prometheus_client::registry::Registry) {
        let mut registry = prometheus_client::registry::Registry::default();
        let config = kube::Config::new("http://127.0.0.1:1".parse().unwrap());
        let events = Events::new(Client::try_from(config).unwrap(), "test");
        (Panics::new(events, Metrics::register(&mut registry)), registry)
    }

    fn session(name: &str, generation: i64) -> ProfileSession {
        serde_json::from_value(json!({
            "apiVersion": "fleetprof.dev/v1alpha1", "kind": "ProfileSession", "spec": {},
            "metadata": {"name": name, "namespace": "shop", "uid": format!("u-{name}"), "generation": generation},
        }))
        .unwrap()
    }

    /// Whether it was run, and when it is looked at again.
    async fn run(panics: &Panics, session: &ProfileSession, fails: bool) -> (bool, Action) {
        let ran = std::cell::Cell::new(false);
        let work = async {
            ran.set(true);
            assert!(!fails, "a bug");
            Ok::<_, Infallible>(Action::await_change())
        };
        let Ok(action) = panics.reconcile(session, "session", work).await;
        (ran.get(), action)
    }

    #[tokio::test]
    async fn an_object_that_panics_waits_and_no_other_does() {
        let (panics, registry) = panics();
        let (bad, good) = (session("bad", 1), session("good", 1));
        let second = Duration::from_secs(1);
        assert_eq!(run(&panics, &bad, true).await, (true, Action::requeue(second)));
        assert_eq!(run(&panics, &good, false).await, (true, Action::await_change()));
        assert!(!run(&panics, &bad, true).await.0, "it waits");
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        assert!(text.contains("fleetprof_reconcile_panics_total{kind=\"session\"} 1"), "{text}");
        let edited = session("bad", 2);
        assert_eq!(
            run(&panics, &edited, true).await,
            (true, Action::requeue(second)),
            "an edit does not wait"
        );
        tokio::time::sleep(second).await;
        assert_eq!(run(&panics, &edited, true).await, (true, Action::requeue(second * 2)));
        tokio::time::sleep(second * 2).await;
        assert_eq!(run(&panics, &edited, false).await, (true, Action::await_change()), "it works again");
        assert_eq!(run(&panics, &edited, true).await, (true, Action::requeue(second)), "and starts over");
    }

    #[tokio::test]
    async fn waits_double_up_to_five_minutes() {
        let (panics, _registry) = panics();
        let now = Instant::now();
        let waits: Vec<u64> = (0..40).map(|_| panics.note("u".into(), None, now).as_secs()).collect();
        assert_eq!(waits[..11], [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert_eq!(waits.last(), Some(&300));
    }

    #[tokio::test]
    async fn the_objects_that_are_remembered_are_bounded() {
        let (panics, _registry) = panics();
        for n in 0..MAX_FAULTS + 10 {
            panics.note(format!("{n}"), None, Instant::now());
        }
        assert_eq!(panics.faults().len(), MAX_FAULTS);
    }
}
