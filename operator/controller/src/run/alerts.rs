//! How does the leader hear of what others measure? A server for Alertmanager, on a port of its own, and
//! questions to a Prometheus; each where the administrator turned it on.

use std::sync::Arc;

use anyhow::Context as _;
use kube::Client;
use tokio::task::JoinSet;

use super::listen;
use crate::policies;
use crate::policies::Rechecks;
use crate::server::Limits;
use crate::settings::RunSettings;
use crate::tls::TlsSource;
use crate::triggers::Nowhere;
use crate::triggers::credentials::{self, Credentials};
use crate::triggers::prometheus::{self, Prometheus};
use crate::triggers::receiver::{self, Receiver};

/// Starts the alert receiver, and to ask Prometheus, each where it is turned on.
///
/// # Errors
/// When the Secret with the receiver's token can be neither made nor found.
pub async fn start(
    client: &Client,
    settings: &RunSettings,
    context: Arc<policies::Context>,
    server: (&TlsSource, Limits),
    tasks: &mut JoinSet<anyhow::Result<()>>,
) -> anyhow::Result<()> {
    ask(client, settings, context.clone(), tasks);
    serve(client, settings, context, server, tasks).await
}

async fn serve(
    client: &Client,
    settings: &RunSettings,
    context: Arc<policies::Context>,
    (tls, limits): (&TlsSource, Limits),
    tasks: &mut JoinSet<anyhow::Result<()>>,
) -> anyhow::Result<()> {
    if settings.alerts_secret.is_empty() {
        return Ok(());
    }
    credentials::ensure(client, &settings.namespace, &settings.alerts_secret)
        .await
        .context("the alert receiver has no token")?;
    let credentials = Credentials::watch(client.clone(), &settings.namespace, &settings.alerts_secret);
    let client_auth = credentials.client_auth();
    let nowhere = Nowhere {
        events: Some((client.clone(), context.events.clone())),
        namespace: settings.namespace.as_str().into(),
        deployment: format!("{}-operator", settings.name).into(),
        metrics: context.metrics.clone(),
    };
    let router = receiver::router(Receiver {
        credentials,
        memory: context.triggers.memory.clone(),
        nowhere,
        metrics: context.metrics.clone(),
        recheck: Arc::new(Rechecks(context)),
    });
    tasks.spawn(listen(settings.alerts_port, tls.clone(), router, Some(client_auth), limits));
    Ok(())
}

fn ask(
    client: &Client,
    settings: &RunSettings,
    context: Arc<policies::Context>,
    tasks: &mut JoinSet<anyhow::Result<()>>,
) {
    if settings.prometheus_url.is_empty() {
        return;
    }
    let secret = &settings.prometheus_secret;
    let credentials =
        (!secret.is_empty()).then(|| Credentials::watch(client.clone(), &settings.namespace, secret));
    let server = Prometheus { url: settings.prometheus_url.trim_end_matches('/').to_owned(), credentials };
    let (policies, memory) = (context.policies.clone(), context.triggers.memory.clone());
    tasks.spawn(prometheus::ask_forever(server, policies, memory, Arc::new(Rechecks(context))));
}
