//! Which method does an address belong to, and which of its instructions?

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::Limits;
use super::bytes::Cursor;
use super::maps::{Il, Map, MethodKey};
use super::modules::Module;
use crate::read::ReadError;

/// Most characters of a name that are kept.
const MAX_NAME: usize = 512;
/// Bytes that a map takes beside its points, about.
const MAP_BYTES: usize = 64;

/// Machine code of a method. A method may have several: one for each tier that it was compiled in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Method {
    /// Its first address.
    pub start: u64,
    /// The first address after it.
    pub end: u64,
    /// `Namespace.Class.Method`.
    pub name: Arc<str>,
    /// Which one it is, for the map of its instructions.
    pub key: MethodKey,
    /// The module that it is of.
    pub module: u64,
    /// Its number there.
    pub token: u32,
}

impl Method {
    /// The content of an event about a method.
    pub(super) fn read(content: &mut Cursor<'_>) -> Result<Self, ReadError> {
        let (id, module, start) = (content.long()?, content.long()?, content.long()?);
        let size = content.int()?;
        let (token, _flags) = (content.int()?, content.int()?);
        let class = content.text(MAX_NAME)?;
        let method = content.text(MAX_NAME)?;
        let whole = if class.is_empty() { method } else { format!("{class}.{method}") };
        let name = whole.chars().take(MAX_NAME).collect::<String>().into();
        // Code that was compiled before the program ran has no version.
        let version = version(content).unwrap_or(0);
        let end = start.saturating_add(u64::from(size));
        Ok(Self { start, end, name, key: MethodKey { id, version }, module, token })
    }
}

/// The number of the tier, after the signature and the number of the runtime.
fn version(content: &mut Cursor<'_>) -> Result<u64, ReadError> {
    let _signature = content.text(0)?;
    let _runtime = content.short()?;
    content.long()
}

/// What is at an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Code {
    /// The method's name.
    pub name: Arc<str>,
    /// The module that it is of, where that was told.
    pub module: Option<Arc<Module>>,
    /// Its number there.
    pub token: u32,
    /// Its instruction, where the runtime told the map.
    pub il: Option<Il>,
}

/// The methods of a process by address. Of two methods at one place the later one is right.
#[derive(Debug, Clone)]
pub struct Methods {
    pub(super) methods: BTreeMap<u64, Method>,
    name_bytes: usize,
    maps: HashMap<MethodKey, Map>,
    map_bytes: usize,
    modules: HashMap<u64, Arc<Module>>,
    limits: Limits,
    left_out: u64,
    without_map: u64,
}

impl Methods {
    /// No methods.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            methods: BTreeMap::new(),
            name_bytes: 0,
            maps: HashMap::new(),
            map_bytes: 0,
            modules: HashMap::new(),
            limits,
            left_out: 0,
            without_map: 0,
        }
    }

    /// Adds a method. One that has no name or no code, or is beyond the limits, is left out.
    pub fn add(&mut self, method: Method) {
        if method.name.is_empty() || method.end <= method.start {
            return;
        }
        if let Some(old) = self.methods.remove(&method.start) {
            self.name_bytes = self.name_bytes.saturating_sub(old.name.len());
            if old.key != method.key {
                self.forget_map(old.key);
            }
        }
        let bytes = self.name_bytes.saturating_add(method.name.len());
        if self.methods.len() >= self.limits.methods || bytes > self.limits.name_bytes {
            self.left_out = self.left_out.saturating_add(1);
            return;
        }
        self.name_bytes = bytes;
        self.methods.insert(method.start, method);
    }

    /// Adds the map of a method, which may be told before or after the method itself. One that is beyond the
    /// limits is left out.
    pub fn add_map(&mut self, map: Map) {
        self.forget_map(map.key);
        let bytes = self.map_bytes.saturating_add(bytes_of(&map));
        if bytes > self.limits.map_bytes {
            self.without_map = self.without_map.saturating_add(1);
            return;
        }
        self.map_bytes = bytes;
        self.maps.insert(map.key, map);
    }

    fn forget_map(&mut self, key: MethodKey) {
        if let Some(old) = self.maps.remove(&key) {
            self.map_bytes = self.map_bytes.saturating_sub(bytes_of(&old));
        }
    }

    /// Adds a module. One that is beyond the limits is left out, and its methods have no lines.
    pub fn add_module(&mut self, module: Module) {
        if self.modules.len() < self.limits.modules || self.modules.contains_key(&module.number) {
            self.modules.insert(module.number, Arc::new(module));
        }
    }

    /// The name of the method at an address.
    #[must_use]
    pub fn find(&self, address: u64) -> Option<&Arc<str>> {
        self.method(address).map(|method| &method.name)
    }

    /// What is at an address; that of a caller is where it called, one before that to which is returned.
    #[must_use]
    pub fn code(&self, address: u64) -> Option<Code> {
        let method = self.method(address)?;
        let offset = u32::try_from(address - method.start).ok();
        let il = self.maps.get(&method.key).zip(offset).map(|(map, offset)| map.il(offset));
        let module = self.modules.get(&method.module).map(Arc::clone);
        Some(Code { name: Arc::clone(&method.name), module, token: method.token, il })
    }

    fn method(&self, address: u64) -> Option<&Method> {
        let (_, method) = self.methods.range(..=address).next_back()?;
        (address < method.end).then_some(method)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.methods.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.methods.is_empty()
    }

    /// How many were left out because of the limits.
    #[must_use]
    pub const fn left_out(&self) -> u64 {
        self.left_out
    }

    /// How many maps were left out because of the limits.
    #[must_use]
    pub const fn without_map(&self) -> u64 {
        self.without_map
    }
}

fn bytes_of(map: &Map) -> usize {
    MAP_BYTES.saturating_add(map.len().saturating_mul(8))
}
