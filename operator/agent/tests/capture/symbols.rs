//! Can frames that the capture could not name be named later, with the symbols?
//!
//! The target is a program as images hold it: stripped, but for three functions that it exports. Its twin
//! with symbols is what a resolver finds by the build id.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use fleetprof_profile::proto::{Location, Mapping};
use fleetprof_profile::{Overlap, Profile, merge};

use crate::container::{Container, capture_busy};
use crate::worker::{NATIVE, Outcome, Target, Worker, compiled, directory, request, source};

/// A program, and the same one with symbols.
struct Program {
    stripped: PathBuf,
    whole: PathBuf,
    build_id: String,
}

/// Compiles `exports.c` with these flags.
fn exports(flags: &[&str]) -> Program {
    let directory = directory();
    let (stripped, whole) = (directory.join("exports"), directory.join("whole"));
    let run = |command: &mut Command| assert!(command.status().unwrap().success(), "{command:?}");
    let common = ["-O2", "-fomit-frame-pointer", "-g", "-fvisibility=hidden", "-rdynamic", "-Wl,--build-id"];
    run(Command::new("gcc").args(common).args(flags).arg("-o").arg(&whole).arg(source("exports.c")));
    run(Command::new("strip").arg("-o").arg(&stripped).arg(&whole));
    let build_id = build_id(&whole);
    Program { stripped, whole, build_id }
}

fn text(profile: &Profile, index: i64) -> &str {
    &profile.string_table[usize::try_from(index).unwrap()]
}

fn mapping_of<'a>(profile: &'a Profile, location: &Location) -> Option<&'a Mapping> {
    profile.mapping.iter().find(|mapping| mapping.id == location.mapping_id)
}

fn build_id(file: &Path) -> String {
    let notes = Command::new("readelf").arg("-n").arg(file).output().unwrap();
    let notes = String::from_utf8(notes.stdout).unwrap();
    notes.split_once("Build ID: ").unwrap().1.lines().next().unwrap().to_owned()
}

/// The function at an address of a file, by `addr2line`.
fn function_at(file: &Path, address: u64) -> String {
    let output =
        Command::new("addr2line").args(["-f", "-e"]).arg(file).arg(format!("{address:#x}")).output().unwrap();
    String::from_utf8(output.stdout).unwrap().lines().next().unwrap().to_owned()
}

/// What a function is called after a resolver has been at work, or nothing where it does not look.
///
/// Its rules: a mapping that has functions is done, a name that is there stays, and all others are looked up
/// by build id and the location's address as it is.
fn resolved(profile: &Profile, location: &Location, program: &Program) -> Option<String> {
    let function = |id: u64| profile.function.iter().find(|function| function.id == id);
    if let Some(line) = location.line.first() {
        return function(line.function_id).map(|function| text(profile, function.name).to_owned());
    }
    let mapping = mapping_of(profile, location)?;
    let is_there = text(profile, mapping.build_id) == program.build_id;
    (!mapping.has_functions && is_there).then(|| function_at(&program.whole, location.address))
}

/// The chains of calls in the program's own functions, leaf first, as that resolver would show them.
fn chains(profile: &Profile, program: &Program) -> BTreeSet<Vec<String>> {
    let own = |location: &&Location| {
        let mapping = mapping_of(profile, location);
        mapping.is_some_and(|m| text(profile, m.filename) == program.stripped.to_str().unwrap())
    };
    let named = |id: &u64| {
        let location = profile.location.iter().find(|location| location.id == *id).filter(own)?;
        let name = resolved(profile, location, program);
        Some(name.unwrap_or_else(|| panic!("left without a name: {location:?} {:?}", profile.mapping)))
    };
    profile.sample.iter().map(|s| s.location_id.iter().filter_map(named).collect()).collect()
}

/// Nothing but the calls that the program makes, whatever moment they were seen at.
fn are_calls_of_the_program(chains: &BTreeSet<Vec<String>>) {
    let calls =
        ["hidden_leaf hidden_middle exported_outer main _start", "exported_leaf exported_other main _start"]
            .map(|call| call.split(' ').map(str::to_owned).collect::<Vec<String>>());
    let is_call = |chain: &Vec<String>| calls.iter().any(|call| call.ends_with(chain));
    assert!(chains.iter().all(is_call), "{chains:#?}");
    assert!(calls.iter().all(|call| chains.contains(call)), "{chains:#?}");
}

/// `go tool pprof` computes addresses: it takes the program for the file of the first mapping, and where that
/// was loaded from its start.
fn pprof_names_it(outcome: &Outcome, program: &Program) {
    let mut pprof = Command::new("go");
    pprof.args(["tool", "pprof", "-symbolize=local", "-top", "-nodefraction=0"]).arg(&program.whole);
    let output = pprof.args(outcome.files()).output().unwrap();
    let top = String::from_utf8_lossy(&output.stdout);
    for name in ["hidden_leaf", "hidden_middle", "exported_outer", "exported_leaf", "exported_other"] {
        assert!(top.lines().any(|line| line.ends_with(&format!(" {name}"))), "{name}: {output:?}\n{top}");
    }
    let hottest = top.lines().skip_while(|line| !line.trim_start().starts_with("flat")).nth(1).unwrap();
    assert!(hottest.ends_with(" hidden_leaf") || hottest.ends_with(" exported_leaf"), "{top}");
}

fn capture(program: &Program) -> Outcome {
    let target = Target::start(&mut Command::new(&program.stripped));
    let outcome = Worker::start(&[], &request(target.pid(), NATIVE, 2500)).finish();
    assert!(outcome.finished().slices >= 1, "{outcome:?}");
    outcome
}

fn can_be_named(flags: &[&str]) {
    let program = exports(flags);
    let outcome = capture(&program);
    let profile = merge(&outcome.profiles(), Overlap::Sequential).unwrap();
    let without = profile.location.iter().filter(|location| location.line.is_empty()).count();
    let named = profile.location.len() - without;
    assert!(without > 2 && named > 2, "{without} without and {named} with a name: {flags:?}");
    assert!(!profile.mapping[0].has_functions, "three names are not all: {:?}", profile.mapping);
    are_calls_of_the_program(&chains(&profile, &program));
    pprof_names_it(&outcome, &program);
    let mut plain = Command::new("go");
    plain.args(["tool", "pprof", "-symbolize=none", "-top"]).args(outcome.files());
    let plain = plain.output().unwrap();
    assert!(plain.status.success() && plain.stderr.is_empty(), "no complaint: {plain:?}");
    let plain = String::from_utf8(plain.stdout).unwrap();
    assert!(plain.contains("exported_leaf") && plain.contains("[exports]"), "{plain}");
}

#[test]
fn a_program_that_is_loaded_anywhere_can_be_named_later() {
    can_be_named(&["-pie", "-fPIE"]);
}

#[test]
fn a_program_with_a_fixed_address_can_be_named_later() {
    can_be_named(&["-no-pie", "-fno-PIE"]);
}

#[test]
fn a_program_whose_code_begins_with_the_file_can_be_named_later() {
    can_be_named(&["-pie", "-fPIE", "-Wl,-z,noseparate-code"]);
}

#[test]
fn a_program_linked_for_other_addresses_than_its_offsets_can_be_named_later() {
    can_be_named(&["-pie", "-fPIE", "-Wl,-Ttext-segment=0x10000000"]);
}

#[test]
fn processes_of_a_program_are_in_one_mapping_with_the_same_locations() {
    let program = exports(&["-pie", "-fPIE"]);
    let path = program.stripped.to_str().unwrap();
    let container = Container::new();
    let targets = [container.start(&[path]), container.start(&[path])];
    let outcome = capture_busy(&container, &targets[0], 3000);
    assert_eq!(outcome.finished().cover.unwrap().processes, 2, "{:?}", outcome.finished());
    let profile = merge(&outcome.profiles(), Overlap::Sequential).unwrap();
    let of_program = |mapping: &&Mapping| text(&profile, mapping.filename) == path;
    let mappings: Vec<&Mapping> = profile.mapping.iter().filter(of_program).collect();
    assert_eq!(mappings.len(), 1, "{:?}", profile.mapping);
    let locations = profile.location.iter().filter(|location| location.mapping_id == mappings[0].id);
    let addresses: Vec<u64> = locations.map(|location| location.address).collect();
    let different: BTreeSet<u64> = addresses.iter().copied().collect();
    assert_eq!(different.len(), addresses.len(), "each place is there once: {addresses:x?}");
    assert!(different.iter().all(|address| *address < 0x10_0000), "as linked: {addresses:x?}");
    are_calls_of_the_program(&chains(&profile, &program));
}

/// The line of `inlined.c` that is marked as this function's.
fn line_of(function: &str) -> i64 {
    let mark = format!("// line of {function}");
    let line = include_str!("targets/inlined.c").lines().position(|line| line.ends_with(&mark)).unwrap();
    i64::try_from(line + 1).unwrap()
}

#[test]
fn inlined_functions_have_their_names_and_lines() {
    let target = Target::start(&mut Command::new(compiled("inlined")));
    let outcome = Worker::start(&[], &request(target.pid(), NATIVE, 2500)).finish();
    let profile = merge(&outcome.profiles(), Overlap::Sequential).unwrap();
    let lines = |location: &Location| -> Vec<(String, i64)> {
        let line = |line: &fleetprof_profile::proto::Line| {
            let function = profile.function.iter().find(|f| f.id == line.function_id).unwrap();
            let here = text(&profile, function.filename).ends_with("inlined.c");
            (text(&profile, function.name).to_owned(), if here { line.line } else { 0 })
        };
        location.line.iter().map(line).collect()
    };
    let wanted = ["innermost", "middle", "outer"].map(|name| (name.to_owned(), line_of(name)));
    let (mut inlined, mut all) = (0, 0);
    for sample in &profile.sample {
        let leaf = profile.location.iter().find(|location| Some(&location.id) == sample.location_id.first());
        all += sample.value[1];
        inlined += leaf.filter(|leaf| lines(leaf) == wanted).map_or(0, |_| sample.value[1]);
    }
    assert!(inlined * 2 > all, "{inlined} of {all}: {}", outcome.pprof(&["-traces", "-lines"]));
}
