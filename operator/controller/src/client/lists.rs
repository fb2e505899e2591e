//! How much of a list is held at once? A page of so many bytes, however large the objects are.
//!
//! ```text
//! page of 250 ─► answer ─► at most 8 MiB? ─► passed on; the next page is twice as long, up to what is asked for
//!                  ▲           └─ no: the rest is not read, and a quarter as many objects are asked for
//!                  └───────────────────────────────────┘     (a page of one object is read whatever its size)
//! ```
//! Anybody who may write objects of a kind that is watched may write large ones, such as pods with an environment
//! of 1 MB. A page of 500 of them would take more memory than a container has, at each start again.
//!
//! A continue token does not depend on the length of a page, so whoever lists does not notice.

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::request::Parts;
use http::{Method, Request, Response, Uri};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use kube::Api;
use kube::api::ListParams;
use kube::client::Body;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;
use tower::{BoxError, Layer, Service};

/// Most bytes of a page with more than one object. Decoded it may take several times as much; the container of the
/// webhook has 128 MiB. An object has up to 1.5 MiB in etcd, and up to six times that as JSON.
const MOST: usize = 8 << 20;
/// Pages that are read at once.
const AT_ONCE: usize = 2;
/// The number of objects is divided by this after a page that was too large.
const FEWER: u32 = 4;
/// The number of objects is multiplied by this after a page that fitted.
const MORE: u32 = 2;

/// What `keep` keeps of the first `most` objects of a list, of which a page at a time is held. `params` has the length
/// of a page.
///
/// # Errors
/// What the API server answered.
pub(crate) async fn kept<K, T>(
    api: &Api<K>,
    mut params: ListParams,
    most: usize,
    keep: impl Fn(K) -> Option<T>,
) -> kube::Result<Vec<T>>
where
    K: Clone + DeserializeOwned + std::fmt::Debug,
{
    let (mut found, mut seen) = (Vec::new(), 0);
    loop {
        let page = api.list(&params).await?;
        let items = page.items.into_iter().take(most - seen);
        found.extend(items.inspect(|_| seen += 1).filter_map(&keep));
        match page.metadata.continue_.filter(|token| !token.is_empty() && seen < most) {
            Some(token) => params.continue_token = Some(token),
            None => return Ok(found),
        }
    }
}

/// An answer to a request.
type Answer = Response<UnsyncBoxBody<Bytes, BoxError>>;

/// Bounds what is held of lists.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lists;

impl<S> Layer<S> for Lists {
    type Service = Paged<S>;

    fn layer(&self, inner: S) -> Paged<S> {
        Paged(Arc::new(Shared {
            inner: tokio::sync::Mutex::new(inner),
            lengths: Mutex::default(),
            turns: Semaphore::new(AT_ONCE),
        }))
    }
}

/// The layer's service.
pub(super) struct Paged<S>(Arc<Shared<S>>);

struct Shared<S> {
    inner: tokio::sync::Mutex<S>,
    /// Objects of the next page by path, where fewer than asked for.
    lengths: Mutex<HashMap<String, u32>>,
    turns: Semaphore,
}

impl<S, R> Service<Request<Body>> for Paged<S>
where
    S: Service<Request<Body>, Response = Response<R>, Error = BoxError> + Send + 'static,
    S::Future: Send + 'static,
    R: hyper::body::Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    type Response = Answer;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Answer, BoxError>>;

    /// Whoever is called later waits then: a page may take several requests.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let shared = self.0.clone();
        async move {
            match page_length(&request) {
                Some(asked) => shared.page(request.into_parts().0, asked).await,
                None => Ok(shared.send(request).await?.map(|body| body.map_err(Into::into).boxed_unsync())),
            }
        }
        .boxed()
    }
}

impl<S, R> Shared<S>
where
    S: Service<Request<Body>, Response = Response<R>, Error = BoxError> + Send + 'static,
    S::Future: Send + 'static,
    R: hyper::body::Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    async fn send(&self, request: Request<Body>) -> Result<Response<R>, BoxError> {
        let answer = {
            let mut inner = self.inner.lock().await;
            poll_fn(|context| inner.poll_ready(context)).await?;
            inner.call(request)
        };
        answer.await
    }

    /// A page of at most `asked` objects, and of fewer where they are large.
    async fn page(&self, head: Parts, asked: u32) -> Result<Answer, BoxError> {
        let path = head.uri.path().to_owned();
        let mut length = self.lengths().get(&path).map_or(asked, |known| asked.min(*known));
        loop {
            let mut request = Request::new(Body::empty());
            (*request.method_mut(), *request.version_mut()) = (head.method.clone(), head.version);
            (*request.headers_mut(), *request.extensions_mut()) =
                (head.headers.clone(), head.extensions.clone());
            *request.uri_mut() = with_length(&head.uri, length)?;
            let (answer, body) = self.send(request).await?.into_parts();
            // It is never closed.
            let _turn = self.turns.acquire().await;
            if let Some(page) = read(body, length).await? {
                self.fits(path, length, asked);
                return Ok(Response::from_parts(answer, whole(page)));
            }
            let fewer = (length / FEWER).max(1);
            tracing::debug!(path, length, fewer, "a page of a list has large objects; asking for fewer");
            length = fewer;
        }
    }

    /// A page of this length was not too large.
    fn fits(&self, path: String, length: u32, asked: u32) {
        let next = length.saturating_mul(MORE);
        if next < asked {
            self.lengths().insert(path, next);
        } else {
            self.lengths().remove(&path);
        }
    }

    fn lengths(&self) -> std::sync::MutexGuard<'_, HashMap<String, u32>> {
        self.lengths.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many objects a list is asked for; `None` for any other request, and for a list without pages.
fn page_length(request: &Request<Body>) -> Option<u32> {
    let query = request.uri().query().filter(|_| request.method() == Method::GET)?;
    let mut all = form_urlencoded::parse(query.as_bytes());
    let length = all.clone().find(|(name, _)| name == "limit")?.1.parse().ok().filter(|n| *n > 0)?;
    (!all.any(|(name, value)| name == "watch" && value != "false")).then_some(length)
}

fn with_length(uri: &Uri, length: u32) -> Result<Uri, BoxError> {
    let all = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    let others = all.filter(|(name, _)| name != "limit");
    let query = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(others)
        .append_pair("limit", &length.to_string())
        .finish();
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(format!("{}?{query}", uri.path()).parse()?);
    Ok(Uri::from_parts(parts)?)
}

/// The page, unless it is too large: then it is read no further.
async fn read<R>(body: R, length: u32) -> Result<Option<Bytes>, BoxError>
where
    R: hyper::body::Body<Data = Bytes>,
    R::Error: Into<BoxError>,
{
    let most = if length == 1 { usize::MAX } else { MOST };
    match Limited::new(body, most).collect().await {
        Ok(page) => Ok(Some(page.to_bytes())),
        Err(error) if error.is::<LengthLimitError>() => Ok(None),
        Err(error) => Err(error),
    }
}

fn whole(page: Bytes) -> UnsyncBoxBody<Bytes, BoxError> {
    Full::new(page).map_err(|never| match never {}).boxed_unsync()
}

#[cfg(test)]
mod tests;
