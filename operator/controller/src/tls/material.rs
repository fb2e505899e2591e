//! What does a server present? A certificate chain, its key and the CA bundle for clients.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use rustls::sign::CertifiedKey;

use super::{TlsError, parse, provider};

/// A checked certificate with its key and the CA bundle. Its `Debug` shows no key.
#[derive(Debug)]
pub struct TlsMaterial {
    certified: Arc<CertifiedKey>,
    ca_bundle: Arc<str>,
    not_after: Timestamp,
}

impl TlsMaterial {
    /// Parses a PEM chain (leaf first), its PEM key and the PEM bundle of the CAs.
    ///
    /// # Errors If one of them is invalid, or the key does not belong to the leaf.
    pub fn from_pem(chain: &[u8], key: &[u8], ca_bundle: &[u8]) -> Result<Self, TlsError> {
        let chain = parse::certificates("tls.crt", chain)?;
        let leaf = chain.first().ok_or_else(|| parse::unusable("tls.crt", "it is empty"))?;
        let not_after = parse::facts("tls.crt", leaf)?.not_after;
        let key = parse::private_key("tls.key", key)?;
        parse::certificates("ca.crt", ca_bundle)?;
        let ca_bundle = std::str::from_utf8(ca_bundle).map_err(|e| parse::unusable("ca.crt", e))?.into();
        let certified =
            CertifiedKey::from_der(chain, key, &provider()).map_err(|e| parse::unusable("tls.key", e))?;
        Ok(Self { certified: Arc::new(certified), ca_bundle, not_after })
    }

    /// Parses a Secret of type `kubernetes.io/tls` with an additional `ca.crt`.
    ///
    /// # Errors If a key is missing or invalid.
    pub fn from_secret(secret: &Secret) -> Result<Self, TlsError> {
        let field = |name: &'static str| {
            let data = secret.data.as_ref().and_then(|d| d.get(name));
            data.map(|d| d.0.as_slice()).ok_or_else(|| parse::unusable(name, "missing in the Secret"))
        };
        Self::from_pem(field("tls.crt")?, field("tls.key")?, field("ca.crt")?)
    }

    /// The CA bundle for clients, PEM.
    #[must_use]
    pub fn ca_bundle(&self) -> Arc<str> {
        Arc::clone(&self.ca_bundle)
    }

    /// When the leaf expires.
    #[must_use]
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    pub(super) fn certified(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.certified)
    }

    /// Whether both present the same leaf and bundle.
    pub(super) fn same_as(&self, other: &Self) -> bool {
        self.certified.cert == other.certified.cert && self.ca_bundle == other.ca_bundle
    }
}
