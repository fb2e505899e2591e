//! Which file and offset lies behind an address of the target, and what is the stack above a sample?

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use fleetprof_profile::read::nettrace;
use framehop::{CacheNative, MayAllocateDuringUnwind, Module, Unwinder, UnwinderNative};

use super::elf::{Elf, Part};
use super::jit_names::{Compiled, JitNames};
use super::registers::Registers;
use super::segments::Place;
use crate::proc::{self, Mapping};

/// Largest stack: that of a main thread where the limit is raised.
const MAX_STACK: u64 = 64 << 20;
/// Deepest stack that is walked.
const MAX_DEPTH: usize = 512;
/// Stands at the root of a stack that goes on beyond what the sample holds of it; no address of a program.
pub const CUT: u64 = u64::MAX;
/// Most files that are held open.
const MAX_FILES: usize = 2048;

/// An executable mapping and its file, where it could be read.
#[derive(Clone)]
pub struct Region {
    /// The mapping.
    pub mapping: Mapping,
    /// The file behind it.
    pub elf: Option<Rc<Elf>>,
}

impl Region {
    /// The place in the file of an address in this mapping.
    pub fn file_offset(&self, address: u64) -> Option<u64> {
        address.checked_sub(self.mapping.start)?.checked_add(self.mapping.offset)
    }

    /// Where an address in this mapping was linked to be; none where its file is not an ELF file or could not
    /// be read.
    pub fn place(&self, address: u64) -> Option<Place> {
        self.elf.as_ref()?.segments().place(self.file_offset(address)?)
    }
}

/// The files of a capture by path and inode, where they could be read.
pub type Files = Rc<RefCell<HashMap<(String, u64), Option<Rc<Elf>>>>>;

/// The executable mappings of the target and the tables to unwind with.
pub struct AddressSpace {
    pid: i32,
    regions: Vec<Region>,
    files: Files,
    main: Option<(String, u64)>,
    jit: JitNames,
    unwinder: UnwinderNative<Part, MayAllocateDuringUnwind>,
    cache: CacheNative<MayAllocateDuringUnwind>,
}

impl AddressSpace {
    /// The mappings of a process.
    pub fn of(pid: i32, files: &Files) -> io::Result<Self> {
        let mut space = Self {
            pid,
            regions: Vec::new(),
            files: Rc::clone(files),
            main: None,
            jit: JitNames::new(Compiled { methods: None, advice: None }),
            unwinder: UnwinderNative::new(),
            cache: CacheNative::new(),
        };
        space.refresh()?;
        Ok(space)
    }

    /// The same, with what is known of the code that the target's runtime made.
    pub fn named_by(self, compiled: Compiled) -> Self {
        Self { jit: JitNames::new(compiled), ..self }
    }

    /// The name of a function that the target's runtime made, where it tells.
    pub fn jit_name(&self, address: u64) -> Option<Arc<str>> {
        self.jit.find(address)
    }

    /// A method, also one in a file, where the target's runtime has told it.
    pub fn told(&self, address: u64) -> Option<nettrace::Place> {
        self.jit.told(address)
    }

    /// What to do where code has no name, as a part of a sentence, if more than the runtime is known.
    pub const fn naming_advice(&self) -> Option<&'static str> {
        self.jit.advice()
    }

    /// Reads the target runtime's map of JIT-compiled code.
    pub fn refresh_jit_names(&mut self) {
        self.jit.refresh(self.pid);
    }

    /// Reads the mappings again. Files that stay mapped are not read again.
    pub fn refresh(&mut self) -> io::Result<()> {
        let mut maps = proc::maps(self.pid)?;
        maps.retain(|m| m.executable && m.path != "[vsyscall]");
        if maps.is_empty() {
            // A process on its way out has no mappings; what is known still names its last samples.
            return Ok(());
        }
        maps.sort_by_key(|m| m.start);
        let exe = std::fs::read_link(format!("/proc/{}/exe", self.pid)).unwrap_or_default();
        self.main = maps
            .iter()
            .find(|m| exe.as_os_str() == m.path.as_str())
            .map(|m| (m.path.clone(), m.inode))
            .or(self.main.take());
        let mut old: HashMap<Mapping, Region> =
            self.regions.drain(..).map(|r| (r.mapping.clone(), r)).collect();
        let fresh: Vec<Mapping> = maps.iter().filter(|m| !old.contains_key(m)).cloned().collect();
        let kept = maps.iter().filter_map(|m| old.remove(m)).collect::<Vec<_>>();
        for gone in old.into_values() {
            self.unwinder.remove_module(gone.mapping.start);
        }
        self.regions = kept;
        for mapping in fresh {
            let elf = self.file(&mapping);
            self.add(Region { mapping, elf });
        }
        self.regions.sort_by_key(|r| r.mapping.start);
        Ok(())
    }

    fn file(&mut self, mapping: &Mapping) -> Option<Rc<Elf>> {
        let key = (mapping.path.clone(), mapping.inode);
        let mut files = self.files.borrow_mut();
        if let Some(known) = files.get(&key) {
            return known.clone();
        }
        let id = u32::try_from(files.len()).unwrap_or(u32::MAX);
        let opened = match mapping.file() {
            _ if files.len() >= MAX_FILES => return None,
            Some(path) => Elf::open(id, self.pid, path),
            None if mapping.path == "[vdso]" => Elf::vdso(id),
            None => return None,
        };
        if let Err(error) = &opened {
            tracing::debug!(file.path = %mapping.path, %error, "failed to read a mapped file, its frames stay unnamed");
        }
        let elf = opened.ok().map(Rc::new);
        files.insert(key, elf.clone());
        elf
    }

    fn add(&mut self, region: Region) {
        let Mapping { start, end, offset, .. } = region.mapping;
        if let Some((elf, bias)) =
            region.elf.as_ref().and_then(|e| Some((e, e.segments().bias(start, offset)?)))
        {
            let base = bias.wrapping_add(elf.segments().base());
            let module = Module::new(region.mapping.path.clone(), start..end, base, elf.unwind_info());
            self.unwinder.add_module(module);
        }
        self.regions.push(region);
    }

    /// The mapping that holds an address.
    pub fn find(&self, address: u64) -> Option<&Region> {
        let after = self.regions.partition_point(|r| r.mapping.start <= address);
        let region = self.regions.get(after.checked_sub(1)?)?;
        (address < region.mapping.end).then_some(region)
    }

    /// The region of the main program, which a profile names first.
    pub fn main(&self) -> Option<&Region> {
        let (path, inode) = self.main.as_ref()?;
        self.regions.iter().find(|r| r.mapping.path == *path && r.mapping.inode == *inode)
    }

    /// Files whose debug information is too large to be read.
    pub fn without_debug(&self) -> impl Iterator<Item = &str> {
        self.regions
            .iter()
            .filter(|region| region.elf.as_ref().is_some_and(|e| !e.debug))
            .map(|region| region.mapping.path.as_str())
    }

    /// The addresses on the stack, leaf first; callers by the address of their call. `stack` starts at the
    /// stack pointer.
    pub fn unwind(&mut self, registers: &Registers, stack: &[u8]) -> Vec<u64> {
        let mut addresses = Vec::with_capacity(32);
        let mut from = *registers;
        if let Some(caller) = self.caller_of_go_leaf(registers, stack) {
            addresses.push(registers.ip);
            from = caller;
        }
        let mut read = |address: u64| read_word(stack, registers.sp, address).ok_or(());
        let mut frames = self.unwinder.iter_frames(from.ip, from.for_unwinder(), &mut self.cache, &mut read);
        while addresses.len() < MAX_DEPTH {
            match frames.next() {
                Ok(Some(frame)) => addresses.push(frame.address_for_lookup()),
                Err(framehop::Error::CouldNotReadStack(wanted)) if beyond(stack, registers.sp, wanted) => {
                    addresses.push(CUT);
                    break;
                }
                Ok(None) | Err(_) => break,
            }
        }
        addresses
    }

    /// Registers of the caller, where the sample is in a Go function that has no frame (yet).
    ///
    /// Go keeps frame pointers, so its other functions need no table; of one without a frame the caller would
    /// be skipped.
    fn caller_of_go_leaf(&self, registers: &Registers, stack: &[u8]) -> Option<Registers> {
        let region = self.find(registers.ip)?;
        let offset = region.file_offset(registers.ip)?;
        let without_frame = cfg!(target_arch = "x86_64") && region.elf.as_ref()?.go_stack_depth(offset)? == 0;
        let caller = read_word(stack, registers.sp, registers.sp).filter(|_| without_frame)?;
        Some(Registers { ip: caller.checked_sub(1)?, sp: registers.sp.checked_add(8)?, ..*registers })
    }
}

/// Whether an address lies above the part of the stack that a sample holds, but near enough to be on the
/// stack.
fn beyond(stack: &[u8], base: u64, address: u64) -> bool {
    let end = base.saturating_add(stack.len() as u64);
    (end.saturating_sub(8)..end.saturating_add(MAX_STACK)).contains(&address)
}

/// The word at an address of a stack whose bytes start at `base`.
pub fn read_word(stack: &[u8], base: u64, address: u64) -> Option<u64> {
    let start = usize::try_from(address.checked_sub(base)?).ok()?;
    let bytes = stack.get(start..start.checked_add(8)?)?;
    Some(u64::from_ne_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::super::sleeper::Sleeper;
    use super::super::symbols::Symbols;
    use super::*;

    fn me() -> i32 {
        i32::try_from(std::process::id()).unwrap()
    }

    #[test]
    fn words_are_read_inside_the_stack_only() {
        let stack = [1_u8, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 9];
        assert_eq!(read_word(&stack, 100, 100), Some(1));
        assert_eq!(read_word(&stack, 100, 108), Some(2));
        for outside in [99, 110, 116, u64::MAX] {
            assert_eq!(read_word(&stack, 100, outside), None, "{outside}");
        }
    }

    #[test]
    fn an_address_above_the_sample_is_on_the_stack_that_was_cut() {
        let stack = [0_u8; 64];
        assert!(beyond(&stack, 1000, 1064) && beyond(&stack, 1000, 1060) && beyond(&stack, 1000, 1_000_000));
        assert!(!beyond(&stack, 1000, 1000) && !beyond(&stack, 1000, 999) && !beyond(&stack, 1000, 1 << 40));
    }

    #[test]
    fn addresses_are_found_in_their_file() {
        let space = AddressSpace::of(me(), &Files::default()).unwrap();
        let address = read_word as *const () as u64;
        let region = space.find(address).unwrap();
        let exe = std::env::current_exe().unwrap();
        assert_eq!(region.mapping.path, exe.to_str().unwrap());
        assert_eq!(space.main().unwrap().mapping.path, region.mapping.path);
        assert!(region.elf.is_some());
        assert!(space.find(0x10).is_none());
    }

    #[test]
    fn reading_the_mappings_again_changes_nothing() {
        let mut space = AddressSpace::of(me(), &Files::default()).unwrap();
        let before: Vec<Mapping> = space.regions.iter().map(|r| r.mapping.clone()).collect();
        let files = space.files.borrow().len();
        space.refresh().unwrap();
        assert_eq!(before, space.regions.iter().map(|r| r.mapping.clone()).collect::<Vec<_>>());
        assert_eq!(files, space.files.borrow().len());
    }

    #[test]
    fn files_are_mapped_once_in_a_capture_and_not_after_it() {
        let (one, two) = (Sleeper::start("mapped"), Sleeper::start("mapped"));
        let held = || {
            let path = one.program.to_str().unwrap();
            proc::maps(me()).unwrap().iter().filter(|mapping| mapping.path == path).count()
        };
        let (files, mut symbols) = (Files::default(), Symbols::default());
        let open = |process: &Sleeper| AddressSpace::of(process.pid(), &files).unwrap();
        let mut look = |space: &AddressSpace| {
            let region = space.main().unwrap();
            let offset = region.file_offset(region.mapping.start + 0x123).unwrap();
            let _any = symbols.lookup(region.elf.as_ref().unwrap(), offset);
        };
        let first = open(&one);
        look(&first);
        let (mapped, known) = (held(), files.borrow().len());
        assert!((1..=2).contains(&mapped), "{mapped}: for its tables, and for its symbols");
        let second = open(&two);
        look(&second);
        let main = |space: &AddressSpace| Rc::clone(space.main().unwrap().elf.as_ref().unwrap());
        assert!(Rc::ptr_eq(&main(&first), &main(&second)));
        assert_eq!((held(), files.borrow().len()), (mapped, known), "two processes need no more than one");
        drop((first, second));
        assert!(held() > 0, "another process of it may start in this capture");
        drop((files, symbols));
        assert_eq!(held(), 0);
    }
}
