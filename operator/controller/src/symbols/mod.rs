//! How are addresses in stored profiles named, whose files had no symbols where they ran?
//!
//! ```text
//! results ─► lacking ─► volume ─► uploads ─► archive ─► cache ─► debuginfod ─► a file ─► read by a process of its own ─► names
//! ```
//! Guarantees: only servers and volumes that an administrator configured are asked; a file whose build id is not
//! the one that was asked for names nothing; a file that is malformed costs the process that reads it; and a
//! profile waits for names for a bounded time. What is read on the way is hostile: profiles come from agents, and
//! files from those who built the programs.

mod ask;
mod cache;
mod config;
mod debuginfod;
mod left;
mod protocol;
mod read;
pub mod uploads;
mod volume;
mod worker;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use fleetprof_profile::resolve::{FileNames, Lacking, Names, is_build_id};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use crate::destinations::Destinations;
use ask::Reader;
pub use config::Config;
use debuginfod::{Debuginfod, Download};
use left::Left;
use protocol::{Answer, Question, Supplement, Unread};
use uploads::Uploads;
use volume::Volume;
pub use worker::{WorkerArgs, main};

/// Most bytes of names for one profile.
const MAX_HELD: usize = 16 << 20;
/// Why nothing is on a volume, as a clause.
const HANGS: &str = "the symbols volume does not answer";
/// Why a file names nothing, as a clause.
const NONE: &str = "its symbols name none of the sampled addresses";
/// Why functions of a file have no name though others have, as a clause.
const SOME: &str = "its symbols name only some of the sampled addresses";
/// Why nobody looked for a file, as a clause.
const CUT: &str = "it was not looked up: of one profile, 64 files with 100,000 addresses are";
/// Why functions of a file have no name of whose addresses all that were asked for have, as a clause.
const PARTLY: &str = "not all of its addresses were looked up: of one profile, 100,000 are";
/// Folder of the cache on the results volume.
pub(crate) const FOLDER: &str = "symbols";
/// Folder of uploaded files below it.
const UPLOADED: &str = "uploaded";

/// What is asked for names. Clones share it.
#[derive(Clone, Default)]
pub struct Symbols(Option<Arc<Inner>>);

struct Inner {
    reader: Reader,
    volume: Option<Volume>,
    uploads: Option<Arc<Uploads>>,
    debuginfod: Option<Arc<Debuginfod>>,
}

/// What came of a question for names.
#[derive(Debug, Default)]
pub struct Found {
    /// Names by build id.
    pub names: Names,
    /// Why some or all have none, by build id: a clause without a full stop. The keys are those of [`Lacking`].
    pub failed: HashMap<String, String>,
}

impl Symbols {
    /// What the configuration says; nothing is asked without any. Files are read by `program`, the operator's own,
    /// and kept below `results`. Looks at the files that were uploaded, so it may block.
    #[must_use]
    pub fn new(config: &Config, results: &Path, program: PathBuf) -> Self {
        Self::read_by(Reader::new(program), config, results)
    }

    /// The same, read by whatever this is.
    fn read_by(reader: Reader, config: &Config, results: &Path) -> Self {
        if *config == Config::default() {
            return Self::default();
        }
        let folder = results.join(FOLDER);
        let server = |server| Arc::new(Debuginfod::new(server, folder.clone()));
        let allowed = config.uploads.as_ref().filter(|allowed| allowed.size > 0);
        let uploads = |size| Uploads::open(folder.join(UPLOADED), size, reader.clone());
        Self(Some(Arc::new(Inner {
            volume: config.volume.clone().map(Volume::new),
            uploads: allowed.map(|allowed| Arc::new(uploads(allowed.size))),
            debuginfod: config.debuginfod.as_ref().map(server),
            reader,
        })))
    }

    /// Uploads of so many bytes, which a shell with this script checks.
    #[cfg(test)]
    pub(crate) fn scripted(script: &str, size: u64, results: &Path) -> Self {
        let config = Config { uploads: Some(config::Allowed { size }), ..Config::default() };
        Self::read_by(Reader::script(script), &config, results)
    }

    /// What people uploaded; `None` where they may not.
    #[must_use]
    pub fn uploads(&self) -> Option<&Arc<Uploads>> {
        self.0.as_ref()?.uploads.as_ref()
    }

    /// Keeps uploads in the archive of these destinations as well, if one of them is one.
    pub(crate) fn archived_in(&self, destinations: &Destinations, cluster: &str) {
        if let Some(uploads) = self.uploads() {
            uploads.archived_in(destinations, cluster);
        }
    }

    /// Whether there may be names for one of these, as far as is remembered: the symbols volume is not looked at, so
    /// that nothing that is held meanwhile waits for it.
    ///
    /// A server is asked only for files with functions that have no name at all.
    #[must_use]
    pub fn may_name(&self, lacking: &[Lacking]) -> bool {
        let Some(inner) = &self.0 else { return false };
        let on_volume =
            |file: &Lacking| inner.volume.as_ref().is_some_and(|volume| volume.may_have(&file.build_id));
        lacking.iter().any(|file| {
            let id = &file.build_id;
            on_volume(file)
                || inner.uploaded(id).is_some()
                || inner.archived(id).is_some()
                || inner.may_fetch(file).is_some()
        })
    }

    /// Names for these, within half a minute and the turns in which files are read: one takes memory from `memory`.
    /// Downloads write at most `room` bytes.
    pub async fn find(&self, lacking: &[Lacking], memory: &Arc<Semaphore>, room: u64) -> Found {
        let mut found = Found::default();
        let Some(inner) = &self.0 else { return found };
        let (mut left, mut held) = (Left::new(), 0);
        let sources = inner.sources(lacking, (memory, room), &mut left).await;
        for (file, source) in lacking.iter().zip(sources) {
            let named = inner.names(file, source, memory, &mut left).await;
            match named {
                Ok(names) if !names.is_empty() && held + names.memory() <= MAX_HELD => {
                    held += names.memory();
                    if names.len() < file.addresses.len() {
                        found.failed.insert(file.build_id.clone(), SOME.to_owned());
                    }
                    found.names.insert(file.build_id.clone(), names);
                }
                Ok(names) => {
                    let why = if names.is_empty() { NONE } else { "its names are too many" };
                    found.failed.insert(file.build_id.clone(), why.to_owned());
                }
                Err(why) => {
                    tracing::debug!(file.build_id = %file.build_id, error = why, "failed to name functions");
                    found.failed.insert(file.build_id.clone(), why);
                }
            }
        }
        found
    }

    /// Why functions of a file have no names that are not in what was found, as a clause; empty where nothing is
    /// configured. `asked` are the build ids that were looked up for the profile, if any were.
    #[must_use]
    pub fn why_not(&self, build_id: &str, asked: Option<&HashSet<String>>) -> String {
        let Some(inner) = &self.0 else { return String::new() };
        if !is_build_id(build_id) {
            return "it has no build ID, by which its symbols could be found".to_owned();
        }
        match asked.map(|asked| asked.contains(build_id)) {
            Some(true) => PARTLY.to_owned(),
            Some(false) => CUT.to_owned(),
            None => inner.why_not(build_id),
        }
    }

    /// Why nothing is known of a profile's names, as a clause; empty where nothing is configured.
    #[must_use]
    pub fn why_unknown(&self, build_id: &str) -> String {
        match self.0.is_some() && is_build_id(build_id) {
            true => "not known: another operator process stored this profile".to_owned(),
            false => self.why_not(build_id, None),
        }
    }
}

impl Inner {
    /// What was uploaded for a build id.
    fn uploaded(&self, build_id: &str) -> Option<PathBuf> {
        self.uploads.as_ref()?.path(build_id)
    }

    /// Uploads, where the archive may have a file of this build id that the volume lacks.
    fn archived(&self, build_id: &str) -> Option<&Arc<Uploads>> {
        self.uploads.as_ref().filter(|uploads| uploads.may_fetch(build_id))
    }

    /// The server, where it may have the file of something that has no name at all.
    fn may_fetch(&self, file: &Lacking) -> Option<&Arc<Debuginfod>> {
        let server = self.debuginfod.as_ref().filter(|_| file.unnamed > 0)?;
        server.may_have(&file.build_id).then_some(server)
    }

    /// Where each of the files may be. What is not on the volume is fetched from now on.
    async fn sources(
        self: &Arc<Self>,
        lacking: &[Lacking],
        (memory, room): (&Arc<Semaphore>, u64),
        left: &mut Left,
    ) -> Vec<Sources> {
        let nowhere = || vec![(None, false); lacking.len()];
        let places = left.spend(async { Ok::<_, String>(self.places(lacking).await) });
        let places = places.await.ok().flatten().unwrap_or_else(nowhere);
        let source = |(file, (volume, fetch)): (&Lacking, (Option<PathBuf>, bool))| {
            let server = self.debuginfod.as_ref().filter(|_| fetch);
            let uploaded = self.uploaded(&file.build_id);
            // One that is here is fetched only if it turns out to be of no use.
            let is_here = volume.is_some() || uploaded.is_some();
            let archive = self.archived(&file.build_id).filter(|_| !is_here);
            let archived = archive.map(|archive| archive.fetch(&file.build_id, room, memory));
            // What somebody uploaded comes before what a server may have.
            let at_once = !is_here && archived.is_none();
            let begun = server.filter(|_| at_once).map(|server| server.get(&file.build_id, room));
            Sources { volume, uploaded, archived, server: server.cloned(), begun, room }
        };
        lacking.iter().zip(places).map(source).collect()
    }

    /// For each of the files, where it lies on the volume, and whether the server may have it.
    async fn places(self: &Arc<Self>, lacking: &[Lacking]) -> Option<Vec<(Option<PathBuf>, bool)>> {
        let build_ids = lacking.iter().map(|file| file.build_id.clone()).collect();
        let found = match &self.volume {
            Some(volume) => volume.find_all(build_ids).await,
            None => vec![None; lacking.len()],
        };
        let (inner, files) = (Arc::clone(self), lacking.to_vec());
        let may_fetch = move || files.iter().map(|file| inner.may_fetch(file).is_some()).collect::<Vec<_>>();
        Some(found.into_iter().zip(spawn_blocking(may_fetch).await.ok()?).collect())
    }

    /// The names of one file, from the first source whose file can be used.
    async fn names(
        &self,
        file: &Lacking,
        source: Sources,
        memory: &Arc<Semaphore>,
        left: &mut Left,
    ) -> Result<FileNames, String> {
        let Sources { volume, uploaded, archived, server, begun, room } = source;
        let (fetched, mut refused) = left.wait_for(archived).await;
        let here = [(volume, "on the symbols volume"), (uploaded.or(fetched), "that was uploaded")];
        for (path, whose) in here.into_iter().filter_map(|(path, whose)| Some((path?, whose))) {
            match self.read(&path, file, (memory, room), left).await {
                Ok(names) => return Ok(names),
                Err(why) => refused = refused.or_else(|| Some(why.of(whose))),
            }
        }
        let refused = refused.or_else(|| self.hangs());
        let Some(server) = server else {
            return Err(refused.unwrap_or_else(|| self.why_not(&file.build_id)));
        };
        let (since, download) = begun.unwrap_or_else(|| server.get(&file.build_id, room));
        let failed = match left.wait(since, download).await {
            Ok(Some(path)) => match self.read(&path, file, (memory, room), left).await {
                Ok(names) => return Ok(names),
                Err(why) => {
                    let useless = why.is_useless();
                    let why = why.of("of the debuginfod server");
                    if useless {
                        server.discard(&file.build_id, why.clone());
                    }
                    why
                }
            },
            Ok(None) => self.absent().to_owned(),
            Err(why) => why,
        };
        Err(refused.unwrap_or(failed))
    }

    /// That the volume does not answer, as a clause.
    fn hangs(&self) -> Option<String> {
        let hangs = self.volume.as_ref().is_some_and(|volume| !volume.answers());
        hangs.then(|| HANGS.to_owned())
    }

    /// Why a file has no names as far as is known without asking, as a clause.
    fn why_not(&self, build_id: &str) -> String {
        let server = self.debuginfod.as_ref();
        let archive = self.uploads.as_ref().and_then(|uploads| uploads.not_archived(build_id));
        let known = || server.and_then(|server| server.useless(build_id).or_else(|| server.failure()));
        archive.or_else(known).or_else(|| self.hangs()).unwrap_or_else(|| self.absent().to_owned())
    }

    /// That nobody has the symbols, as a clause.
    const fn absent(&self) -> &'static str {
        match (&self.volume, &self.debuginfod, &self.uploads) {
            (Some(_), Some(_), None) => {
                "neither the symbols volume nor the debuginfod server has its symbols"
            }
            (Some(_), None, None) => "the symbols volume does not have its symbols",
            (None, _, None) => "the debuginfod server does not have its symbols",
            (Some(_), Some(_), Some(_)) => {
                "neither the symbols volume nor the debuginfod server has its symbols, and nobody uploaded them"
            }
            (Some(_), None, Some(_)) => {
                "the symbols volume does not have its symbols, and nobody uploaded them"
            }
            (None, Some(_), Some(_)) => {
                "the debuginfod server does not have its symbols, and nobody uploaded them"
            }
            (None, None, Some(_)) => "nobody uploaded its symbols",
        }
    }

    /// Reads a file, and its supplement if it has one.
    async fn read(
        &self,
        path: &Path,
        file: &Lacking,
        (memory, room): (&Arc<Semaphore>, u64),
        left: &mut Left,
    ) -> Result<FileNames, Unread> {
        let mut question = Question {
            file: path.to_owned(),
            build_id: file.build_id.clone(),
            supplement: Supplement::Unknown,
            addresses: file.addresses.clone(),
            check: false,
        };
        for _ in 0..2 {
            let permit = memory.acquire().await.map_err(|error| error.to_string())?;
            let answer = left.spend(self.reader.ask(&question)).await?;
            drop(permit);
            match answer {
                Answer::Named(names) => return Ok(names),
                Answer::Refused(why) => return Err(Unread::Useless(why)),
                Answer::Unable(why) => return Err(Unread::Unable(why)),
                Answer::Usable => return Err("it was not read".to_owned().into()),
                Answer::Needs { path, build_id } => {
                    question.supplement = self.supplement((path, build_id), (memory, room), left).await;
                }
            }
        }
        Err(Unread::Useless("it asks for its supplement again and again".to_owned()))
    }

    async fn supplement(
        &self,
        (told, build_id): (String, String),
        (memory, room): (&Arc<Semaphore>, u64),
        left: &mut Left,
    ) -> Supplement {
        if !is_build_id(&build_id) {
            return Supplement::Nowhere;
        }
        let look = async {
            match &self.volume {
                Some(volume) => Ok::<_, String>(volume.find_other(build_id.clone(), told).await),
                None => Ok(None),
            }
        };
        let found = left.spend(look).await.ok().flatten().or_else(|| self.uploaded(&build_id));
        let archive = self.archived(&build_id).filter(|_| found.is_none());
        let found = match archive.map(|archive| archive.fetch(&build_id, room, memory)) {
            Some((since, fetch)) => left.wait(since, fetch).await.ok().flatten(),
            None => found,
        };
        let found = match (found, &self.debuginfod) {
            (Some(path), _) => Some(path),
            (None, Some(server)) => {
                let (since, download) = server.get(&build_id, room);
                left.wait(since, download).await.ok().flatten()
            }
            (None, None) => None,
        };
        found.map_or(Supplement::Nowhere, |path| Supplement::File(path, build_id))
    }
}

/// Where the file of a build id may be.
struct Sources {
    volume: Option<PathBuf>,
    uploaded: Option<PathBuf>,
    /// What comes from the archive of uploads.
    archived: Option<(Instant, Download)>,
    server: Option<Arc<Debuginfod>>,
    begun: Option<(Instant, Download)>,
    room: u64,
}
