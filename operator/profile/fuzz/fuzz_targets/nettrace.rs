//! The stream of a .NET process: is it read or refused, in whatever parts it comes, and is a profile sound?

#![no_main]

use fleetprof_profile::read::nettrace::{Allocations, Event, Limits, Methods, Place, Reader};
use fleetprof_profile::validate;
use libfuzzer_sys::fuzz_target;

/// Random bytes are hardly ever the header of an object, so that the fuzzer gives blocks, and these get one.
fn stream(blocks: &[u8]) -> Vec<u8> {
    let mut bytes = b"Nettrace\x14\0\0\0!FastSerialization.1".to_vec();
    for block in blocks.split(|byte| *byte == 0xf5) {
        let (which, content) = block.split_first().unwrap_or((&0, &[]));
        let names: [&[u8]; 5] = [b"MetadataBlock", b"StackBlock", b"EventBlock", b"SPBlock", b"Other"];
        let name = names[usize::from(*which) % names.len()];
        bytes.extend_from_slice(b"\x05\x05\x01\x02\0\0\0\0\0\0\0");
        bytes.extend_from_slice(&(name.len() as u32).to_le_bytes());
        bytes.extend_from_slice(name);
        bytes.push(6);
        bytes.extend_from_slice(&(content.len() as u32).to_le_bytes());
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes.extend_from_slice(content);
        bytes.push(6);
    }
    bytes.push(1);
    bytes
}

fn read(bytes: &[u8], part: usize, limits: Limits) -> bool {
    let (mut methods, mut allocations) = (Methods::new(limits), Allocations::new(limits));
    let mut reader = Reader::new(limits);
    let mut sink = |event: Event<'_>| match event {
        Event::Method(method) => methods.add(method),
        Event::Allocation { bytes, object, stack } => allocations.add(bytes, object, stack),
        Event::Map(map) => methods.add_map(map),
        Event::Module(module) => methods.add_module(module),
        Event::Sample { .. } => {}
    };
    let is_good = bytes.chunks(part).all(|part| reader.push(part, &mut sink).is_ok());
    let place = |address| {
        let code = methods.code(address)?;
        let _files = code.module.map(|module| module.symbol_files());
        Some(Place::named(code.name))
    };
    assert_eq!(validate(&allocations.take(&place, 0)), Ok(()));
    is_good
}

fuzz_target!(|bytes: &[u8]| {
    let bounds = Limits { block_bytes: 1 << 20, kinds: 100, addresses: 10_000, ..Limits::default() };
    let limits = Limits { stacks: 100, ..bounds };
    for input in [bytes, &stream(bytes)] {
        let whole = read(input, usize::MAX, limits);
        assert_eq!(read(input, 7, limits), whole, "in parts");
    }
});
