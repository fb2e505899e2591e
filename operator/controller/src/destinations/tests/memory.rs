//! A destination in memory that can be down, hang, or refuse.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use fleetprof_core::outbox::Attempt;
use fleetprof_crds::Reason;
use futures::FutureExt;
use futures::future::BoxFuture;

use crate::destinations::{Archive, ArchiveError, Destination, Parcel};

/// What it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    Up,
    Down,
    Hangs,
    Refuses,
}

type Kept = BTreeMap<String, Bytes>;

/// Profiles by key, and how many attempts there were. Clones share them.
#[derive(Clone)]
pub(crate) struct Memory(Arc<Mutex<(Mood, Kept, usize)>>);

impl Memory {
    pub(crate) fn new(mood: Mood) -> Self {
        Self(Arc::new(Mutex::new((mood, BTreeMap::new(), 0))))
    }
    pub(crate) fn set(&self, mood: Mood) {
        self.0.lock().unwrap().0 = mood;
    }
    pub(crate) fn keys(&self) -> Vec<String> {
        self.0.lock().unwrap().1.keys().cloned().collect()
    }
    /// Puts other bytes under a key, as somebody with the store's credentials may.
    pub(crate) fn forge(&self, key: &str, body: &[u8]) {
        self.0.lock().unwrap().1.insert(key.to_owned(), Bytes::copy_from_slice(body));
    }
    /// How often something was put, whatever came of it.
    pub(crate) fn attempts(&self) -> usize {
        self.0.lock().unwrap().2
    }
    fn mood(&self) -> Mood {
        self.0.lock().unwrap().0
    }
}

impl Destination for Memory {
    fn put<'a>(&'a self, parcel: &'a Parcel, profile: Bytes) -> BoxFuture<'a, Attempt> {
        async move {
            self.0.lock().unwrap().2 += 1;
            match self.mood() {
                Mood::Up => {
                    self.0.lock().unwrap().1.insert(parcel.key.clone(), profile);
                    Attempt::Stored
                }
                Mood::Down => Attempt::Again("no route to host".into(), None),
                Mood::Hangs => std::future::pending().await,
                Mood::Refuses => Attempt::Failed(Reason::UploadRejected, "400: too old".into()),
            }
        }
        .boxed()
    }
    fn check(&self) -> BoxFuture<'_, Result<(), String>> {
        let mood = self.mood();
        async move { if mood == Mood::Up { Ok(()) } else { Err("no route to host".into()) } }.boxed()
    }
    fn archive(&self) -> Option<&dyn Archive> {
        Some(self)
    }
}

impl Archive for Memory {
    fn keep<'a>(&'a self, key: &'a str, body: Bytes) -> BoxFuture<'a, Result<(), ArchiveError>> {
        async move {
            match self.mood() {
                Mood::Up => {
                    self.0.lock().unwrap().1.insert(key.to_owned(), body);
                    Ok(())
                }
                Mood::Hangs => std::future::pending().await,
                Mood::Down | Mood::Refuses => Err(ArchiveError::Failed("no route to host".into())),
            }
        }
        .boxed()
    }
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Bytes, ArchiveError>> {
        let found = match self.mood() {
            Mood::Up => {
                let held = self.0.lock().unwrap().1.get(key).cloned();
                held.ok_or_else(|| ArchiveError::Missing("it is not there".into()))
            }
            _ => Err(ArchiveError::Failed("no route to host".into())),
        };
        std::future::ready(found).boxed()
    }
    fn delete<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<(), ArchiveError>> {
        let gone = match self.mood() {
            Mood::Down => Err(ArchiveError::Failed("no route to host".into())),
            _ => {
                self.0.lock().unwrap().1.remove(key);
                Ok(())
            }
        };
        std::future::ready(gone).boxed()
    }
    fn list<'a>(
        &'a self,
        below: &'a str,
        picks: &'a (dyn Fn(&str) -> bool + Send + Sync),
        _: Duration,
    ) -> BoxFuture<'a, Result<Vec<String>, ArchiveError>> {
        let found = match self.mood() {
            Mood::Up => Ok(self.keys().into_iter().filter(|key| key.contains(below) && picks(key)).collect()),
            _ => Err(ArchiveError::Failed("no route to host".into())),
        };
        std::future::ready(found).boxed()
    }
}
