//! What is the name of addresses in a file? Read in a process of its own, as the file may be anybody's.
//!
//! ```text
//! open ─► is it the file that is meant, and small enough? ─► load ─► no new files from here on ─► look up
//! ```

use std::fs::File;
use std::os::fd::AsRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use addr2line::Loader;
use fleetprof_profile::Line;
use fleetprof_profile::demangle::demangle;
use fleetprof_profile::elf::{ReadCache, facts, hex};
use fleetprof_profile::resolve::FileNames;
use object::{BinaryFormat, CompressionFormat, Object, ObjectSection};

use super::protocol::{Answer, Question, Supplement, Unread};

/// Largest file, in bytes: it is mapped, not read into memory.
pub(super) const MAX_FILE: u64 = 2 << 30;
/// Most debug information that is unpacked into memory, in bytes.
const MAX_UNPACKED: u64 = 96 << 20;
/// Most functions at one address that are looked at.
const MAX_INLINED: usize = 256;
/// Longest path of a supplement in an answer.
const MAX_PATH: usize = 1024;

/// Answers a question. `close` is called between opening files and reading what is in them.
pub(super) fn answer(question: &Question, close: impl FnOnce()) -> Answer {
    // What panics is a file that cannot be read.
    let looked = catch_unwind(AssertUnwindSafe(|| look(question, close)));
    looked
        .unwrap_or_else(|_| Err(Unread::Useless("its debug information is malformed".to_owned())))
        .unwrap_or_else(|why| match why {
            Unread::Useless(why) => Answer::Refused(why),
            Unread::Unable(why) => Answer::Unable(why),
        })
}

fn look(question: &Question, close: impl FnOnce()) -> Result<Answer, Unread> {
    let file = open(&question.file)?;
    let other = check(&file, &question.build_id).map_err(Unread::Useless)?;
    if question.check {
        close();
        return can_name(&file).map(|()| Answer::Usable).map_err(Unread::Useless);
    }
    let supplement = match (&question.supplement, other) {
        (Supplement::Unknown, Some((path, build_id))) => return Ok(Answer::Needs { path, build_id }),
        // Without a usable one there are still the names that the file itself holds.
        (Supplement::File(path, build_id), Some(_)) => {
            open(path).ok().filter(|file| check(file, build_id).is_ok())
        }
        _ => None,
    };
    let loader = Loader::new_with_sup(of_descriptor(&file), supplement.as_ref().map(of_descriptor))
        .map_err(|error| Unread::Useless(format!("its symbols cannot be read ({error})")))?;
    close();
    Ok(Answer::Named(names(&loader, &question.addresses)))
}

/// A file that is not there may be evicted from the cache: that says nothing of what was in it.
fn open(path: &Path) -> Result<File, Unread> {
    let file = File::open(path).map_err(|error| format!("it cannot be opened ({error})"))?;
    let meta = file.metadata().map_err(|error| format!("it cannot be read ({error})"))?;
    if !meta.is_file() {
        return Err(Unread::Useless("it is not a regular file".to_owned()));
    }
    match meta.len() {
        0..=MAX_FILE => Ok(file),
        bytes => {
            let why = format!("it has {} MiB, and the most is {} MiB", bytes >> 20, MAX_FILE >> 20);
            Err(Unread::Useless(why))
        }
    }
}

/// The file that is open, and no other that was put at its path since.
fn of_descriptor(file: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// Whether this is the file with that build id, and can be read in bounded memory. Tells its supplement.
fn check(file: &File, build_id: &str) -> Result<Option<(String, String)>, String> {
    let cache = ReadCache::new(file);
    let object = object::File::parse(&cache).ok().filter(|object| object.format() == BinaryFormat::Elf);
    let object = object.ok_or("it is not a whole ELF file")?;
    let own = object.build_id().map_err(|error| format!("its build id cannot be read ({error})"))?;
    match own.map(hex) {
        Some(own) if own == build_id => {}
        Some(own) => return Err(format!("it is the file of build id {}", own.get(..64).unwrap_or(&own))),
        None => return Err("it has no build id, so it may be any file".to_owned()),
    }
    is_small_enough(&object)?;
    let other = object.gnu_debugaltlink().ok().flatten();
    Ok(other.map(|(path, id)| {
        let path = path.get(..MAX_PATH).unwrap_or(path);
        (String::from_utf8_lossy(path).into_owned(), hex(id.get(..32).unwrap_or(id)))
    }))
}

/// Whether there is anything in the file that names functions.
fn can_name(file: &File) -> Result<(), String> {
    match facts(&ReadCache::new(file)).is_some_and(|facts| facts.has_symbols) {
        true => Ok(()),
        false => Err("it has neither debug information nor a table of symbols".to_owned()),
    }
}

fn is_small_enough<'a>(object: &impl Object<'a>) -> Result<(), String> {
    let packed = |section: &dyn Fn() -> object::Result<object::CompressedFileRange>| {
        section().ok().filter(|range| range.format != CompressionFormat::None)
    };
    let unpacked = object.sections().filter_map(|section| packed(&|| section.compressed_file_range()));
    let bytes = unpacked.fold(0_u64, |sum, range| sum.saturating_add(range.uncompressed_size));
    if bytes > MAX_UNPACKED {
        return Err(format!(
            "its debug information is compressed and has {} MiB unpacked, of which {} MiB can be held: store it \
             uncompressed (objcopy --decompress-debug-sections)",
            bytes >> 20,
            MAX_UNPACKED >> 20
        ));
    }
    Ok(())
}

fn names(loader: &Loader, addresses: &[u64]) -> FileNames {
    let mut names = FileNames::default();
    for address in addresses {
        // Damaged debug information of one function costs the lines of this function.
        let guarded = catch_unwind(AssertUnwindSafe(|| at(loader, *address)));
        if let Some(found) = guarded.unwrap_or_default() {
            let lines: Vec<Line<'_>> = found.lines.iter().map(Function::line).collect();
            names.add(*address, found.exact, &lines);
        }
    }
    names
}

/// What stands at an address, innermost first.
struct Found {
    exact: bool,
    lines: Vec<Function>,
}

#[derive(Default)]
struct Function {
    name: String,
    system_name: String,
    file: String,
    line: u32,
}

impl Function {
    fn named(raw: &str) -> Self {
        let demangled = demangle(raw);
        let system_name = demangled.as_ref().map(|_| raw.to_owned()).unwrap_or_default();
        Self { name: demangled.unwrap_or_else(|| raw.to_owned()), system_name, ..Self::default() }
    }

    fn line(&self) -> Line<'_> {
        Line {
            function: &self.name,
            system_name: &self.system_name,
            file: &self.file,
            line: i64::from(self.line),
            start_line: 0,
        }
    }
}

fn at(loader: &Loader, address: u64) -> Option<Found> {
    let mut lines = of_debug_information(loader, address);
    let symbol = loader.find_symbol(address).filter(|name| !name.is_empty() && !name.starts_with('$'));
    let exact = lines.iter().any(|line| line.line > 0);
    if let Some(outer) = lines.last_mut().filter(|outer| outer.name.is_empty()) {
        let Function { name, system_name, .. } = symbol.map(Function::named).unwrap_or_default();
        (outer.name, outer.system_name) = (name, system_name);
    }
    // An inlined function without a name, as where the supplement is nowhere, belongs to who called it.
    lines.retain(|line| !line.name.is_empty());
    if lines.is_empty() {
        return symbol.map(|name| Found { exact: false, lines: vec![Function::named(name)] });
    }
    Some(Found { exact, lines })
}

fn of_debug_information(loader: &Loader, address: u64) -> Vec<Function> {
    let mut lines = Vec::new();
    let Ok(mut frames) = loader.find_frames(address) else { return lines };
    while let Ok(Some(frame)) = frames.next() {
        let name = frame.function.as_ref().and_then(|function| function.raw_name().ok());
        let named = name.map(|name| Function::named(&name)).unwrap_or_default();
        let place = frame.location;
        lines.push(Function {
            file: place.as_ref().and_then(|place| place.file).unwrap_or_default().to_owned(),
            line: place.and_then(|place| place.line).unwrap_or(0),
            ..named
        });
        if lines.len() >= MAX_INLINED {
            break;
        }
    }
    lines
}
