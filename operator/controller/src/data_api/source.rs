//! Which front proxy holds now? The one that the API server last wrote into its ConfigMap.

use std::sync::Arc;

use futures::TryStreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client};
use kube_runtime::{WatchStreamExt, watcher};
use rustls_pki_types::CertificateDer;
use tokio::sync::watch;
use tracing::{info, warn};

use super::front_proxy::FrontProxy;
use crate::tls::ClientAuth;

const NAMESPACE: &str = "kube-system";
const NAME: &str = "extension-apiserver-authentication";

/// A view of the newest settings of the front proxy. Clones see the same.
#[derive(Clone, Debug)]
pub struct FrontProxySource {
    current: watch::Receiver<Arc<FrontProxy>>,
    roots: watch::Receiver<Vec<CertificateDer<'static>>>,
}

/// The writing end of a [`FrontProxySource`].
#[derive(Debug)]
pub struct FrontProxyFeed {
    current: watch::Sender<Arc<FrontProxy>>,
    roots: watch::Sender<Vec<CertificateDer<'static>>>,
}

impl FrontProxyFeed {
    /// Puts settings in force.
    pub fn replace(&self, proxy: FrontProxy) {
        self.roots.send_if_modified(|roots| {
            let changed = *roots != proxy.roots;
            roots.clone_from(&proxy.roots);
            changed
        });
        self.current.send_replace(Arc::new(proxy));
    }
}

impl FrontProxySource {
    /// A source that believes nobody until its feed is given settings.
    #[must_use]
    pub fn channel() -> (FrontProxyFeed, Self) {
        let (send, current) = watch::channel(Arc::default());
        let (send_roots, roots) = watch::channel(Vec::new());
        (FrontProxyFeed { current: send, roots: send_roots }, Self { current, roots })
    }

    /// Follows the ConfigMap `kube-system/extension-apiserver-authentication`; needs the Role
    /// `extension-apiserver-authentication-reader` there. While it cannot be read, the last settings hold.
    /// Must be called inside a tokio runtime.
    #[must_use]
    pub fn watch(client: Client) -> Self {
        let (feed, source) = Self::channel();
        tokio::spawn(async move {
            tokio::select! {
                () = follow(client, &feed) => {}
                () = feed.current.closed() => {}
            }
        });
        source
    }

    /// Waits until a front proxy is known. A connection that is accepted earlier is asked for no client
    /// certificate, and the API server would keep it open and be refused on it for as long as it lives.
    pub async fn loaded(&self) {
        // The sender lives as long as the watch; without it nobody is ever believed anyway.
        let _ = self.roots.clone().wait_for(|roots| !roots.is_empty()).await;
    }

    /// What [`crate::tls::serve`] verifies client certificates against.
    #[must_use]
    pub fn client_auth(&self) -> ClientAuth {
        ClientAuth::new(self.roots.clone())
    }

    pub(super) fn current(&self) -> Arc<FrontProxy> {
        Arc::clone(&self.current.borrow())
    }
}

async fn follow(client: Client, feed: &FrontProxyFeed) {
    let api: Api<ConfigMap> = Api::namespaced(client, NAMESPACE);
    let config = watcher::Config::default().fields(&format!("metadata.name={NAME}"));
    let mut changes = std::pin::pin!(watcher(api, config).default_backoff().applied_objects());
    loop {
        match changes.try_next().await {
            Ok(Some(config)) => {
                let proxy = FrontProxy::read(&config);
                info!(ca.count = proxy.roots.len(), "front-proxy settings loaded");
                feed.replace(proxy);
            }
            Ok(None) => return,
            Err(error) => warn!(
                error = %error,
                "failed to watch ConfigMap {NAMESPACE}/{NAME}: bind the Role \
                 extension-apiserver-authentication-reader to the operator"
            ),
        }
    }
}
