//! How many bytes of a list of large objects are held, and is it still complete?

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::{StreamExt, TryStreamExt};
use http_body_util::StreamBody;
use hyper::body::Frame;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::ListParams;
use kube::{Api, Client};
use kube_runtime::watcher::Event;
use serde_json::json;
use tower::service_fn;

use super::*;
use crate::watched::{Guarded, events, whole as keep_whole};

/// Bytes of a piece of an answer.
const PIECE: usize = 64 << 10;

/// What was asked of an API server.
#[derive(Default)]
struct Seen {
    requests: AtomicUsize,
    /// Most bytes that were read of one answer.
    most: AtomicUsize,
    /// Bytes that were read of all answers.
    sum: AtomicUsize,
}

/// A client of an API server with objects of so many bytes, each named by its place.
fn client(sizes: Vec<usize>, seen: Arc<Seen>) -> Client {
    let sizes = Arc::new(sizes);
    let service = service_fn(move |request: Request<Body>| {
        let (sizes, seen) = (sizes.clone(), seen.clone());
        async move {
            seen.requests.fetch_add(1, Ordering::SeqCst);
            Ok::<_, BoxError>(Response::new(page(&request, &sizes, seen)))
        }
    });
    Client::new(Lists.layer(service), "default")
}

fn page(
    request: &Request<Body>,
    sizes: &[usize],
    seen: Arc<Seen>,
) -> impl hyper::body::Body<Data = Bytes, Error = Infallible> + use<> {
    let query: HashMap<_, _> =
        form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes()).into_owned().collect();
    let number = |name: &str| query.get(name).and_then(|n| n.parse::<usize>().ok());
    let text = if query.contains_key("watch") {
        String::new()
    } else {
        let (from, limit) = (number("continue").unwrap_or(0), number("limit").unwrap_or(usize::MAX));
        let to = from.saturating_add(limit).min(sizes.len());
        let object = |n: usize| json!({"metadata": {"name": n.to_string(), "uid": n.to_string(), "resourceVersion": "7"}, "data": {"v": "x".repeat(sizes[n])}});
        let items: Vec<_> = (from..to).map(object).collect();
        let next = if to < sizes.len() { to.to_string() } else { String::new() };
        json!({"kind": "ConfigMapList", "apiVersion": "v1", "metadata": {"resourceVersion": "9", "continue": next}, "items": items}).to_string()
    };
    let pieces: Vec<Bytes> = text.into_bytes().chunks(PIECE).map(Bytes::copy_from_slice).collect();
    let mut read = 0;
    StreamBody::new(futures::stream::iter(pieces).map(move |piece| {
        read += piece.len();
        seen.sum.fetch_add(piece.len(), Ordering::SeqCst);
        seen.most.fetch_max(read, Ordering::SeqCst);
        Ok(Frame::data(piece))
    }))
}

/// The names that a watch lists.
async fn listed(client: Client) -> Vec<String> {
    let objects = events(Api::<Guarded<ConfigMap>>::all(client), keep_whole);
    let until_done =
        objects.try_take_while(|event| futures::future::ready(Ok(!matches!(event, Event::InitDone))));
    let name = |event: Event<Guarded<ConfigMap>>| match event {
        Event::InitApply(Guarded(Ok(object))) => object.metadata.name,
        _ => None,
    };
    until_done.try_filter_map(|event| futures::future::ready(Ok(name(event)))).try_collect().await.unwrap()
}

#[tokio::test]
async fn a_list_of_large_objects_is_held_in_parts_and_is_complete() {
    let seen = Arc::new(Seen::default());
    // 60 MB, of which 250 objects have 120 KB and 30 have 1 MB.
    let sizes: Vec<usize> =
        [vec![100; 300], vec![120_000; 250], vec![100; 300], vec![1_000_000; 30]].concat();
    let wanted: Vec<String> = (0..sizes.len()).map(|n| n.to_string()).collect();
    assert_eq!(listed(client(sizes, seen.clone())).await, wanted);
    let (most, sum) = (seen.most.load(Ordering::SeqCst), seen.sum.load(Ordering::SeqCst));
    assert!(most <= MOST + PIECE, "{most} bytes of one answer were read");
    assert!(sum <= 60_000_000 * 3, "{sum} bytes were read of 60 MB");
}

#[tokio::test]
async fn a_list_of_small_objects_has_as_few_pages_as_before() {
    let seen = Arc::new(Seen::default());
    assert_eq!(listed(client(vec![20_000; 600], seen.clone())).await.len(), 600);
    assert_eq!(seen.requests.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn an_object_that_is_larger_than_any_page_is_read_by_itself() {
    let seen = Arc::new(Seen::default());
    let sizes = vec![100, 100, MOST + 1, 100];
    assert_eq!(listed(client(sizes, seen.clone())).await, ["0", "1", "2", "3"]);
}

#[tokio::test]
async fn a_list_without_pages_and_an_object_are_passed_on() {
    let seen = Arc::new(Seen::default());
    let api = Api::<ConfigMap>::all(client(vec![100; 3], seen.clone()));
    assert_eq!(api.list(&ListParams::default()).await.unwrap().items.len(), 3);
    let none = Request::get("/api/v1/configmaps?watch=true&limit=5").body(Body::empty()).unwrap();
    assert_eq!(page_length(&none), None, "a watch has no end");
}
