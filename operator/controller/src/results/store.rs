//! What do all operations on the volume share? The index, the locks and the writer.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, MutexGuard, PoisonError};

use fleetprof_core::capture::CaptureScope;
use fleetprof_crds::ProfileKind;
use tracing::{info, warn};

use super::disk::{Disk, Writer};
use super::error::ResultsError;
use super::index::Index;
use super::key::{Key, KeyParts};
use super::metrics::ResultsMetrics;
use super::space::{self, Usage};
use super::{ResultsConfig, scan};
use crate::symbols::FOLDER;

const STRIPES: usize = 64;

/// The volume. Every method blocks.
pub(super) struct Store {
    pub(super) config: ResultsConfig,
    pub(super) metrics: ResultsMetrics,
    pub(super) writer: Writer,
    /// Bytes that are being written.
    pub(super) writing: AtomicU64,
    index: Mutex<Index>,
    /// One operation at a time on a capture.
    captures: Vec<Mutex<()>>,
    /// One profile is made at a time, so that the room kept free is enough.
    assembling: Mutex<()>,
    /// Folders are measured one at a time, so that an older answer never wins.
    measuring: Mutex<()>,
}

impl Store {
    /// Opens the volume.
    ///
    /// # Errors
    /// `Io` or `Full`.
    pub(super) fn open(
        config: ResultsConfig,
        metrics: ResultsMetrics,
        disk: Box<dyn Disk>,
    ) -> Result<Self, ResultsError> {
        let root = &config.root;
        let failed = |error: std::io::Error| ResultsError::io("opening", root, &error);
        std::fs::create_dir_all(root).map_err(failed)?;
        let writer = Writer::new(disk, root.clone());
        for folder in ["slices", "profiles"] {
            writer.make_dirs(&root.join(folder)).map_err(failed)?;
        }
        writer.clear_tmp().map_err(failed)?;
        let mut found = scan::scan(&root.join("slices"), &root.join("profiles")).map_err(failed)?;
        found.index.add_foreign(scan::beside(root, &["slices", "profiles", "tmp", FOLDER]).map_err(failed)?);
        if found.strange > 0 {
            warn!(count = found.strange, path = %root.display(), "ignoring files on the results volume that \
                                                                  do not belong to fleetprof");
        }
        let store = Self {
            index: Mutex::new(found.index),
            captures: (0..STRIPES).map(|_| Mutex::new(())).collect(),
            assembling: Mutex::new(()),
            measuring: Mutex::new(()),
            writing: AtomicU64::new(0),
            writer,
            metrics,
            config,
        };
        store.measure_folders(&store.writer.tmp());
        store.measure_symbols();
        let usage = store.usage()?;
        info!(
            path = %store.config.root.display(),
            used = usage.used,
            free = usage.free,
            "results volume opened"
        );
        Ok(store)
    }

    /// The index; hold it for memory work alone.
    pub(super) fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps other operations off a capture's component.
    pub(super) fn lock_capture(&self, capture: &str) -> MutexGuard<'_, ()> {
        let mut hasher = DefaultHasher::new();
        capture.hash(&mut hasher);
        let stripe = usize::try_from(hasher.finish() % STRIPES as u64).unwrap_or(0);
        self.captures[stripe].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps other profiles from being made.
    pub(super) fn lock_assembling(&self) -> MutexGuard<'_, ()> {
        self.assembling.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps others from measuring folders.
    pub(super) fn lock_measuring(&self) -> MutexGuard<'_, ()> {
        self.measuring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes `folder` and the folders above it, below `top`, as far as they are empty.
    pub(super) fn prune(&self, folder: &Path, top: &Path) {
        self.writer.prune(folder, top);
        self.measure_folders(folder);
    }

    /// Where slices lie.
    pub(super) fn slices(&self) -> PathBuf {
        self.config.root.join("slices")
    }

    /// Where profiles lie.
    pub(super) fn profiles(&self) -> PathBuf {
        self.config.root.join("profiles")
    }

    /// The key of a capture's profile of one kind.
    pub(super) fn key(&self, scope: &CaptureScope, kind: ProfileKind) -> Key {
        Key::new(&KeyParts {
            cluster: &self.config.cluster,
            namespace: &scope.session_namespace,
            workload: &scope.workload,
            day: scope.started,
            session_uid: &scope.session_uid,
            pod: &scope.pod_name,
            container: &scope.container,
            kind,
        })
    }

    /// What is used and what is free; tells the metrics.
    pub(super) fn usage(&self) -> Result<Usage, ResultsError> {
        let used = self.index().disk();
        let usage = space::usage(&self.config.root, used, self.config.capacity)
            .map_err(|error| ResultsError::io("measuring", &self.config.root, &error))?;
        self.metrics.usage(&usage);
        Ok(usage)
    }
}
