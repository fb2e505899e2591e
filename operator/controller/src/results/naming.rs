//! When are the functions of a profile named that had no names where they ran? Once, before it is stored.
//!
//! ```text
//! slices merged ─► complete, or nobody has symbols ─► stored
//!       └─► lacking ─► symbols, for a bounded time; nothing is held meanwhile ─► merged again, named ─► stored
//! ```
//! So every reader and every destination gets a plain profile, and none waits for a server.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Mutex, PoisonError};

use fleetprof_core::capture::CaptureScope;
use fleetprof_core::session::symbols::MAX_MISSING;
use fleetprof_crds::ProfileKind;
use fleetprof_crds::session_status::{MissingSymbols, StoredProfile, TargetSymbols};
use fleetprof_profile::resolve::{Lacking, Standing, lacking, name, standing};
use fleetprof_profile::{Profile, decode_valid};

use super::Results;
use super::error::ResultsError;
use super::key::Key;
use super::pprof::profile_limits;
use super::scan::tree;
use super::store::Store;
use crate::symbols::{FOLDER, Found, Symbols};

/// Most profiles of which it is remembered how well they are named.
const MOST_TOLD: usize = 1_000;
/// What downloads of symbols may take of what is free on the volume: a quarter.
const ROOM: u64 = 4;

/// What is to be done about names while a profile is made.
pub(super) enum Naming {
    /// Ask, where somebody may know some. The volume with symbols is not looked at before nothing is held any more.
    Ask(Symbols),
    /// Put in what was found.
    Found(Found),
}

/// What came of making a profile.
pub(super) enum Assembly {
    /// It is stored; with how well it is named, unless it was made before.
    Stored(StoredProfile, Option<Standing>),
    /// It is not: names for this are to be found first.
    Lacks(Vec<Lacking>),
}

impl Naming {
    /// Names what can be named; tells what is to be asked for first.
    pub(super) fn apply(&self, profile: &mut Profile) -> Option<Vec<Lacking>> {
        match self {
            Self::Ask(symbols) => Some(lacking(profile)).filter(|lacking| symbols.may_name(lacking)),
            Self::Found(found) => {
                name(profile, &found.names);
                None
            }
        }
    }
}

/// How well the last profiles are named, by their keys.
#[derive(Default)]
pub(super) struct Told(Mutex<VecDeque<(String, Option<TargetSymbols>)>>);

impl Told {
    fn remember(&self, key: &str, symbols: Option<TargetSymbols>) {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() >= MOST_TOLD {
            told.pop_front();
        }
        told.push_back((key.to_owned(), symbols));
    }

    fn get(&self, key: &str) -> Option<Option<TargetSymbols>> {
        let told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.iter().rev().find(|(of, _)| of == key).map(|(_, symbols)| symbols.clone())
    }
}

impl Results {
    /// The profile of slices, with the names that can be had in a bounded time.
    pub(super) async fn assemble_named(
        &self,
        scope: &CaptureScope,
        kind: ProfileKind,
        slices: u32,
    ) -> Result<StoredProfile, ResultsError> {
        let ask = Naming::Ask(self.symbols.clone());
        let lacking = match self.try_assemble(scope, kind, slices, ask).await? {
            Assembly::Stored(profile, standing) => return Ok(self.remember(profile, standing, None)),
            Assembly::Lacks(lacking) => lacking,
        };
        let room = self.usage().await.map_or(0, |usage| usage.free / ROOM);
        let found = self.symbols.find(&lacking, &self.merges, room).await;
        // What was downloaded counts before the profile is written.
        let _ = self.usage().await;
        let asked = lacking.into_iter().map(|file| file.build_id).collect();
        let looked = Looked { failed: found.failed.clone(), asked };
        match self.try_assemble(scope, kind, slices, Naming::Found(found)).await? {
            Assembly::Stored(profile, standing) => Ok(self.remember(profile, standing, Some(&looked))),
            Assembly::Lacks(_) => Err(super::stopped()),
        }
    }

    async fn try_assemble(
        &self,
        scope: &CaptureScope,
        kind: ProfileKind,
        slices: u32,
        naming: Naming,
    ) -> Result<Assembly, ResultsError> {
        let own = scope.clone();
        self.run(&self.merges, move |store| store.assemble_with(&own, kind, slices, &naming)).await
    }

    fn remember(
        &self,
        profile: StoredProfile,
        standing: Option<Standing>,
        looked: Option<&Looked>,
    ) -> StoredProfile {
        if let Some(standing) = standing {
            let why = |build_id: &str| {
                let failed = looked.and_then(|looked| looked.failed.get(build_id).cloned());
                failed.unwrap_or_else(|| self.symbols.why_not(build_id, looked.map(|looked| &looked.asked)))
            };
            self.told.remember(&profile.uri, target_symbols(standing, why));
        }
        profile
    }

    /// How much of a stored profile has names, and why the rest has none; `None` where it holds no native code.
    ///
    /// # Errors
    /// `Missing`, `Io`: it cannot be read.
    pub async fn symbols(&self, profile: &StoredProfile) -> Result<Option<TargetSymbols>, ResultsError> {
        if let Some(told) = self.told.get(&profile.uri) {
            return Ok(told);
        }
        let key = Key::parse(&profile.uri)?;
        let read = move |store: &Store| {
            let read = decode_valid(&store.read_profile(&key)?, &profile_limits());
            let read =
                read.map_err(|error| ResultsError::Io(format!("profile {key} cannot be read: {error}")))?;
            Ok(standing(&read, MAX_MISSING))
        };
        let standing = self.run(&self.merges, read).await?;
        let symbols = target_symbols(standing, |build_id| self.symbols.why_unknown(build_id));
        self.told.remember(&profile.uri, symbols.clone());
        Ok(symbols)
    }
}

/// What was looked up for a profile.
struct Looked {
    /// Why some or all addresses have no name, by build id.
    failed: HashMap<String, String>,
    /// The build ids.
    asked: HashSet<String>,
}

fn target_symbols(standing: Standing, why: impl Fn(&str) -> String) -> Option<TargetSymbols> {
    let missing = standing.missing.into_iter().map(|file| MissingSymbols {
        message: why(&file.build_id),
        file: file.file,
        build_id: file.build_id,
    });
    Some(TargetSymbols { named: i32::from(standing.named?), missing: missing.collect() })
}

impl Store {
    /// Counts what files with symbols take on the volume, downloaded and uploaded ones.
    pub(super) fn measure_symbols(&self) {
        let folder = self.config.root.join(FOLDER);
        let _one = self.lock_measuring();
        match tree(&folder) {
            Ok(bytes) => self.index().set_folder(&folder, Some(bytes)),
            Err(_) if !folder.exists() => self.index().set_folder(&folder, None),
            // A file was gone between two looks: the last answer stays until the next.
            Err(_) => {}
        }
    }
}
