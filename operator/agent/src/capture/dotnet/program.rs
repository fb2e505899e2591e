//! What is at an address of a .NET process: which method, and which line?
//!
//! ```text
//! address ─► Methods (told by the runtime) ─► method, instruction ─► Sources (files) ─► file, line
//! ```

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fleetprof_profile::read::nettrace::{Code, Event, Guid, Limits, Methods, Module, Place};
use fleetprof_profile::read::portable_pdb::{MethodSource, PortablePdb};

use super::symbols::{self, Found};
use crate::capture::native::TellsMethods;

/// Most methods of a process whose lines are remembered; later ones are looked up again.
const MAX_REMEMBERED: usize = 20_000;
/// Most files that are named in a note.
const MAX_NAMED: usize = 4;

/// The methods of a process, and where they are from.
pub struct Program {
    methods: Mutex<Methods>,
    sources: Mutex<Sources>,
}

impl Program {
    /// A process of which nothing is known yet.
    pub fn new(pid: i32, limits: Limits) -> Self {
        let sources = Sources {
            pid,
            left: limits.symbol_bytes,
            assemblies: HashMap::new(),
            known: HashMap::new(),
            too_large: BTreeSet::new(),
        };
        Self { methods: Mutex::new(Methods::new(limits)), sources: Mutex::new(sources) }
    }

    /// The methods that the runtime has told.
    pub fn methods(&self) -> MutexGuard<'_, Methods> {
        self.methods.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an event about methods; gives back others.
    pub fn take<'e>(&self, event: Event<'e>) -> Option<Event<'e>> {
        match event {
            Event::Method(method) => self.methods().add(method),
            Event::Map(map) => self.methods().add_map(map),
            Event::Module(module) => self.methods().add_module(module),
            other => return Some(other),
        }
        None
    }

    /// What a person should know of names and lines that are lacking.
    pub fn notes(&self) -> Vec<String> {
        let (left_out, without_map) = {
            let methods = self.methods();
            (methods.left_out(), methods.without_map())
        };
        let mut notes = Vec::new();
        if left_out > 0 {
            notes.push(format!(
                "{left_out} compiled methods have no names: there are too many to keep them all"
            ));
        }
        if without_map > 0 {
            notes.push(format!(
                "{without_map} compiled methods have no lines: there are too many to keep them all"
            ));
        }
        let sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        let too_large = |path: &String| {
            format!("the debug information of {path} is too large; its methods have no lines")
        };
        notes.extend(sources.too_large.iter().map(too_large));
        notes
    }
}

impl TellsMethods for Program {
    fn method(&self, address: u64) -> Option<Place> {
        // The methods are free again before a file is read.
        let code = self.methods().code(address)?;
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        Some(sources.place(code))
    }
}

/// The debug information of a process's assemblies.
struct Sources {
    pid: i32,
    /// Bytes of debug information that may still be kept.
    left: usize,
    /// By their identities: `None` where there is none that can be used.
    assemblies: HashMap<Guid, Option<PortablePdb>>,
    /// By assembly and token.
    known: HashMap<(Guid, u32), Option<Arc<MethodSource>>>,
    too_large: BTreeSet<String>,
}

impl Sources {
    fn place(&mut self, code: Code) -> Place {
        let source = code.module.as_ref().and_then(|module| self.source(module, code.token));
        let Some(source) = source else { return Place::named(code.name) };
        let (file, line) = source.at(code.il);
        Place { name: code.name, file, line, start_line: source.start_line() }
    }

    fn source(&mut self, module: &Module, token: u32) -> Option<Arc<MethodSource>> {
        // Zeros: the assembly does not say which debug information is its own.
        if module.path.is_empty() || module.guid == Guid::default() {
            return None;
        }
        let key = (module.guid, token);
        if let Some(known) = self.known.get(&key) {
            return known.clone();
        }
        if self.known.len() >= MAX_REMEMBERED {
            self.known.clear();
        }
        let source = self.assembly(module).and_then(|pdb| pdb.method(token).ok().flatten()).map(Arc::new);
        self.known.insert(key, source.clone());
        source
    }

    fn assembly(&mut self, module: &Module) -> Option<&PortablePdb> {
        if !self.assemblies.contains_key(&module.guid) {
            let pdb = match symbols::of(self.pid, module, self.left) {
                Found::Here(pdb) => {
                    self.left = self.left.saturating_sub(pdb.len());
                    Some(pdb)
                }
                Found::TooLarge if self.too_large.len() < MAX_NAMED => {
                    self.too_large.insert(module.path.clone());
                    None
                }
                Found::TooLarge | Found::Nothing => None,
            };
            self.assemblies.insert(module.guid, pdb);
        }
        self.assemblies.get(&module.guid)?.as_ref()
    }
}
