//! Are functions of stripped programs named afterwards, by files that may be anything?
//!
//! The files are those that compilers, `objcopy` and `dwz` make, and the process that reads them is the operator's
//! own program.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod programs;
mod server;
mod stored;
mod uploads;

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fleetprof_operator::symbols::{Config, Found, Symbols};
use fleetprof_profile::Profile;
use fleetprof_profile::resolve::{lacking, name};
use tokio::sync::Semaphore;

use programs::{Program, place, run, shown, text};

/// What is asked for names: the operator's program, with a volume.
fn symbols(volume: &Path) -> Symbols {
    let config: Config = serde_yaml::from_str(&format!("volume: {}", volume.display())).unwrap();
    Symbols::new(&config, volume, PathBuf::from(env!("CARGO_BIN_EXE_fleetprof-operator")))
}

/// The memory of one reader.
fn memory() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(1))
}

async fn find(volume: &Path, profile: &Profile) -> Found {
    symbols(volume).find(&lacking(profile), &memory(), 1 << 30).await
}

/// The profile with the names that are found, and those that are not.
async fn named(volume: &Path, mut profile: Profile) -> (Profile, Found) {
    let found = find(volume, &profile).await;
    name(&mut profile, &found.names);
    (profile, found)
}

/// Why the file of a program is of no use.
async fn refused(volume: &Path, program: &Program) -> String {
    let found = find(volume, &program.profile(std::iter::once(0x1200))).await;
    assert!(found.names.is_empty(), "{found:?}");
    found.failed[&program.build_id].clone()
}

/// Every location is in the function, and one has the other inlined.
fn are_in(shown: &[Vec<String>], function: &str, file: &str, inlined: &str) {
    let outer = format!("{function} {file}:");
    assert!(
        shown.iter().all(|lines| lines.last().is_some_and(|line| line.starts_with(&outer))),
        "{shown:#?}"
    );
    let whole = |lines: &Vec<String>| lines.len() > 1 && lines[0].starts_with(&format!("{inlined} {file}:"));
    assert!(shown.iter().any(whole), "{shown:#?}");
}

#[tokio::test]
async fn the_guilty_function_of_a_stripped_program_of_cpp_has_name_file_and_line() {
    let folder = tempfile::tempdir().unwrap();
    let program = Program::cpp(folder.path(), "shop");
    program.symbols(folder.path());
    let (profile, found) = named(folder.path(), program.profile(program.function("Basket"))).await;
    assert!(found.failed.is_empty(), "{found:?}");
    are_in(&shown(&profile), "shop::Basket::total(unsigned long)", "shop.cpp", "discount");
    let mapping = &profile.mapping[0];
    assert!(mapping.has_functions && mapping.has_filenames && mapping.has_line_numbers, "{mapping:?}");
    let lines: Vec<u32> =
        shown(&profile).iter().map(|lines| lines[0].rsplit(':').next().unwrap().parse().unwrap()).collect();
    assert!(lines.iter().any(|line| (12..=19).contains(line)), "{lines:?}");
}

#[tokio::test]
async fn the_guilty_function_of_a_stripped_program_of_rust_has_name_file_and_line() {
    let folder = tempfile::tempdir().unwrap();
    let program = Program::rust(folder.path());
    program.symbols(folder.path());
    let (profile, found) = named(folder.path(), program.profile(program.function("basket5total"))).await;
    assert!(found.failed.is_empty(), "{found:?}");
    let all = shown(&profile);
    assert!(
        all.iter().all(|lines| lines.last().unwrap().starts_with("shop::basket::total shop.rs:")),
        "{all:#?}"
    );
    let inlined =
        |lines: &Vec<String>| lines.iter().any(|line| line.starts_with("shop::basket::discount shop.rs:"));
    assert!(all.iter().any(inlined), "{all:#?}");
}

#[tokio::test]
async fn a_file_with_a_table_of_symbols_alone_gives_names() {
    let folder = tempfile::tempdir().unwrap();
    let program = Program::cpp(folder.path(), "shop");
    run(
        "strip",
        &["--strip-debug", "-o", text(&place(folder.path(), &program.build_id)), text(&program.whole)],
    );
    let (profile, _) = named(folder.path(), program.profile(program.function("Basket"))).await;
    assert!(shown(&profile).iter().all(|lines| lines == &["shop::Basket::total(unsigned long) :0"]));
    assert!(profile.mapping[0].has_functions && !profile.mapping[0].has_line_numbers);
}

#[tokio::test]
async fn compressed_debug_information_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let program = Program::cpp(folder.path(), "shop");
    let path = program.symbols(folder.path());
    run("objcopy", &["--compress-debug-sections=zlib", text(&path)]);
    let (profile, _) = named(folder.path(), program.profile(program.function("Basket"))).await;
    are_in(&shown(&profile), "shop::Basket::total(unsigned long)", "shop.cpp", "discount");
}

/// Two programs whose common debug information `dwz` moves to a third file, as Debian does for its packages.
fn with_supplement(volume: &Path, written: &str) -> (Program, PathBuf) {
    // Equal programs have equal build ids, so the second one is told another.
    let one = Program::cpp(volume, "one");
    let paths =
        [one.symbols(volume), Program::cpp_with_id(volume, "two", "0123456789abcdef").symbols(volume)];
    let common = volume.join("common.debug");
    run("dwz", &["-m", text(&common), "-M", written, text(&paths[0]), text(&paths[1])]);
    assert!(run("readelf", &["-S", text(&paths[0])]).contains(".gnu_debugaltlink"), "dwz split it");
    (one, common)
}

#[tokio::test]
async fn a_file_that_dwz_split_is_read_with_its_supplement() {
    let folder = tempfile::tempdir().unwrap();
    let (program, common) = with_supplement(folder.path(), "/usr/lib/debug/.dwz/x86_64-linux-gnu/shop.debug");
    let home = folder.path().join(".dwz/x86_64-linux-gnu");
    std::fs::create_dir_all(&home).unwrap();
    std::fs::rename(&common, home.join("shop.debug")).unwrap();
    let (profile, found) = named(folder.path(), program.profile(program.function("Basket"))).await;
    assert!(found.failed.is_empty(), "{found:?}");
    are_in(&shown(&profile), "shop::Basket::total(unsigned long)", "shop.cpp", "discount");
}

#[tokio::test]
async fn without_the_supplement_there_are_the_names_that_the_symbols_have() {
    let folder = tempfile::tempdir().unwrap();
    let (program, common) = with_supplement(folder.path(), "/usr/lib/debug/.dwz/shop.debug");
    std::fs::remove_file(common).unwrap();
    let (profile, found) = named(folder.path(), program.profile(program.function("Basket"))).await;
    assert!(found.failed.is_empty(), "{found:?}");
    let all = shown(&profile);
    assert!(
        all.iter().all(|lines| lines.last().unwrap().starts_with("shop::Basket::total(unsigned long)")),
        "{all:#?}"
    );
}

#[tokio::test]
async fn a_wrong_file_under_a_right_build_id_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (program, other) = (Program::cpp(folder.path(), "shop"), Program::rust(folder.path()));
    let path = place(folder.path(), &program.build_id);
    std::fs::copy(&other.whole, &path).unwrap();
    let why = refused(folder.path(), &program).await;
    let wanted =
        format!("the file on the symbols volume is of no use: it is the file of build id {}", other.build_id);
    assert_eq!(why, wanted);
    run("objcopy", &["--remove-section=.note.gnu.build-id", text(&program.whole), text(&path)]);
    assert!(refused(folder.path(), &program).await.ends_with("it has no build id, so it may be any file"));
    std::fs::write(&path, "#!/bin/sh\n").unwrap();
    assert!(refused(folder.path(), &program).await.ends_with("it is not a whole ELF file"));
    std::fs::remove_file(&path).unwrap();
    assert_eq!(refused(folder.path(), &program).await, "the symbols volume does not have its symbols");
}

#[tokio::test]
async fn a_damaged_file_costs_its_names_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let program = Program::cpp(folder.path(), "shop");
    let path = program.symbols(folder.path());
    let whole = std::fs::read(&path).unwrap();
    let symbols = symbols(folder.path());
    let asked = lacking(&program.profile(program.function("Basket")));
    let mut seed = 7_u64;
    let mut next = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(seed >> 33).unwrap()
    };
    let mut named = 0;
    for round in 0..60 {
        let mut damaged = whole.clone();
        for _ in 0..=round {
            let at = next() % damaged.len();
            damaged[at] = u8::try_from(next() % 256).unwrap();
        }
        damaged.truncate(if round % 5 == 0 { next() % whole.len() } else { whole.len() });
        std::fs::write(&path, &damaged).unwrap();
        let start = Instant::now();
        let found = symbols.find(&asked, &memory(), 0).await;
        // Half a minute is what reading may take, however slow the machine; the rest is for starting and ending.
        assert!(start.elapsed() < Duration::from_secs(60), "round {round}: {:?}", start.elapsed());
        named += found.names.len();
        assert_eq!(found.names.len() + found.failed.len(), 1, "one or the other: {found:?}");
    }
    assert!(named > 5, "some damaged files can still be read: {named}");
}

#[tokio::test]
async fn a_file_that_takes_all_memory_ends_the_process_that_reads_it() {
    let folder = tempfile::tempdir().unwrap();
    let program = Program::units(folder.path());
    std::fs::copy(&program.whole, place(folder.path(), &program.build_id)).unwrap();
    let late = |why: &str| why.contains("was not read within") || why.contains("took longer than");
    let mut why = refused(folder.path(), &program).await;
    // A machine that has much else to do may not come that far in half a minute.
    for _ in 0..4 {
        if late(&why) {
            why = refused(folder.path(), &program).await;
        }
    }
    assert!(why.contains("takes more than 224 MiB of memory"), "{why}");
}

/// Compresses debug information, and has it say that it unpacks to so many bytes.
fn unpacks_to(path: &Path, bytes: u64) {
    run("objcopy", &["--compress-debug-sections=zlib", text(path)]);
    let image = std::fs::read(path).unwrap();
    let number = |at: u64| u64::from_le_bytes(image[usize::try_from(at).unwrap()..][..8].try_into().unwrap());
    let (headers, count) = (number(0x28), u64::from(image[0x3c]));
    let is_packed = |n: &u64| number(headers + n * 64 + 8) & 0x800 != 0;
    let section = (0..count).find(is_packed).expect("a compressed section");
    let contents = number(headers + section * 64 + 0x18);
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    // `ch_size` of its header says what it unpacks to.
    file.write_all_at(&bytes.to_le_bytes(), contents + 8).unwrap();
}

#[tokio::test]
async fn debug_information_that_unpacks_to_too_much_is_refused_before_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let program = Program::cpp(folder.path(), "shop");
    unpacks_to(&program.symbols(folder.path()), 1 << 40);
    let why = refused(folder.path(), &program).await;
    assert!(why.contains("of which 96 MiB can be held: store it uncompressed"), "{why}");
}

#[tokio::test]
async fn nothing_is_asked_without_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let program = Program::cpp(folder.path(), "shop");
    program.symbols(folder.path());
    let asked = lacking(&program.profile(program.function("Basket")));
    let off = Symbols::default();
    assert!(!off.may_name(&asked));
    let found = off.find(&asked, &memory(), 0).await;
    assert!(found.names.is_empty() && found.failed.is_empty());
    assert!(symbols(folder.path()).may_name(&asked));
}

#[tokio::test]
async fn whether_there_may_be_names_is_told_without_a_look_at_the_volume() {
    let folder = tempfile::tempdir().unwrap();
    let program = Program::cpp(folder.path(), "shop");
    let symbols = symbols(folder.path());
    let asked = lacking(&program.profile(program.function("Basket")));
    assert!(symbols.may_name(&asked), "nobody looked so far");
    let found = symbols.find(&asked, &memory(), 0).await;
    assert_eq!(found.failed[&program.build_id], "the symbols volume does not have its symbols");
    program.symbols(folder.path());
    assert!(!symbols.may_name(&asked), "it was not there a moment ago");
    let found = symbols.find(&asked, &memory(), 0).await;
    assert_eq!(found.names.len(), 1, "asking for names looks at the volume again: {found:?}");
}
