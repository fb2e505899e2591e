//! Programs as images hold them, and their files with symbols as an administrator lays them out.

use std::path::{Path, PathBuf};
use std::process::Command;

use fleetprof_profile::{Frame, MappingInfo, Profile, ProfileBuilder, ProfileKind};

/// Runs a program of the toolchain.
pub fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}; tests/symbols.sh installs it"));
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn source(name: &str) -> String {
    format!("{}/tests/symbols/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// A program with its symbols, as the compiler made it.
pub struct Program {
    pub whole: PathBuf,
    pub build_id: String,
}

impl Program {
    /// The C++ program.
    pub fn cpp(folder: &Path, name: &str) -> Self {
        let whole = folder.join(name);
        run("g++", &["-O2", "-g", "-Wl,--build-id", "-o", text(&whole), &source("shop.cpp")]);
        Self::of(whole)
    }

    /// The same with this build id.
    pub fn cpp_with_id(folder: &Path, name: &str, build_id: &str) -> Self {
        let whole = folder.join(name);
        let id = format!("-Wl,--build-id=0x{build_id}");
        run("g++", &["-O2", "-g", &id, "-o", text(&whole), &source("shop.cpp")]);
        Self::of(whole)
    }

    /// A program with too many units of debug information.
    pub fn units(folder: &Path) -> Self {
        let whole = folder.join("units");
        run("gcc", &["-Wl,--build-id", "-o", text(&whole), &source("units.s")]);
        Self::of(whole)
    }

    /// The Rust program.
    pub fn rust(folder: &Path) -> Self {
        let whole = folder.join("shop-rs");
        let flags = ["--edition=2021", "-O", "-g", "-C", "link-arg=-Wl,--build-id", "-o"];
        run("rustc", &[&flags[..], &[text(&whole), &source("shop.rs")]].concat());
        Self::of(whole)
    }

    /// A file with a build id.
    pub fn of(whole: PathBuf) -> Self {
        let notes = run("readelf", &["-n", text(&whole)]);
        let build_id = notes.split_once("Build ID: ").unwrap().1.lines().next().unwrap().to_owned();
        Self { whole, build_id }
    }

    /// Lays its symbols out on a volume, and says where they lie.
    pub fn symbols(&self, volume: &Path) -> PathBuf {
        let path = place(volume, &self.build_id);
        run("objcopy", &["--only-keep-debug", text(&self.whole), text(&path)]);
        path
    }

    /// The addresses of a function, of which the symbol holds this word.
    pub fn function(&self, word: &str) -> std::ops::Range<u64> {
        let table = run("nm", &["-S", text(&self.whole)]);
        let line =
            table.lines().find(|line| line.contains(word)).unwrap_or_else(|| panic!("{word}: {table}"));
        let mut numbers = line.split(' ').map(|number| u64::from_str_radix(number, 16).unwrap());
        let (start, bytes) = (numbers.next().unwrap(), numbers.next().unwrap());
        start..start + bytes
    }

    /// A profile of the stripped program: a sample at each of these addresses.
    pub fn profile(&self, addresses: impl Iterator<Item = u64>) -> Profile {
        let mut builder = ProfileBuilder::new(ProfileKind::Cpu, 10_000_000, 0);
        let mapping = builder.mapping(&MappingInfo {
            memory_start: 0,
            memory_limit: 1 << 40,
            file_offset: 0,
            file: "/app/shop",
            build_id: &self.build_id,
        });
        for address in addresses {
            builder.add_hits(&[Frame::unsymbolized(address, Some(mapping))], 1, &[]).unwrap();
        }
        builder.finish(1_000_000_000, &[])
    }
}

/// Where the file of a build id lies; the folder is made.
pub fn place(volume: &Path, build_id: &str) -> PathBuf {
    let (first, rest) = build_id.split_at(2);
    let folder = volume.join(".build-id").join(first);
    std::fs::create_dir_all(&folder).unwrap();
    folder.join(format!("{rest}.debug"))
}

/// The functions at each location with the last part of their file and their line, innermost first.
pub fn shown(profile: &Profile) -> Vec<Vec<String>> {
    let text = |index: i64| profile.string_table[usize::try_from(index).unwrap()].as_str();
    let line = |line: &fleetprof_profile::proto::Line| {
        let function = profile.function.iter().find(|function| function.id == line.function_id).unwrap();
        let file = text(function.filename).rsplit('/').next().unwrap();
        format!("{} {file}:{}", text(function.name), line.line)
    };
    profile.location.iter().map(|location| location.line.iter().map(line).collect()).collect()
}
