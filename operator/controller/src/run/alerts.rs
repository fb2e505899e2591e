//! How does the leader hear of alerts? A server of its own, on a port of its own, where the administrator turned it on.

use std::sync::Arc;

use anyhow::Context as _;
use kube::Client;
use tokio::task::JoinSet;

use super::listen;
use crate::policies;
use crate::settings::RunSettings;
use crate::tls::TlsSource;
use crate::triggers::OfAlerts;
use crate::triggers::credentials::{self, Credentials};
use crate::triggers::receiver::{self, Receiver};

/// Starts the alert receiver, unless it is off.
///
/// # Errors
/// When the Secret with its token can be neither made nor found.
pub async fn serve(
    client: &Client,
    settings: &RunSettings,
    context: Arc<policies::Context>,
    tls: &TlsSource,
    tasks: &mut JoinSet<anyhow::Result<()>>,
) -> anyhow::Result<()> {
    if settings.alerts_secret.is_empty() {
        return Ok(());
    }
    credentials::ensure(client, &settings.namespace, &settings.alerts_secret).await.context("the alert receiver has no token")?;
    let credentials = Credentials::watch(client.clone(), &settings.namespace, &settings.alerts_secret);
    let client_auth = credentials.client_auth();
    let router = receiver::router(Receiver {
        credentials,
        triggers: context.triggers.clone(),
        metrics: context.metrics.clone(),
        look: Arc::new(OfAlerts(context)),
    });
    tasks.spawn(listen(settings.alerts_port, tls.clone(), router, Some(client_auth)));
    Ok(())
}
