//! Which certificate is current? The latest valid one from the Secret.

use std::sync::Arc;

use futures::TryStreamExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use kube_runtime::{WatchStreamExt, watcher};
use tokio::sync::watch;

use super::TlsMaterial;

/// A view of the latest valid certificate. Clones are cheap and share the state.
#[derive(Clone, Debug)]
pub struct TlsSource {
    current: watch::Receiver<Option<Arc<TlsMaterial>>>,
}

/// The writing end of a [`TlsSource`].
#[derive(Debug)]
pub struct TlsFeed {
    current: watch::Sender<Option<Arc<TlsMaterial>>>,
}

impl TlsFeed {
    /// Uses `material` for all further handshakes. Does nothing if it is unchanged.
    pub fn replace(&self, material: TlsMaterial) {
        self.current.send_if_modified(|current| {
            let fresh = current.as_ref().is_none_or(|c| !c.same_as(&material));
            if fresh {
                *current = Some(Arc::new(material));
            }
            fresh
        });
    }
}

impl TlsSource {
    /// An empty source, with its feed.
    #[must_use]
    pub fn channel() -> (TlsFeed, Self) {
        let (sender, current) = watch::channel(None);
        (TlsFeed { current: sender }, Self { current })
    }

    /// Watches only the Secret `name`. If the Secret is deleted or invalid, the last valid certificate stays
    /// in use, and the problem is logged. The watch ends with the last clone of the source. Must be called
    /// inside a tokio runtime.
    #[must_use]
    pub fn watch(client: Client, namespace: &str, name: &str) -> Self {
        let (feed, source) = Self::channel();
        let api: Api<Secret> = Api::namespaced(client, namespace);
        let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
        tokio::spawn(async move {
            tokio::select! {
                () = follow(api, config, &feed) => {}
                () = feed.current.closed() => {}
            }
        });
        source
    }

    /// Waits until a certificate is loaded; never returns if the feed is dropped first.
    pub async fn loaded(&self) -> Arc<TlsMaterial> {
        let mut current = self.current.clone();
        match current.wait_for(Option::is_some).await.ok().and_then(|m| m.clone()) {
            Some(material) => material,
            None => std::future::pending().await,
        }
    }

    /// Waits for the next change; never returns if the feed is dropped.
    pub async fn changed(&mut self) {
        if self.current.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// The current certificate, if any; marks it as seen for [`TlsSource::changed`] and
    /// [`TlsSource::has_changed`].
    pub fn take(&mut self) -> Option<Arc<TlsMaterial>> {
        self.current.borrow_and_update().clone()
    }

    /// Whether it has changed since [`TlsSource::take`].
    #[must_use]
    pub fn has_changed(&self) -> bool {
        self.current.has_changed().unwrap_or(false)
    }

    /// The CA bundle for clients, PEM.
    #[must_use]
    pub fn ca_bundle(&self) -> Option<Arc<str>> {
        self.current.borrow().as_ref().map(|m| m.ca_bundle())
    }

    /// When the current leaf expires.
    #[must_use]
    pub fn not_after(&self) -> Option<Timestamp> {
        self.current.borrow().as_ref().map(|m| m.not_after())
    }
}

async fn follow(api: Api<Secret>, config: watcher::Config, feed: &TlsFeed) {
    let mut events = std::pin::pin!(watcher::watcher(api, config).default_backoff());
    loop {
        match events.try_next().await {
            Ok(Some(watcher::Event::Apply(secret) | watcher::Event::InitApply(secret))) => {
                load(&secret, feed)
            }
            Ok(Some(watcher::Event::Delete(_))) => {
                tracing::warn!(
                    "the Secret with the TLS certificate was deleted; keeping the current certificate until \
                     the leader creates a new one"
                );
            }
            Ok(Some(_)) => {}
            Ok(None) => return,
            Err(error) => {
                tracing::warn!(%error, "failed to watch the Secret with the TLS certificate; retrying")
            }
        }
    }
}

fn load(secret: &Secret, feed: &TlsFeed) {
    match TlsMaterial::from_secret(secret) {
        Ok(material) => {
            tracing::info!(tls.server.not_after = %material.not_after(), "TLS certificate loaded");
            feed.replace(material);
        }
        Err(error) => {
            tracing::error!(%error, "the Secret with the TLS certificate is invalid; keeping the current \
                                     certificate")
        }
    }
}
