use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use tokio::net::TcpListener;

use super::*;

const MIB: u64 = 1 << 20;

/// Requests that a server heard, with the last `Authorization`.
#[derive(Default)]
struct Heard {
    requests: AtomicUsize,
    authorization: Mutex<String>,
}

impl Heard {
    fn count(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

/// Answers by the first digit of the build id.
async fn answer(State(heard): State<Arc<Heard>>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    heard.requests.fetch_add(1, Ordering::SeqCst);
    let said = headers.get(AUTHORIZATION).map(|value| value.to_str().unwrap().to_owned());
    *heard.authorization.lock().unwrap() = said.unwrap_or_default();
    match id.as_bytes()[0] {
        b'0' => StatusCode::NOT_FOUND.into_response(),
        b'1' => (StatusCode::INTERNAL_SERVER_ERROR, "s3cr3t").into_response(),
        b'2' => Redirect::temporary("http://127.0.0.1:1/elsewhere").into_response(),
        b'3' => vec![7; 40 << 20].into_response(),
        // Without a length, and longer than there is room for.
        b'4' => Body::from_stream(futures::stream::iter((0..50).map(|_| Ok::<_, String>(vec![7; 1 << 20]))))
            .into_response(),
        _ => {
            tokio::time::sleep(Duration::from_millis(50)).await;
            id.into_bytes().into_response()
        }
    }
}

async fn server() -> (String, Arc<Heard>) {
    let heard = Arc::<Heard>::default();
    let router = Router::new().route("/d/buildid/{id}/debuginfo", get(answer)).with_state(heard.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/d/", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, heard)
}

async fn client_of(folder: &std::path::Path) -> (Arc<Debuginfod>, Arc<Heard>) {
    let (url, heard) = server().await;
    let credentials = folder.join("credentials");
    std::fs::create_dir(&credentials).unwrap();
    std::fs::write(credentials.join("token"), "s3cr3t").unwrap();
    let config = Server { url, credentials: Some(credentials), cache_size: 64 * MIB };
    (Arc::new(Debuginfod::new(&config, folder.join("symbols"))), heard)
}

#[tokio::test]
async fn a_file_is_asked_for_once_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let (client, heard) = client_of(folder.path()).await;
    let (one, two) = tokio::join!(client.get("abcdef01", MIB).1, client.get("abcdef01", MIB).1);
    let path = one.unwrap().unwrap();
    assert_eq!((two.unwrap().as_ref(), heard.count()), (Some(&path), 1));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "abcdef01");
    assert_eq!(*heard.authorization.lock().unwrap(), "Bearer s3cr3t");
    assert!(client.known().under_way.is_empty(), "nothing is kept of what is done");
    assert_eq!(client.get("abcdef01", MIB).1.await.unwrap(), Some(path.clone()));
    assert_eq!(client.useless("abcdef01"), None);
    client.discard("abcdef01", "it is of no use".to_owned());
    assert!(!path.exists() && !client.may_have("abcdef01"), "a file of no use is not fetched again");
    let why = Some("it is of no use".to_owned());
    assert_eq!(client.useless("abcdef01"), why, "and it is known why");
    assert_eq!((client.get("abcdef01", MIB).1.await.err(), heard.count()), (why, 1));
}

#[tokio::test]
async fn what_the_server_does_not_know_is_not_asked_for_again() {
    let folder = tempfile::tempdir().unwrap();
    let (client, heard) = client_of(folder.path()).await;
    assert!(client.may_have("0bcdef01"));
    for _ in 0..3 {
        assert_eq!(client.get("0bcdef01", MIB).1.await, Ok(None));
    }
    assert_eq!(heard.count(), 1);
    assert!(!client.may_have("0bcdef01") && client.may_have("abcdef01"));
}

#[tokio::test]
async fn a_server_that_fails_is_left_alone_for_a_while() {
    for (id, word) in [("1bcdef01", "it answered 500"), ("2bcdef01", "it answered 307")] {
        let folder = tempfile::tempdir().unwrap();
        let (client, heard) = client_of(folder.path()).await;
        client.get("abcdef01", MIB).1.await.unwrap();
        let why = client.get(id, MIB).1.await.unwrap_err();
        assert!(why.contains(word) && !why.contains("s3cr3t"), "{why}");
        assert_eq!(client.get("bbcdef01", MIB).1.await, Err(why.clone()), "nothing else is asked either");
        assert_eq!((heard.count(), client.failure()), (2, Some(why)));
        assert!(!client.may_have("bbcdef01"));
        assert!(client.may_have("abcdef01"), "what is in the cache can be used");
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let config = Server { url: "http://127.0.0.1:1".into(), credentials: None, cache_size: 64 * MIB };
    let client = Arc::new(Debuginfod::new(&config, folder.path().join("symbols")));
    let why = client.get("abcdef01", MIB).1.await.unwrap_err();
    assert!(why.starts_with("the debuginfod server failed: ") && why.contains("onnect"), "{why}");
}

#[tokio::test]
async fn what_is_too_large_is_not_kept() {
    let folder = tempfile::tempdir().unwrap();
    let (client, heard) = client_of(folder.path()).await;
    for (id, word) in
        [("3bcdef01", "it has 40 MiB, and there is room for 32 MiB"), ("4bcdef01", "could not be stored")]
    {
        let why = client.get(id, u64::MAX).1.await.unwrap_err();
        assert!(why.contains(word), "{why}");
        assert_eq!(client.get(id, u64::MAX).1.await, Err(why.clone()), "it is not fetched again");
        assert_eq!(client.useless(id), Some(why));
    }
    assert_eq!(heard.count(), 2);
    assert_eq!(std::fs::read_dir(folder.path().join("symbols")).unwrap().count(), 0);
    let why = client.get("abcdef01", 3).1.await.unwrap_err();
    assert!(why.contains("there is room for 0 MiB"), "the volume is nearly full: {why}");
}

#[tokio::test]
async fn a_download_goes_on_though_nobody_waits_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let (client, _) = client_of(folder.path()).await;
    drop(client.get("abcdef01", MIB));
    let start = Instant::now();
    while client.cache.get("abcdef01").is_none() {
        assert!(start.elapsed() < Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
