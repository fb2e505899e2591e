//! Which certificate holds now? The newest that a Secret held and that could be used.

use std::sync::Arc;

use futures::TryStreamExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use kube_runtime::{WatchStreamExt, watcher};
use tokio::sync::watch;

use super::TlsMaterial;

/// A view of the newest usable certificate. Cloning is cheap; clones see the same.
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
    /// Puts `material` in force for every handshake from now on. What is the same already changes nothing.
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
    /// A source that holds nothing until its feed is given something.
    #[must_use]
    pub fn channel() -> (TlsFeed, Self) {
        let (sender, current) = watch::channel(None);
        (TlsFeed { current: sender }, Self { current })
    }

    /// Follows the Secret `name` by a watch that asks for this one object alone. A Secret that is deleted or
    /// cannot be used leaves the last good certificate in force and is logged. The watch ends with the last
    /// clone of the source. Must be called inside a tokio runtime.
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

    /// Waits until a certificate has been loaded; never returns when the feed is gone before.
    pub async fn loaded(&self) -> Arc<TlsMaterial> {
        let mut current = self.current.clone();
        match current.wait_for(Option::is_some).await.ok().and_then(|m| m.clone()) {
            Some(material) => material,
            None => std::future::pending().await,
        }
    }

    /// Waits for the next change; never returns when the feed is gone.
    pub async fn changed(&mut self) {
        if self.current.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// The certificate in force, if any; marks it as seen for [`TlsSource::changed`] and
    /// [`TlsSource::has_changed`].
    pub fn take(&mut self) -> Option<Arc<TlsMaterial>> {
        self.current.borrow_and_update().clone()
    }

    /// Whether a newer one came since [`TlsSource::take`].
    #[must_use]
    pub fn has_changed(&self) -> bool {
        self.current.has_changed().unwrap_or(false)
    }

    /// The bundle that clients check the certificate with, PEM.
    #[must_use]
    pub fn ca_bundle(&self) -> Option<Arc<str>> {
        self.current.borrow().as_ref().map(|m| m.ca_bundle())
    }

    /// When the leaf in force ends.
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
                    "the Secret with the TLS certificate was deleted; the last certificate stays in force \
                     until the leader makes a new one"
                );
            }
            Ok(Some(_)) => {}
            Ok(None) => return,
            Err(error) => {
                tracing::warn!(%error, "the Secret with the TLS certificate cannot be watched; trying again")
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
            tracing::error!(%error, "the Secret with the TLS certificate cannot be used; the last good one \
                                     stays in force")
        }
    }
}
