//! How do raw stacks of a slice become named samples?

use std::collections::HashMap;

use fleetprof_profile::{Frame, LocationId, MappingId, MappingInfo};

use super::segments::Place;
use super::space::{AddressSpace, CUT, Region};
use super::symbols::Symbols;
use crate::capture::protocol::Failure;
use crate::capture::slices::Slice;

/// Different stacks of one slice that are kept apart.
const MAX_STACKS: usize = 50_000;
/// The frame for code without a file: code that a runtime made while it ran.
const ANONYMOUS: &str = "[anon]";
/// The frame for the callers that a sample does not hold.
const CUT_FRAME: &str = "[callers beyond the sampled stack]";
/// The frame for stacks beyond [`MAX_STACKS`].
const TRUNCATED: &str = "[truncated]";

/// Samples and nanoseconds of a stack.
#[derive(Clone, Copy, Default)]
struct Weight {
    samples: u64,
    nanos: u64,
}

/// The stacks since the last slice, by address.
#[derive(Default)]
pub struct Stacks {
    stacks: HashMap<Vec<u64>, Weight>,
    overflow: Weight,
    /// Samples of all slices in code that a runtime made and does not name.
    unnamed: u64,
}

impl Stacks {
    /// Adds one sample that is worth `nanos` of CPU time.
    pub fn add(&mut self, stack: Vec<u64>, nanos: u64) {
        let full = self.stacks.len() >= MAX_STACKS && !self.stacks.contains_key(&stack);
        let weight = if full { &mut self.overflow } else { self.stacks.entry(stack).or_default() };
        weight.samples += 1;
        weight.nanos = weight.nanos.saturating_add(nanos);
    }

    /// Samples in code that a runtime made and does not name, of all slices so far.
    pub fn unnamed(&self) -> u64 {
        self.unnamed
    }

    /// Whether an address of these stacks lies in no known mapping.
    pub fn leave(&self, space: &AddressSpace) -> bool {
        self.stacks.keys().filter_map(|s| s.first()).any(|a| space.find(*a).is_none())
    }

    /// Names the stacks and moves them into a slice; calls `meanwhile` again and again, since that takes
    /// time.
    pub fn drain(
        &mut self,
        space: &AddressSpace,
        symbols: &mut Symbols,
        slice: &mut Slice<'_>,
        meanwhile: &mut dyn FnMut(),
    ) -> Result<(), Failure> {
        let mut naming = Naming { space, symbols, mappings: HashMap::new(), locations: HashMap::new() };
        if let Some(main) = space.main() {
            naming.place(main, main.mapping.start, slice);
        }
        let mut stacks: Vec<(Vec<u64>, Weight)> = self.stacks.drain().collect();
        stacks.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        for (stack, weight) in stacks {
            meanwhile();
            if stack.first().is_some_and(|leaf| in_memory(space, *leaf) && space.jit_name(*leaf).is_none()) {
                self.unnamed += weight.samples;
            }
            let locations: Vec<LocationId> = stack.iter().map(|a| naming.location(*a, slice)).collect();
            slice.add_locations(&locations, weight.samples, weight.nanos)?;
        }
        let overflow = std::mem::take(&mut self.overflow);
        if overflow.samples > 0 {
            slice.add(&[Frame::named(TRUNCATED, "", 0)], overflow.samples, overflow.nanos)?;
        }
        Ok(())
    }
}

/// What was named for one slice so far.
struct Naming<'a> {
    space: &'a AddressSpace,
    symbols: &'a mut Symbols,
    /// By the start of a region, and of the segment in it where there is one.
    mappings: HashMap<(u64, Option<u64>), MappingId>,
    locations: HashMap<u64, LocationId>,
}

impl Naming<'_> {
    /// Where an address is in the profile: its mapping and its address there, by the rules of
    /// [`MappingInfo`].
    fn place(&mut self, region: &Region, address: u64, slice: &mut Slice<'_>) -> (u64, MappingId) {
        let mapping = &region.mapping;
        let linked = region.place(address);
        let key = (mapping.start, linked.as_ref().map(|place| place.segment.start));
        let build_id = region.elf.as_ref().filter(|_| linked.is_some()).map_or("", |elf| &elf.build_id);
        let Place { address, segment, offset } =
            linked.unwrap_or(Place { address, segment: mapping.start..mapping.end, offset: mapping.offset });
        let add = || {
            slice.builder().mapping(&MappingInfo {
                memory_start: segment.start,
                memory_limit: segment.end,
                file_offset: offset,
                file: &mapping.path,
                build_id,
            })
        };
        (address, *self.mappings.entry(key).or_insert_with(add))
    }

    fn location(&mut self, address: u64, slice: &mut Slice<'_>) -> LocationId {
        if let Some(known) = self.locations.get(&address) {
            return *known;
        }
        let location = self.name(address, slice);
        self.locations.insert(address, location);
        location
    }

    fn name(&mut self, address: u64, slice: &mut Slice<'_>) -> LocationId {
        if address == CUT {
            return slice.builder().location(&Frame::named(CUT_FRAME, "", 0));
        }
        let space = self.space;
        if let Some(place) = space.told(address) {
            return slice.builder().location(&place.frame());
        }
        let region = space.find(address).filter(|_| !in_memory(space, address));
        let Some(region) = region else {
            let name = space.jit_name(address);
            return slice.builder().location(&Frame::named(name.as_deref().unwrap_or(ANONYMOUS), "", 0));
        };
        let (elf, offset) = (region.elf.as_ref(), region.file_offset(address));
        let symbol = elf.zip(offset).and_then(|(elf, offset)| self.symbols.lookup(elf, offset));
        let (address, mapping) = self.place(region, address, slice);
        match symbol {
            Some(symbol) => slice.builder().location(&symbol.frame(address, Some(mapping))),
            None => slice.builder().location(&Frame::unsymbolized(address, Some(mapping))),
        }
    }
}

/// Whether an address lies in no file: a runtime may keep its code in memory, or in a file in memory.
fn in_memory(space: &AddressSpace, address: u64) -> bool {
    let in_file = |path: &str| path.starts_with('/') && !path.starts_with("/memfd:");
    space.find(address).is_none_or(|r| r.elf.is_none() && !in_file(&r.mapping.path))
}

#[cfg(test)]
mod tests {
    use fleetprof_profile::{ProfileBuilder, ProfileKind};

    use super::super::sleeper::Sleeper;
    use super::super::space::Files;
    use super::*;

    #[test]
    fn equal_stacks_are_one_and_too_many_are_counted_together() {
        let mut stacks = Stacks::default();
        for n in 0..MAX_STACKS as u64 + 3 {
            stacks.add(vec![n], 10);
        }
        stacks.add(vec![0], 5);
        assert_eq!(stacks.stacks.len(), MAX_STACKS);
        assert_eq!((stacks.stacks[&vec![0]].samples, stacks.stacks[&vec![0]].nanos), (2, 15));
        assert_eq!((stacks.overflow.samples, stacks.overflow.nanos), (3, 30));
    }

    /// A sample in the first page of code of a process's program.
    fn sampled(process: &Sleeper, files: &Files, symbols: &mut Symbols, slice: &mut Slice<'_>) -> u64 {
        let space = AddressSpace::of(process.pid(), files).unwrap();
        let address = space.main().unwrap().mapping.start + 0x123;
        let mut stacks = Stacks::default();
        stacks.add(vec![address], 10);
        stacks.drain(&space, symbols, slice, &mut || {}).unwrap();
        address
    }

    #[test]
    fn two_processes_of_a_program_have_one_location() {
        let (one, two) = (Sleeper::start("located"), Sleeper::start("located"));
        let (files, mut symbols) = (Files::default(), Symbols::default());
        let mut slice = Slice::new(ProfileKind::Cpu, 10, 0, Vec::new());
        let addresses = [&one, &two].map(|process| sampled(process, &files, &mut symbols, &mut slice));
        assert_ne!(
            addresses[0], addresses[1],
            "the kernel lays processes out at random (randomize_va_space)"
        );
        let fresh = ProfileBuilder::new(ProfileKind::Cpu, 10, 0);
        let profile = std::mem::replace(slice.builder(), fresh).finish(1, &[]);
        assert_eq!((profile.mapping.len(), profile.location.len(), profile.sample.len()), (1, 1, 1));
        let (mapping, location) = (&profile.mapping[0], &profile.location[0]);
        assert!(mapping.build_id != 0 && location.address < 0x100_0000, "{mapping:?} {location:?}");
        assert_eq!(location.address, mapping.memory_start + 0x123);
        assert_eq!(profile.sample[0].value, [2, 20]);
    }

    #[test]
    fn what_is_no_elf_file_keeps_the_addresses_of_the_process() {
        let mapping = crate::proc::Mapping {
            start: 0x7000_0000,
            end: 0x7001_0000,
            executable: true,
            offset: 0x3000,
            inode: 7,
            path: "/app/classes.dll".to_owned(),
        };
        let me = i32::try_from(std::process::id()).unwrap();
        let (space, mut symbols) = (AddressSpace::of(me, &Files::default()).unwrap(), Symbols::default());
        let mut slice = Slice::new(ProfileKind::Cpu, 10, 0, Vec::new());
        let (mappings, locations) = (HashMap::new(), HashMap::new());
        let mut naming = Naming { space: &space, symbols: &mut symbols, mappings, locations };
        let (address, _) = naming.place(&Region { mapping, elf: None }, 0x7000_0456, &mut slice);
        assert_eq!(address, 0x7000_0456);
        let fresh = ProfileBuilder::new(ProfileKind::Cpu, 10, 0);
        let profile = std::mem::replace(slice.builder(), fresh).finish(1, &[]);
        let mapping = &profile.mapping[0];
        assert_eq!((mapping.memory_start, mapping.memory_limit), (0x7000_0000, 0x7001_0000));
        assert_eq!((mapping.file_offset, mapping.build_id), (0x3000, 0));
    }
}
