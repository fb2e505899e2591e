//! Who proves to be whom? Certificates from a Secret, reloaded without a restart, and the server that
//! presents them.
//!
//! ```text
//! leader: ensure_certificates ── plan (pure) ── issue ──► Secret fleetprof-ca, Secret fleetprof-tls
//!                                                                                 │ watch
//! every replica: TlsSource ◄── TlsFeed ◄──────────────────────────────────────────┘
//!                    └──► serve: each new handshake takes the newest certificate; open connections live on
//! ```

mod ensure;
mod expiry;
mod issue;
mod material;
mod parse;
mod plan;
mod server;
mod source;
mod store;
#[cfg(test)]
mod tests;

pub use ensure::{CertificateNames, Ensured, ensure_certificates};
pub use expiry::register_expiry;
pub use material::TlsMaterial;
pub use server::{ClientAuth, serve};
pub use source::{TlsFeed, TlsSource};

/// What went wrong with a certificate, a Secret or a listener.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A certificate, key or bundle cannot be used.
    #[error(
        "{what} cannot be used: {why}; delete the Secret to have it made anew, or correct it where it is \
         made by hand"
    )]
    Unusable {
        /// What, such as `tls.crt`.
        what: &'static str,
        /// Why.
        why: String,
    },
    /// A certificate could not be made.
    #[error("the certificate {0} could not be made: {1}")]
    Issue(&'static str, rcgen::Error),
    /// Random bytes could not be had.
    #[error("the operating system gave no random bytes")]
    Random,
    /// The API server refused or could not be reached.
    #[error(
        "Secret {secret} could not be {verb}: {why}; check that the API server answers and that the \
         operator's Role allows it"
    )]
    Api {
        /// Name.
        secret: String,
        /// What was tried, such as `read`.
        verb: &'static str,
        /// What the API server said, or why it could not be asked.
        why: String,
    },
    /// Other replicas kept changing the Secret.
    #[error(
        "Secret {0} was changed by another replica each time it was written; it is tried again at the next \
         pass"
    )]
    Contended(String),
    /// TLS cannot be configured.
    #[error("TLS cannot be configured: {0}")]
    Config(String),
    /// The listener is gone.
    #[error("the listener on {0} failed: {1}")]
    Listener(String, std::io::Error),
}

/// The one crypto provider of the operator.
fn provider() -> std::sync::Arc<rustls::crypto::CryptoProvider> {
    static PROVIDER: std::sync::LazyLock<std::sync::Arc<rustls::crypto::CryptoProvider>> =
        std::sync::LazyLock::new(|| std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    std::sync::Arc::clone(&PROVIDER)
}

/// What the API server said, or why it could not be asked, in words for a person.
pub(crate) fn words(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}
