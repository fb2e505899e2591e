//! The stream of a real .NET process, whole, in parts and damaged.
//!
//! It is of `operator/agent/tests/capture/targets/Busy.cs` with `spin sleep alloc`, 0.6 s long, by .NET
//! 8.0.4: methods and allocations of the runtime (keywords 0x31, level 5), its sampler, and all methods at the
//! end. The sums below are those of a reader that shares no code with this one.

use std::io::Read;
use std::sync::OnceLock;

use proptest::prelude::*;

use super::{Allocations, Event, Il, Limits, Map, Method, MethodKey, Methods, Module, Place, Reader};
use crate::read::ReadError;
use crate::{top, total, validate};

fn dotnet8() -> &'static [u8] {
    static REAL: OnceLock<Vec<u8>> = OnceLock::new();
    REAL.get_or_init(|| {
        let packed = include_bytes!("../../../tests/recordings/dotnet8.nettrace.gz").as_slice();
        let mut bytes = Vec::new();
        flate2::read::GzDecoder::new(packed).read_to_end(&mut bytes).unwrap();
        bytes
    })
}

/// What was read of a stream.
struct Seen {
    methods: Methods,
    allocations: Allocations,
    events: [usize; 5],
    bytes: u64,
    /// Samples with a stack and without a thread.
    of_no_thread: usize,
    is_over: bool,
}

/// Reads parts of a stream one after another.
fn read_parts<'b>(parts: impl IntoIterator<Item = &'b [u8]>, limits: Limits) -> Result<Seen, ReadError> {
    let mut reader = Reader::new(limits);
    let (methods, allocations) = (Methods::new(limits), Allocations::new(limits));
    let mut seen = Seen { methods, allocations, events: [0; 5], bytes: 0, of_no_thread: 0, is_over: false };
    for part in parts {
        reader.push(part, &mut |event| match event {
            Event::Method(method) => {
                seen.methods.add(method);
                seen.events[0] += 1;
            }
            Event::Allocation { bytes, object, stack } => {
                seen.allocations.add(bytes, object, stack);
                seen.bytes = seen.bytes.saturating_add(bytes);
                seen.events[1] += 1;
            }
            Event::Map(map) => {
                seen.methods.add_map(map);
                seen.events[3] += 1;
            }
            Event::Module(module) => {
                seen.methods.add_module(module);
                seen.events[4] += 1;
            }
            Event::Sample { thread, stack } => {
                seen.of_no_thread += usize::from(thread == 0 && !stack.is_empty());
                seen.events[2] += 1;
            }
        })?;
    }
    seen.is_over = reader.is_over();
    Ok(seen)
}

impl Seen {
    fn profile(&mut self, start: i64) -> crate::Profile {
        let methods = &self.methods;
        self.allocations.take(&|address| methods.find(address).cloned().map(Place::named), start)
    }
}

fn read(bytes: &[u8]) -> Result<Seen, ReadError> {
    read_parts([bytes], Limits::default())
}

#[test]
fn methods_allocations_and_samples_are_found() {
    let mut seen = read(dotnet8()).unwrap();
    assert_eq!((seen.events, seen.bytes, seen.is_over), ([37 + 754, 981, 3148, 52, 8], 104_585_440, true));
    assert_eq!(seen.of_no_thread, 0);
    let profile = seen.profile(5);
    assert_eq!(validate(&profile), Ok(()));
    assert_eq!([0, 1].map(|index| total(&profile, index)), [104_903, 104_585_440]);
    assert_eq!(profile.time_nanos, 5);
    let row = top(&profile, 1, 1).rows.remove(0);
    assert_eq!(row.name, "Busy.Allocates");
    assert!(row.self_value > 100_000_000, "{row:?}");
    let names = |wanted: &str| profile.string_table.iter().any(|text| text == wanted);
    assert!(names("Busy.Alloc") && names("System.String.Ctor"), "{:?}", profile.string_table);
    let next = seen.profile(6);
    assert_eq!(total(&next, 1), 0, "what was taken does not come again");
}

#[test]
fn a_method_has_an_address_for_each_time_it_was_compiled() {
    let methods = read(dotnet8()).unwrap().methods;
    let guilty = methods.methods.values().filter(|method| &*method.name == "Busy.Guilty").count();
    assert!(guilty >= 2, "{guilty}");
    assert!(
        methods.methods.values().any(|method| method.name.starts_with("System.")),
        "precompiled ones as well"
    );
    let main = methods.methods.values().find(|method| &*method.name == "Busy.Main").unwrap();
    let Method { start, end, name, .. } = main;
    for (address, wanted) in [(*start, Some(name)), (end - 1, Some(name)), (start - 1, None)] {
        assert_eq!(methods.find(address).filter(|found| *found == name), wanted, "{address:x}");
    }
}

#[test]
fn machine_code_leads_to_an_instruction_of_an_assembly() {
    let methods = read(dotnet8()).unwrap().methods;
    let main = methods.methods.values().find(|method| &*method.name == "Busy.Main").unwrap();
    let code = methods.code(main.start).unwrap();
    assert_eq!((&*code.name, code.il, code.token >> 24), ("Busy.Main", Some(Il::Prolog), 0x06));
    let module = code.module.unwrap();
    assert!(module.path.ends_with("/busy.dll"), "{module:?}");
    assert_eq!(module.guid, [0; 16], "it was compiled without debug information");
    let own =
        |module: &Module| module.path.ends_with("/System.Private.CoreLib.dll") && module.guid != [0; 16];
    let mut codes = methods.methods.keys().filter_map(|start| methods.code(*start));
    let precompiled = codes.find(|code| code.module.as_deref().is_some_and(own)).unwrap();
    assert_eq!(precompiled.il, None, "no map is told of {}", precompiled.name);
    assert_eq!(methods.code(main.end), None);
}

#[test]
fn a_map_may_come_before_its_method_or_after_it_and_maps_are_bounded() {
    let mut methods = Methods::new(Limits { map_bytes: 160, modules: 1, ..Limits::default() });
    let key = |id| MethodKey { id, version: 1 };
    let method = |id: u64| Method {
        start: id * 16,
        end: id * 16 + 16,
        name: "a".into(),
        key: key(id),
        ..Method::default()
    };
    methods.add_map(Map::new(key(1), [(0, 5)]));
    methods.add(method(1));
    methods.add(method(2));
    methods.add_map(Map::new(key(2), [(0, 6)]));
    methods.add(method(3));
    methods.add_map(Map::new(key(3), [(0, 7)]));
    let il = |methods: &Methods, id: u64| methods.code(id * 16 + 15).unwrap().il;
    assert_eq!([1, 2, 3].map(|id| il(&methods, id)), [Some(Il::Offset(5)), Some(Il::Offset(6)), None]);
    assert_eq!((methods.without_map(), methods.left_out()), (1, 0));
    // The same told again keeps it; another method at its place does not, and leaves room.
    methods.add(method(1));
    methods.add_map(Map::new(key(1), [(0, 8)]));
    assert_eq!(il(&methods, 1), Some(Il::Offset(8)));
    methods.add(Method { start: 16, ..method(9) });
    methods.add_map(Map::new(key(3), [(0, 7)]));
    assert_eq!((methods.code(16).unwrap().il, il(&methods, 3)), (None, Some(Il::Offset(7))));
    for number in [0, 0, 4] {
        methods.add_module(Module { number, path: number.to_string(), ..Module::default() });
    }
    assert_eq!(methods.code(16).unwrap().module.unwrap().path, "0");
    methods.add(Method { module: 4, ..method(5) });
    assert_eq!(methods.code(80).unwrap().module, None);
}

#[test]
fn of_two_methods_at_one_place_the_later_one_is_right_and_names_are_bounded() {
    let method =
        |start, name: &str| Method { start, end: start + 16, name: name.into(), ..Method::default() };
    let mut methods = Methods::new(Limits { methods: 2, name_bytes: 8, ..Limits::default() });
    for name in ["old", "new"] {
        methods.add(method(16, name));
    }
    assert_eq!((methods.find(16).map(|name| &**name), methods.len()), (Some("new"), 1));
    methods.add(Method { start: 99, end: 99, name: "empty".into(), ..Method::default() });
    methods.add(method(64, ""));
    methods.add(method(32, "too long"));
    assert_eq!((methods.len(), methods.left_out()), (1, 1));
    methods.add(method(32, "other"));
    methods.add(method(48, ""));
    methods.add(method(48, "x"));
    assert_eq!((methods.len(), methods.left_out(), methods.find(48)), (2, 2, None));
    assert!(!methods.is_empty());
}

#[test]
fn stacks_of_allocations_are_bounded_and_nothing_is_lost() {
    let mut allocations = Allocations::new(Limits { stacks: 2, ..Limits::default() });
    for address in 0..9 {
        allocations.add(100, 30, &[address]);
    }
    allocations.add(u64::MAX, 0, &[]);
    let profile = allocations.take(&|_| None, 0);
    assert_eq!((profile.sample.len(), validate(&profile)), (2, Ok(())));
    assert_eq!(total(&profile, 0), 9 * 3 + 1);
    assert_eq!(total(&profile, 1), i64::MAX);
}

#[test]
fn what_is_no_trace_is_refused_with_the_place() {
    let refused = |bytes: &[u8]| read(bytes).map(drop).unwrap_err().to_string();
    assert!(
        refused(b"HTTP/1.1").contains("damaged at byte 0: it does not begin"),
        "{}",
        refused(b"HTTP/1.1")
    );
    assert!(read(b"Nettr").is_ok(), "more may come");
    let mut bytes = dotnet8()[..200].to_vec();
    bytes[32] = 9;
    assert!(refused(&bytes).contains("damaged at byte 32: an object does not begin"), "{}", refused(&bytes));
    // The oldest version that can read the trace, and the size of an address.
    for (place, text) in [(39, "a newer version"), (53 + 32, "addresses that do not have 64 bits")] {
        let mut bytes = dotnet8()[..200].to_vec();
        bytes[place] = 6;
        let error = refused(&bytes);
        assert!(error.contains(text) && error.contains("update the agent"), "{place}: {error}");
    }
}

#[test]
fn what_follows_the_end_is_not_looked_at() {
    let longer = [dotnet8(), b"junk"].concat();
    assert_eq!(read(&longer).unwrap().events[1], 981);
}

#[test]
fn every_limit_holds() {
    let cases = [
        ("bytes in a block, the limit is 100", Limits { block_bytes: 100, ..Limits::default() }),
        ("kinds of events, the limit is 1", Limits { kinds: 1, ..Limits::default() }),
        ("addresses in stacks, the limit is 3", Limits { addresses: 3, ..Limits::default() }),
    ];
    for (wanted, limits) in cases {
        let error = read_parts([dotnet8()], limits).map(drop).unwrap_err();
        assert!(matches!(error, ReadError::TooLarge { .. }) && error.to_string().contains(wanted), "{error}");
    }
    let small = Limits::within(1 << 20);
    assert!(small.methods < 4_000 && small.name_bytes < 1 << 19, "{small:?}");
    assert_eq!(Limits::within(usize::MAX), Limits::default());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn it_does_not_matter_in_which_parts_a_stream_comes(
        sizes in proptest::collection::vec(1..70_000_usize, 1..40),
    ) {
        let (mut rest, mut parts) = (dotnet8(), Vec::new());
        for size in sizes {
            let (part, after) = rest.split_at(size.min(rest.len()));
            parts.push(part);
            rest = after;
        }
        parts.push(rest);
        let seen = read_parts(parts, Limits::default()).unwrap();
        let whole = ([37 + 754, 981, 3148, 52, 8], 104_585_440, true);
        prop_assert_eq!((seen.events, seen.bytes, seen.is_over), whole);
    }

    #[test]
    fn a_stream_with_changed_bytes_is_read_or_refused(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        near_the_start in any::<bool>(),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = dotnet8().to_vec();
        for (at, byte) in changes {
            let at = at.index(if near_the_start { 4_000 } else { bytes.len() });
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(mut seen) = read(&bytes) {
            prop_assert_eq!(validate(&seen.profile(0)), Ok(()));
        }
    }

    #[test]
    fn any_bytes_after_the_header_are_read_or_refused(
        body in proptest::collection::vec(any::<u8>(), 0..600),
    ) {
        let bytes = [&dotnet8()[..102], &body].concat();
        let _ = read(&bytes);
    }
}
