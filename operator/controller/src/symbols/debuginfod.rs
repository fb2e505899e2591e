//! How are files with symbols fetched from an administrator's debuginfod server? One request for each build id,
//! into the cache, for as long as the server answers.
//!
//! | answer | means | so |
//! |---|---|---|
//! | 200 | the file | it is kept, if it is not too large |
//! | 404 | the server does not know the build id | it is not asked again for an hour |
//! | a file of no use | another build id, no symbols, too large | the same, and it is remembered why |
//! | other, none | the server is down, or the address or the credentials are wrong | nothing is asked for a minute |
//!
//! A redirect is not followed: the server that was configured is the one that learns what runs here.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use fleetprof_core::text::{cut, printable};
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use http::header::{AUTHORIZATION, CONTENT_LENGTH};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::cache::Cache;
use super::config::Server;
use crate::destinations::{Connector, Made, Secrets, authorization, chain, client, connector};

/// Longest time to the head of an answer; a server may fetch the file from elsewhere first.
const ANSWER: Duration = Duration::from_secs(30);
/// Longest time to the end of it.
const DOWNLOAD: Duration = Duration::from_secs(120);
/// How long what the server does not know is not asked for.
const ABSENT: Duration = Duration::from_secs(3600);
/// How long nothing is asked after a failure.
const PAUSE: Duration = Duration::from_secs(60);
/// Most build ids that are remembered as absent.
const MOST_ABSENT: usize = 10_000;
/// Downloads at once.
const DOWNLOADS: usize = 2;
/// Most downloads that are under way or wait.
const MOST_UNDER_WAY: usize = 256;
/// Pieces of a file that wait to be written.
const PIECES: usize = 16;
/// Longest text of a failure, in bytes.
const MAX_CAUSE: usize = 160;

/// Longest text of what is wrong with a file, in bytes.
const MAX_WHY: usize = 300;

type Http = Client<Connector, Empty<Bytes>>;
/// A file that is fetched, for everybody who asked for it: `None` where the server has none.
pub(super) type Download = Shared<BoxFuture<'static, Result<Option<PathBuf>, String>>>;

/// The server, and what came from it.
pub(super) struct Debuginfod {
    url: String,
    made: Made<Http>,
    cache: Arc<Cache>,
    known: Mutex<Known>,
    downloads: Semaphore,
}

/// What was learnt of the server.
#[derive(Default)]
struct Known {
    /// Build ids that are not asked for again, until when, and why the server's file cannot be used; `None` where the
    /// server has no file.
    absent: HashMap<String, (Instant, Option<String>)>,
    /// Until when nothing is asked, and why.
    paused: Option<(Instant, String)>,
    /// What is being fetched, and since when, by build id.
    under_way: HashMap<String, (Instant, Download)>,
}

/// Why there is no file.
enum NotFetched {
    /// The server does not know it.
    Absent,
    /// This file cannot be had, others may.
    Unusable(String),
    /// The server failed.
    Failed(String),
}

impl Debuginfod {
    /// The server, with a folder for what it sends.
    pub(super) fn new(server: &Server, folder: PathBuf) -> Self {
        let cache = Cache::new(folder, server.cache_size);
        cache.clear();
        Self {
            url: server.url.trim_end_matches('/').to_owned(),
            made: Made::of(server.credentials.clone()),
            cache: Arc::new(cache),
            known: Mutex::default(),
            downloads: Semaphore::new(DOWNLOADS),
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it makes sense to ask for the file now. Looks at the cache, so it may block.
    pub(super) fn may_have(&self, build_id: &str) -> bool {
        let now = Instant::now();
        let known = self.known();
        let absent = known.absent.get(build_id).is_some_and(|(until, _)| *until > now);
        let paused = known.paused.as_ref().is_some_and(|(until, _)| *until > now);
        drop(known);
        !absent && (!paused || self.cache.get(build_id).is_some())
    }

    /// Why nothing is asked now, as a clause.
    pub(super) fn failure(&self) -> Option<String> {
        let paused = self.known().paused.clone();
        paused.filter(|(until, _)| *until > Instant::now()).map(|(_, why)| why)
    }

    /// Why the file that the server has cannot be used, as a clause; nothing where that is not known.
    pub(super) fn useless(&self, build_id: &str) -> Option<String> {
        self.known().absent.get(build_id).filter(|(until, _)| *until > Instant::now())?.1.clone()
    }

    /// Fetches the file of a build id, of which at most `room` bytes are written, whether or not anybody waits for it;
    /// with when that began. It fails with a clause without a full stop.
    pub(super) fn get(self: &Arc<Self>, build_id: &str, room: u64) -> (Instant, Download) {
        let now = Instant::now();
        let mut known = self.known();
        if let Some(download) = known.under_way.get(build_id) {
            return download.clone();
        }
        if known.under_way.len() >= MOST_UNDER_WAY {
            let why = "too many other files are being fetched from the debuginfod server".to_owned();
            return (now, std::future::ready(Err(why)).boxed().shared());
        }
        let (server, id) = (Arc::clone(self), build_id.to_owned());
        let task = tokio::spawn(async move {
            let got = server.get_alone(&id, room).await;
            server.known().under_way.remove(&id);
            got
        });
        let download = task.map(|got| got.unwrap_or_else(|error| Err(error.to_string()))).boxed().shared();
        known.under_way.insert(build_id.to_owned(), (now, download.clone()));
        (now, download)
    }

    async fn get_alone(&self, build_id: &str, room: u64) -> Result<Option<PathBuf>, String> {
        let (cache, id) = (Arc::clone(&self.cache), build_id.to_owned());
        let kept = spawn_blocking(move || cache.get(&id)).await.map_err(|error| error.to_string())?;
        if kept.is_some() {
            return Ok(kept);
        }
        let absent = self.known().absent.get(build_id).cloned();
        if let Some((_, why)) = absent.filter(|(until, _)| *until > Instant::now()) {
            return why.map_or(Ok(None), Err);
        }
        let permit = self.downloads.acquire().await.map_err(|error| error.to_string())?;
        if let Some(why) = self.failure() {
            return Err(why);
        }
        let late = |_| Err(NotFetched::Failed(format!("it sent no whole file in {} s", DOWNLOAD.as_secs())));
        let fetched = timeout(DOWNLOAD, self.fetch(build_id, room)).await.unwrap_or_else(late);
        drop(permit);
        self.learn(build_id, fetched)
    }

    fn learn(&self, build_id: &str, fetched: Result<PathBuf, NotFetched>) -> Result<Option<PathBuf>, String> {
        let mut known = self.known();
        let now = Instant::now();
        match fetched {
            Ok(path) => Ok(Some(path)),
            Err(NotFetched::Failed(why)) => {
                let why = format!("the debuginfod server failed: {why}");
                known.paused = Some((now + PAUSE, why.clone()));
                Err(why)
            }
            Err(NotFetched::Absent) => {
                known.remember(build_id, now, None);
                Ok(None)
            }
            Err(NotFetched::Unusable(why)) => {
                let why = format!("the debuginfod server has it, but {why}");
                known.remember(build_id, now, Some(why.clone()));
                Err(why)
            }
        }
    }

    /// Forgets a file that is not what it should be, does not ask for it again soon, and remembers why.
    pub(super) fn discard(&self, build_id: &str, why: String) {
        self.cache.remove(build_id);
        self.known().remember(build_id, Instant::now(), Some(why));
    }

    async fn fetch(&self, build_id: &str, room: u64) -> Result<PathBuf, NotFetched> {
        let (http, secrets) =
            self.made.get(|secrets| Ok(client(connector(secrets)?))).map_err(NotFetched::Failed)?;
        let failed = |error: String| NotFetched::Failed(cut(&printable(&secrets.hide(&error)), MAX_CAUSE));
        let request = self.request(build_id, &secrets).map_err(failed)?;
        let late = |_| Err(format!("no answer within {} s", ANSWER.as_secs()));
        let ask = async { http.request(request).await.map_err(|error| chain(&error)) };
        let answer = timeout(ANSWER, ask).await.unwrap_or_else(late).map_err(failed)?;
        match answer.status() {
            StatusCode::OK => self.store(build_id, room, answer).await,
            StatusCode::NOT_FOUND => Err(NotFetched::Absent),
            status => Err(failed(format!("it answered {status}"))),
        }
    }

    fn request(&self, build_id: &str, secrets: &Secrets) -> Result<Request<Empty<Bytes>>, String> {
        let mut request = Request::get(format!("{}/buildid/{build_id}/debuginfo", self.url));
        if let Some(credentials) = authorization(secrets)? {
            request = request.header(AUTHORIZATION, credentials);
        }
        request
            .body(Empty::new())
            .map_err(|_| "its url has a character that a request cannot have".to_owned())
    }

    async fn store(
        &self,
        build_id: &str,
        room: u64,
        answer: Response<Incoming>,
    ) -> Result<PathBuf, NotFetched> {
        let most = self.cache.largest().min(room);
        let bytes = length(answer.headers()).unwrap_or(most);
        if bytes > most {
            let most = most >> 20;
            let (said, advice) =
                (bytes >> 20, "raise symbols.debuginfod.cacheSize or free the results volume");
            return Err(NotFetched::Unusable(format!(
                "it has {said} MiB, and there is room for {most} MiB: {advice}"
            )));
        }
        let unusable =
            |error: std::io::Error| NotFetched::Unusable(format!("it could not be stored ({error})"));
        let (pieces, written) = mpsc::channel(PIECES);
        let (cache, id) = (Arc::clone(&self.cache), build_id.to_owned());
        let writer = spawn_blocking(move || write(&cache, &id, bytes, written));
        let mut body = answer.into_body();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| NotFetched::Failed(format!("it broke off ({error})")))?;
            let piece = frame.into_data().ok();
            // A writer that has ended says why.
            if piece.is_some() && pieces.send(piece).await.is_err() {
                break;
            }
        }
        let _ = pieces.send(None).await;
        drop(pieces);
        let stored = writer.await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        stored.map_err(unusable)
    }
}

/// Writes the pieces of a file until there is none; it is kept if the last one says that this is the end.
fn write(
    cache: &Cache,
    build_id: &str,
    bytes: u64,
    mut pieces: mpsc::Receiver<Option<Bytes>>,
) -> std::io::Result<PathBuf> {
    let mut file = cache.begin(build_id, bytes)?;
    while let Some(piece) = pieces.blocking_recv() {
        match piece {
            Some(piece) => file.write(&piece)?,
            None => return file.keep(build_id),
        }
    }
    Err(std::io::Error::other("it broke off"))
}

impl Known {
    fn remember(&mut self, build_id: &str, now: Instant, why: Option<String>) {
        if self.absent.len() >= MOST_ABSENT {
            self.absent.retain(|_, (until, _)| *until > now);
        }
        if self.absent.len() < MOST_ABSENT {
            let why = why.map(|why| cut(&why, MAX_WHY));
            self.absent.insert(build_id.to_owned(), (now + ABSENT, why));
        }
    }
}

fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests;
