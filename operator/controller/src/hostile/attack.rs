//! What does a pod without rights send?

use std::io::Result;
use std::time::Duration;

use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;

use super::client::{Stream, Tls, dial, post, read_answer, review};
use super::victims::Victim;

/// A way to use up a server's memory or places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attack {
    /// Heads of requests that do not end.
    Heads,
    /// The preface of HTTP/2, and frames.
    Http2,
    /// Bodies that do not end, of three sizes.
    Bodies,
    /// Small bodies that become large once they are read.
    Values,
    /// Whole requests with pods of owners that do not exist, with long names.
    Owners,
    /// Whole requests whose answers would be as long, which nobody takes.
    Echoes,
    /// Connections that are kept after an answer.
    Idle,
    /// Connections without a handshake.
    Silent,
}

pub(super) const ATTACKS: [Attack; 8] = [
    Attack::Heads,
    Attack::Http2,
    Attack::Bodies,
    Attack::Values,
    Attack::Owners,
    Attack::Echoes,
    Attack::Idle,
    Attack::Silent,
];

/// Pods that attack together.
const PODS: u8 = 32;
/// How soon a connection that was closed is opened again.
const AGAIN: Duration = Duration::from_millis(200);
/// Connections that are opened again a second, at most. Where kube-proxy has left its rules the kernel keeps each in
/// its table of connections for two minutes after its end, and drops what comes once that is full (262,144): a
/// client that belongs there would then wait for the kernel of this machine and not for the server.
const AGAIN_EACH_SECOND: u32 = 1_000;

impl Attack {
    pub(super) fn about(self) -> &'static str {
        match self {
            Self::Heads => "1,024 connections, each with a header line of 400 KB that does not end",
            Self::Http2 => "256 connections with HTTP/2, streams and half-sent bodies",
            Self::Bodies => "120 half-sent bodies of 8 MiB, 4 MiB and 8 KiB",
            Self::Values => "64 bodies of 3 MiB of nested lists",
            Self::Owners => "whole requests of 3 MiB, each of another owner, on 16 connections",
            Self::Echoes => "192 whole requests of 3 MiB whose answers are as large and not taken",
            Self::Idle => "2,048 connections that ask once and stay",
            Self::Silent => "2,048 connections that say nothing",
        }
    }

    const fn connections(self) -> usize {
        match self {
            Self::Heads => 1_024,
            Self::Http2 => 256,
            Self::Bodies => 120,
            Self::Values => 64,
            Self::Owners => 16,
            Self::Echoes => 192,
            Self::Idle | Self::Silent => 2_048,
        }
    }

    /// How long an attacker waits before it opens a connection again.
    fn pause(self) -> Duration {
        AGAIN.max(Duration::from_secs(1) * self.connections() as u32 / AGAIN_EACH_SECOND)
    }

    /// All connections at once, each again when it is closed, until the time is over.
    pub(super) async fn run(self, victim: Victim, tls: Tls, port: u16, time: Duration) {
        let mut tasks = JoinSet::new();
        for n in 0..self.connections() {
            let tls = tls.clone();
            tasks.spawn(async move {
                // From 127.0.0.2 on: 127.0.0.1 belongs there.
                let from = [127, 0, 0, 2 + (n % usize::from(PODS)) as u8];
                loop {
                    let _ = self.once(victim, &tls, from, port, n).await;
                    tokio::time::sleep(self.pause()).await;
                }
            });
        }
        tokio::time::sleep(time).await;
    }

    async fn once(self, victim: Victim, tls: &Tls, from: [u8; 4], port: u16, n: usize) -> Result<()> {
        if self == Self::Silent {
            let stream = dial(from, port).await?;
            return stream.readable().await;
        }
        let mut stream = tls.connect(from, port).await?;
        match self {
            Self::Heads => {
                stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nx: ").await?;
                stream.write_all(&vec![b'a'; 400 << 10]).await?;
            }
            Self::Http2 => stream.write_all(&http2()).await?,
            Self::Bodies => {
                let size = [8 << 20, 4 << 20, 8 << 10][n % 3];
                stream.write_all(head(path(victim), size).as_bytes()).await?;
                stream.write_all(&vec![b'a'; size - 100]).await?;
            }
            Self::Values => {
                let lists = "[0,".repeat(1 << 20);
                stream.write_all(post(path(victim), "", &lists).as_bytes()).await?;
            }
            Self::Owners => {
                for asked in 0.. {
                    let uid = format!("{n}-{asked}-{}", "x".repeat(3 << 20));
                    stream.write_all(post(path(victim), "", &owned(&uid)).as_bytes()).await?;
                    read_answer(&mut stream).await?;
                }
            }
            Self::Echoes => {
                stream.write_all(post(path(victim), "", &echoing(n)).as_bytes()).await?;
                std::future::pending::<()>().await;
            }
            Self::Idle => {
                let body = if victim == Victim::Webhook { review() } else { "{}".to_owned() };
                stream.write_all(post(path(victim), "", &body).as_bytes()).await?;
                read_answer(&mut stream).await?;
            }
            Self::Silent => {}
        }
        until_closed(&mut stream).await
    }
}

/// A path that reads a body of anybody.
fn path(victim: Victim) -> &'static str {
    match victim {
        Victim::Gateway => "/v1/enroll",
        Victim::ReadApi => "/apis",
        Victim::Webhook => "/mutate/pods",
        Victim::Alerts => "/v1/alerts",
    }
}

/// A review of a pod whose controller has this uid.
fn owned(uid: &str) -> String {
    let owner =
        json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "a-1", "uid": uid, "controller": true});
    let spec = json!({"containers": [{"name": "a", "securityContext": {"runAsUser": 1000}}]});
    let pod = json!({"metadata": {"generateName": "a-1-", "ownerReferences": [owner]}, "spec": spec});
    json!({"request": {"uid": "u-1", "operation": "CREATE", "namespace": "shop", "object": pod}}).to_string()
}

/// A review of which the answer might repeat a long text.
fn echoing(n: usize) -> String {
    let long = "x".repeat(3 << 20);
    let request = match n % 3 {
        0 => json!({"uid": long, "operation": "CREATE"}),
        1 => json!({"uid": "u-1", "operation": long}),
        _ => {
            let container = json!({"name": long, "securityContext": {"runAsUser": 1000}});
            let pod = json!({"metadata": {}, "spec": {"containers": [container]}});
            json!({"uid": "u-1", "operation": "CREATE", "namespace": "shop", "object": pod})
        }
    };
    json!({"request": request}).to_string()
}

fn head(path: &str, length: usize) -> String {
    format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n")
}

/// The preface, settings, and frames of DATA on many streams.
fn http2() -> Vec<u8> {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    for stream in 0..100_u32 {
        bytes.extend([0, 0x10, 0, 0, 0]);
        bytes.extend((2 * stream + 1).to_be_bytes());
        bytes.extend([0; 0x1000]);
    }
    bytes
}

/// Keeps the connection as long as the server does, and reads nothing that it says.
async fn until_closed(stream: &mut Stream) -> Result<()> {
    use tokio::io::AsyncReadExt;
    let mut part = [0; 1024];
    while stream.read(&mut part).await? > 0 {}
    Ok(())
}
