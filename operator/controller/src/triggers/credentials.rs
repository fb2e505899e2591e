//! Which token and which CA hold? Those of a Secret of the administrator: Alertmanager sends the token or a
//! certificate of the CA; Prometheus receives the token and is verified with the CA. Followed, so that a new
//! one holds at once.

use futures::TryStreamExt;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use kube_runtime::{WatchStreamExt, watcher};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio::sync::watch;

use crate::tls::ClientAuth;

/// Key of the Secret with the bearer token.
const TOKEN: &str = "token";
/// Key of the Secret with the CAs of client certificates, PEM.
const CA: &str = "ca.crt";
/// Random bytes of a token that we make.
const TOKEN_BYTES: usize = 32;

/// The newest credentials; clones see the same.
#[derive(Clone, Debug)]
pub struct Credentials {
    token: watch::Receiver<Option<String>>,
    roots: watch::Receiver<Vec<CertificateDer<'static>>>,
}

impl Credentials {
    /// Follows the Secret. Must be called inside a tokio runtime.
    #[must_use]
    pub fn watch(client: Client, namespace: &str, name: &str) -> Self {
        let (token, token_seen) = watch::channel(None);
        let (roots, roots_seen) = watch::channel(Vec::new());
        let api: Api<Secret> = Api::namespaced(client, namespace);
        let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
        tokio::spawn(async move {
            let mut events = std::pin::pin!(watcher::watcher(api, config).default_backoff());
            loop {
                match events.try_next().await {
                    Ok(Some(watcher::Event::Apply(secret) | watcher::Event::InitApply(secret))) => {
                        token.send_replace(self::token(&secret));
                        roots.send_replace(self::roots(&secret));
                    }
                    // Without the Secret nobody may tell.
                    Ok(Some(watcher::Event::Delete(_))) => {
                        token.send_replace(None);
                        roots.send_replace(Vec::new());
                    }
                    Ok(Some(_)) => {}
                    Ok(None) => return,
                    Err(error) => {
                        tracing::warn!(%error, "failed to watch the Secret with the token; retrying")
                    }
                }
            }
        });
        Self { token: token_seen, roots: roots_seen }
    }

    /// The token, if there is one.
    #[must_use]
    pub fn token(&self) -> Option<String> {
        self.token.borrow().clone()
    }

    /// The CAs, if there are any.
    #[must_use]
    pub fn roots(&self) -> Vec<CertificateDer<'static>> {
        self.roots.borrow().clone()
    }

    /// Asks clients for a certificate of the CAs, while there are any.
    #[must_use]
    pub fn client_auth(&self) -> ClientAuth {
        ClientAuth::new(self.roots.clone())
    }

    #[cfg(test)]
    pub(crate) fn fixed(token: &str) -> Self {
        Self { token: watch::channel(Some(token.to_owned())).1, roots: watch::channel(Vec::new()).1 }
    }

    #[cfg(test)]
    pub(super) fn none() -> Self {
        Self { token: watch::channel(None).1, roots: watch::channel(Vec::new()).1 }
    }
}

fn field<'a>(secret: &'a Secret, key: &str) -> Option<&'a ByteString> {
    secret.data.as_ref()?.get(key)
}

/// A token that is too short to be one is none.
fn token(secret: &Secret) -> Option<String> {
    let text = std::str::from_utf8(&field(secret, TOKEN)?.0).ok()?.trim().to_owned();
    if text.len() < 16 {
        tracing::error!("the token in the Secret has fewer than 16 characters; it is not used");
        return None;
    }
    Some(text)
}

fn roots(secret: &Secret) -> Vec<CertificateDer<'static>> {
    let Some(pem) = field(secret, CA) else { return Vec::new() };
    match CertificateDer::pem_slice_iter(&pem.0).collect::<Result<Vec<_>, _>>() {
        Ok(roots) => roots,
        Err(error) => {
            tracing::error!(
                %error,
                "invalid ca.crt in Secret; client certificate authentication is disabled"
            );
            Vec::new()
        }
    }
}

/// Makes the Secret with a random token where it is not there.
///
/// # Errors
/// When the API server refuses.
pub async fn ensure(client: &Client, namespace: &str, name: &str) -> anyhow::Result<()> {
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let mut random = [0u8; TOKEN_BYTES];
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    provider
        .secure_random
        .fill(&mut random)
        .map_err(|_| anyhow::anyhow!("the operating system gave no random bytes"))?;
    let token = random.iter().map(|b| format!("{b:02x}")).collect::<String>().into_bytes();
    let secret = Secret {
        metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
        type_: Some("Opaque".into()),
        data: Some([(TOKEN.to_owned(), ByteString(token))].into()),
        ..Secret::default()
    };
    match api.create(&PostParams::default(), &secret).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(answer)) if answer.code == 409 => Ok(()),
        Err(error) => Err(anyhow::anyhow!(
            "Secret {namespace}/{name} could not be created: {}",
            crate::tls::words(&error)
        )),
    }
}
