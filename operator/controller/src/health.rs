//! Is this process alive, and is it ready? Readiness has named gates, so that "not ready" says what is
//! missing.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use anyhow::Context;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use prometheus_client::registry::Registry;

use crate::server::{self, Limits};

/// The gates of readiness; all must be open.
#[derive(Clone, Default)]
pub struct Gates(Arc<Mutex<BTreeMap<&'static str, bool>>>);

impl Gates {
    /// Gates with these names, all closed.
    #[must_use]
    pub fn new(names: &[&'static str]) -> Self {
        Self(Arc::new(Mutex::new(names.iter().map(|n| (*n, false)).collect())))
    }

    /// Opens or closes a gate.
    pub fn set(&self, name: &'static str, open: bool) {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(name, open);
    }

    /// Whether all gates are open, and the state of each, a line a gate.
    #[must_use]
    pub fn report(&self) -> (bool, String) {
        let gates = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let lines = gates
            .iter()
            .map(|(name, open)| format!("[{}] {name}\n", if *open { '+' } else { '-' }))
            .collect();
        (gates.values().all(|open| *open), lines)
    }
}

/// What the health server shows.
#[derive(Clone)]
pub struct Health {
    /// The gates of readiness.
    pub gates: Gates,
    /// The metrics.
    pub registry: Arc<Registry>,
}

/// The router with `/livez`, `/readyz` and `/metrics`.
pub fn router(health: Health) -> axum::Router {
    axum::Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(health)
}

async fn ready(State(health): State<Health>) -> (StatusCode, String) {
    let (ready, lines) = health.gates.report();
    (if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, lines)
}

async fn metrics(State(health): State<Health>) -> (StatusCode, [(&'static str, &'static str); 1], String) {
    let mut text = String::new();
    let code = match prometheus_client::encoding::text::encode(&mut text, &health.registry) {
        Ok(()) => StatusCode::OK,
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    (code, [("content-type", "application/openmetrics-text; version=1.0.0; charset=utf-8")], text)
}

/// Serves the router on all addresses within `limits` until the process ends.
///
/// # Errors
/// When the port cannot be bound.
pub async fn serve(port: u16, health: Health, limits: Limits) -> anyhow::Result<()> {
    let listener = server::bind(port).context("failed to serve health and metrics")?;
    match server::serve_plain(listener, router(health), limits).await {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_only_when_every_gate_is_open() {
        let gates = Gates::new(&["pods", "tls"]);
        gates.set("pods", true);
        assert_eq!(gates.report(), (false, "[+] pods\n[-] tls\n".into()));
        gates.set("tls", true);
        assert!(gates.report().0);
    }
}
