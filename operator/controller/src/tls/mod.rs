//! How is TLS set up? With certificates from a Secret, reloaded without a restart, and a server that presents
//! them.
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

pub use ensure::{CertificateNames, Ensured, Held, ensure_certificates};
pub use expiry::register_expiry;
pub use material::TlsMaterial;
pub use server::{ClientAuth, serve};
pub use source::{TlsFeed, TlsSource};

/// An error with a certificate, a Secret or a listener.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A certificate, key or bundle is not usable.
    #[error(
        "{what} is not usable: {why}; delete the Secret to have it recreated, or correct it where it is made \
         by hand"
    )]
    Unusable {
        /// What, such as `tls.crt`.
        what: &'static str,
        /// Why.
        why: String,
    },
    /// A certificate could not be created.
    #[error("failed to create the certificate {0}: {1}")]
    Issue(&'static str, rcgen::Error),
    /// No random bytes available.
    #[error("the operating system gave no random bytes")]
    Random,
    /// A request to the API server failed.
    #[error(
        "Secret {secret} could not be {verb}: {why}; check that the API server answers and that the \
         operator's Role allows it"
    )]
    Api {
        /// Name.
        secret: String,
        /// What was tried, such as `read`.
        verb: &'static str,
        /// The error of the API server or of the connection.
        why: String,
    },
    /// Other replicas kept changing the Secret.
    #[error(
        "Secret {0} was changed by another replica on each attempt to write it; retrying at the next pass"
    )]
    Contended(String),
    /// TLS cannot be configured.
    #[error("failed to configure TLS: {0}")]
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

/// The error of the API server or of the connection, as a message.
pub(crate) fn words(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}
