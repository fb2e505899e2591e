//! Is a receiver told of the end of a session although it is down and the operator is replaced meanwhile? On a real
//! API server; the session ends because its pod does not exist.
#![allow(missing_docs, clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Result, ensure};
use fleetprof_tests::kubelet::Place;
use fleetprof_tests::operator::Operator;
use fleetprof_tests::people::{create, object};
use fleetprof_tests::{api_server, run, wait_for};
use serde_json::{Value, json};

const KEY: &str = "a-key-that-both-of-them-know";

/// One request: its headers in lower case, and its body.
#[derive(Clone, Debug, Default)]
struct Request {
    headers: Vec<(String, String)>,
    body: String,
}

impl Request {
    fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    fn read(stream: &TcpStream) -> std::io::Result<Self> {
        let (mut reader, mut request) = (BufReader::new(stream), Self::default());
        let mut line = String::new();
        while reader.read_line(&mut line)? > 2 {
            if let Some((name, value)) = line.split_once(':') {
                request.headers.push((name.to_lowercase(), value.trim().to_owned()));
            }
            line.clear();
        }
        let mut body = vec![0; request.header("content-length").parse().unwrap_or(0)];
        reader.read_exact(&mut body)?;
        request.body = String::from_utf8_lossy(&body).into_owned();
        Ok(request)
    }
}

/// A receiver that takes nothing until it is up.
#[derive(Clone, Default)]
struct Receiver {
    is_up: Arc<AtomicBool>,
    refused: Arc<Mutex<Vec<Request>>>,
    accepted: Arc<Mutex<Vec<Request>>>,
}

impl Receiver {
    fn serve(&self) -> Result<String> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let url = format!("http://{}/hook", listener.local_addr()?);
        let receiver = self.clone();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let Ok(request) = Request::read(&stream) else { continue };
                let (list, answer) = match receiver.is_up.load(Ordering::SeqCst) {
                    true => (&receiver.accepted, "204 No Content"),
                    false => (&receiver.refused, "503 Service Unavailable"),
                };
                list.lock().unwrap().push(request);
                let _ = write!(stream, "HTTP/1.1 {answer}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            }
        });
        Ok(url)
    }
}

/// The signature as another program makes it.
fn signature(request: &Request) -> Result<String> {
    let (id, second) = (request.header("webhook-id"), request.header("webhook-timestamp"));
    let program = "import base64, hashlib, hmac, sys\n\
                   key, signed = sys.argv[1].encode(), sys.argv[2].encode()\n\
                   print('v1,' + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode())";
    let signed = format!("{id}.{second}.{}", request.body);
    Ok(run("python3", &["-c", program, KEY, &signed])?.trim().to_owned())
}

/// The condition `Notified` of the session, as status and reason.
async fn notified(place: &Place) -> Result<Option<(String, String)>> {
    let session = place.ours("ProfileSession").get("now").await?;
    let conditions = session.data["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let found = conditions.iter().find(|condition| condition["type"] == "Notified");
    let text = |condition: &Value, key: &str| condition[key].as_str().unwrap_or_default().to_owned();
    Ok(found.map(|condition| (text(condition, "status"), text(condition, "reason"))))
}

async fn until(place: &Place, status: &str, reason: &str) -> Result<()> {
    wait_for(&format!("Notified={status} {reason}"), Duration::from_secs(60), || async {
        Ok((notified(place).await? == Some((status.into(), reason.into()))).then_some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_was_down_is_told_by_the_next_leader_with_the_same_id() -> Result<()> {
    let kubeconfig = api_server()?;
    let (receiver, folder) = (Receiver::default(), tempfile::tempdir()?);
    std::fs::write(folder.path().join("signing-key"), KEY)?;
    let config = folder.path().join("config.yaml");
    let settings = json!({"notifications": {"chat": {
        "url": receiver.serve()?, "phases": ["Failed"], "credentials": folder.path()}}});
    std::fs::write(&config, settings.to_string())?;
    let flags = ["--config", config.to_str().unwrap()];
    let first = Operator::start(&kubeconfig, &[], &flags).await?;
    let place = Place::new(&kubeconfig, "notifications").await?;
    let me = place.kubectl(&["auth", "whoami", "-o", "jsonpath={.status.userInfo.username}"])?;
    let spec = json!({"target": {"pods": ["gone"]}, "duration": "10s",
        "requestedBy": {"username": me, "groups": ["system:masters"]}});
    create(&place.client, &object("ProfileSession", &place.namespace, "now", &spec), false).await?;
    until(&place, "False", "NotificationFailed").await?;
    let session = place.ours("ProfileSession").get("now").await?;
    ensure!(session.data["status"]["pendingNotifications"] == json!(["chat"]), "{session:#?}");
    drop(first);

    receiver.is_up.store(true, Ordering::SeqCst);
    let second = Operator::start(&kubeconfig, &[], &flags).await?;
    until(&place, "True", "Notified").await?;
    let accepted = receiver.accepted.lock().unwrap().clone();
    let [request] = accepted.as_slice() else { anyhow::bail!("not once: {accepted:#?}") };
    ensure!(request.header("webhook-signature") == signature(request)?, "{request:#?}");
    let refused = receiver.refused.lock().unwrap().clone();
    let same = |other: &Request| other.header("webhook-id") == request.header("webhook-id");
    ensure!(!refused.is_empty() && refused.iter().all(same), "{refused:#?}");
    let event: Value = serde_json::from_str(&request.body)?;
    let uid = session.metadata.uid.clone().unwrap_or_default();
    ensure!(event["specversion"] == "1.0" && event["id"] == format!("{uid}-ended"), "{event:#}");
    ensure!(event["data"]["phase"] == "Failed" && event["data"]["session"] == "now", "{event:#}");
    let sent = second.counts(r#"fleetprof_notifications_total{receiver="chat",outcome="sent"}"#)?;
    ensure!(sent == 1, "{sent} were sent");
    let session = place.ours("ProfileSession").get("now").await?;
    ensure!(session.data["status"].get("pendingNotifications").is_none(), "{session:#?}");
    place.forget()
}
