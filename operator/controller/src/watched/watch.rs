//! How does a watch run, and what is logged when it is interrupted?

use std::fmt::Debug;

use futures::{Stream, TryStreamExt};
use kube::{Api, Resource};
use kube_runtime::WatchStreamExt;
use kube_runtime::watcher::{self, Event, watcher};
use serde::de::DeserializeOwned;

use super::guarded::{Guarded, Unreadable};

/// Objects of a page of a list. Fewer come where they are large: the client asks for as many as it may hold.
const PAGE: u32 = 250;

/// The events of a watch that goes on for ever, with back-off after a failure. `prune` takes away what is of
/// no interest.
pub fn events<K>(
    api: Api<Guarded<K>>,
    prune: fn(&mut K),
) -> impl Stream<Item = watcher::Result<Event<Guarded<K>>>> + Send
where
    K: Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug + Send + Sync + 'static,
{
    events_where(api, "", prune)
}

/// Those of the objects that a field selector picks, such as `reason=FailedCreate`; an empty one picks all.
pub fn events_where<K>(
    api: Api<Guarded<K>>,
    fields: &str,
    prune: fn(&mut K),
) -> impl Stream<Item = watcher::Result<Event<Guarded<K>>>> + Send + use<K>
where
    K: Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug + Send + Sync + 'static,
{
    let config = watcher::Config::default().page_size(PAGE);
    let config = if fields.is_empty() { config } else { config.fields(fields) };
    let events = watcher(api, config).default_backoff();
    events.map_ok(move |mut event| {
        if let Event::Apply(Guarded(Ok(object))) | Event::InitApply(Guarded(Ok(object))) = &mut event {
            prune(object);
        }
        event
    })
}

/// Takes nothing away.
pub fn whole<K>(_: &mut K) {}

/// Logs that a watch failed and is retried.
pub(crate) fn interrupted(kind: &str, error: &watcher::Error) {
    tracing::warn!(kind, error = describe(error), "watch interrupted; retrying");
}

/// Logs that an object cannot be decoded; whatever is done for others goes on.
pub(super) fn unreadable(kind: &str, object: &Unreadable) {
    tracing::warn!(
        kind,
        k8s.namespace.name = object.namespace(),
        k8s.object.name = object.name(),
        k8s.object.uid = object.uid(),
        field = object.field(),
        "an object cannot be decoded by this version; it is left as it is"
    );
}

/// What went wrong, without anything of the objects that were sent.
fn describe(error: &watcher::Error) -> String {
    match error {
        watcher::Error::InitialListFailed(error) => format!("list: {}", cause(error)),
        watcher::Error::WatchStartFailed(error) => format!("watch: {}", cause(error)),
        watcher::Error::WatchFailed(error) => format!("watch stream: {}", cause(error)),
        watcher::Error::WatchError(status) => format!("watch: {} {}", status.code, status.reason),
        watcher::Error::NoResourceVersion => "the answer has no resourceVersion".into(),
    }
}

fn cause(error: &kube::Error) -> String {
    match error {
        kube::Error::SerdeError(error) => format!(
            "the answer cannot be decoded: {:?} error at line {} column {}",
            error.classify(),
            error.line(),
            error.column()
        ),
        kube::Error::Api(status) => format!("{} {}: {}", status.code, status.reason, status.message),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use futures::StreamExt;
    use http::{Request, Response};
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::Client;
    use kube::client::Body;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;
    use crate::logging;

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// A client whose every answer is a list that cannot be decoded.
    fn client() -> Client {
        let answer = r#"{"kind": "ConfigMapList", "apiVersion": "v1", "metadata": {}, "items": [
            {"metadata": {"name": "secret-name"}, "data": {"user": "secret-user"}}], "items": 7}"#;
        let service = tower::service_fn(move |_: Request<Body>| async move {
            Ok::<_, std::convert::Infallible>(Response::new(Body::from(answer.as_bytes().to_vec())))
        });
        Client::new(service, "default")
    }

    #[tokio::test]
    async fn an_answer_that_cannot_be_decoded_is_not_printed() {
        let log = Log::default();
        let written = log.clone();
        let writer = tracing_subscriber::fmt::layer().with_writer(move || written.clone());
        let subscriber = tracing_subscriber::registry().with(logging::filter("trace")).with(writer);
        let _guard = tracing::subscriber::set_default(subscriber);
        let mut events = std::pin::pin!(events(Api::<Guarded<ConfigMap>>::all(client()), whole));
        let error = loop {
            if let Err(error) = events.next().await.unwrap() {
                break error;
            }
        };
        interrupted("ConfigMap", &error);
        let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        assert!(log.contains("watch interrupted") && log.contains("ConfigMap"), "{log}");
        assert!(log.contains("Data error at line 2 column"), "{log}");
        assert!(!log.contains("secret"), "{log}");
    }
}
