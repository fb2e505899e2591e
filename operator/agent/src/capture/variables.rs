//! At which address of a process is a variable of one of its programs or libraries?
//!
//! The symbol tables of the file tell, those for the linker at run time as well as those that `strip` removes.
//! The file is the target's, and the agent itself reads it, in some megabytes of memory: no more of it is read
//! than bounded tables. The crate `object` would map the file, or read as much as its header says.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::native::open_below_root;
use crate::proc::Mapping;

/// Most sections and segments of a file that are looked at.
const MAX_ENTRIES: u16 = 1024;
/// Most bytes of a table of symbols, or of their names: some hundred thousand symbols.
const MAX_TABLE: u64 = 16 << 20;
/// Bytes of a table that are held at a time: whole symbols.
const CHUNK: usize = 24 * 2048;
/// Sizes of a file's header, of a section's, a segment's, and of a symbol.
const HEADER: usize = 64;
const SECTION: u16 = 64;
const SEGMENT: u16 = 56;
const SYMBOL: usize = 24;
const PAGE: u64 = 0x1000;
/// Kinds of a segment and of sections.
const PT_LOAD: u32 = 1;
const SYMBOLS: u32 = 2;
const DYNAMIC_SYMBOLS: u32 = 11;

/// Whether the variables that a collector has to read can be found in a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Presence {
    /// Nobody looked, or the file cannot be read.
    #[default]
    Unknown,
    /// They are there.
    Found,
    /// The file has no symbol for one of them.
    Missing,
}

/// The addresses of variables in a file that a process has mapped; `None` for those that it does not name.
///
/// # Errors
/// The file cannot be read, is not a 64-bit ELF file, or its tables are too large.
pub fn addresses<const N: usize>(
    pid: i32,
    maps: &[Mapping],
    path: &str,
    names: [&str; N],
) -> io::Result<[Option<u64>; N]> {
    let elf = Elf::read(open_below_root(pid, path)?)?;
    let linked = elf.addresses(names)?;
    // The file may be mapped once more as data.
    let base = elf.base(maps.iter().filter(|mapping| mapping.executable && mapping.path == path))?;
    base.map_or_else(
        || Err(io::Error::other("the file is not mapped as it says")),
        |base| Ok(linked.map(|address| address.map(|address| address.wrapping_add(base)))),
    )
}

/// Whether a file that a process has mapped names all of these variables.
#[must_use]
pub fn presence<const N: usize>(pid: i32, maps: &[Mapping], path: &str, names: [&str; N]) -> Presence {
    match addresses(pid, maps, path, names) {
        Ok(found) if found.iter().all(Option::is_some) => Presence::Found,
        Ok(_) => Presence::Missing,
        Err(_) => Presence::Unknown,
    }
}

/// A file with its header: both architectures that the agent is built for are little endian.
struct Elf {
    file: File,
    header: [u8; HEADER],
}

/// A table of a file.
#[derive(Clone, Copy)]
struct Table {
    offset: u64,
    size: u64,
    link: u32,
    kind: u32,
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at + 2).and_then(|b| b.try_into().ok()).map_or(0, u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes)
}

impl Elf {
    fn read(file: File) -> io::Result<Self> {
        let mut header = [0; HEADER];
        file.read_exact_at(&mut header, 0)?;
        // Magic number, 64 bits, little endian.
        match header.starts_with(b"\x7fELF\x02\x01") {
            true => Ok(Self { file, header }),
            false => Err(io::Error::other("the file is not a 64-bit ELF file")),
        }
    }

    /// The entries of the table of sections or of segments, where its header says that they have this size.
    fn entries(&self, offset: u64, size: u16, entry: u16, count: u16) -> io::Result<Vec<u8>> {
        if size != entry || count > MAX_ENTRIES {
            return Err(io::Error::other("the file has too many sections"));
        }
        let mut bytes = vec![0; usize::from(size) * usize::from(count)];
        self.file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }

    fn sections(&self) -> io::Result<Vec<Table>> {
        let (offset, size, count) =
            (u64_at(&self.header, 40), u16_at(&self.header, 58), u16_at(&self.header, 60));
        let bytes = self.entries(offset, size, SECTION, count)?;
        let table = |section: &[u8]| Table {
            kind: u32_at(section, 4),
            offset: u64_at(section, 24),
            size: u64_at(section, 32),
            link: u32_at(section, 40),
        };
        Ok(bytes.chunks_exact(usize::from(SECTION)).map(table).collect())
    }

    /// What is added to addresses of the file in this process: by the first page of a segment that is mapped.
    fn base<'a>(&self, mappings: impl Iterator<Item = &'a Mapping>) -> io::Result<Option<u64>> {
        let (offset, size, count) =
            (u64_at(&self.header, 32), u16_at(&self.header, 54), u16_at(&self.header, 56));
        let bytes = self.entries(offset, size, SEGMENT, count)?;
        let is_loaded = |segment: &&[u8]| u32_at(segment, 0) == PT_LOAD;
        let page = |address: u64| address & !(PAGE - 1);
        let loaded: Vec<(u64, u64)> = bytes
            .chunks_exact(usize::from(SEGMENT))
            .filter(is_loaded)
            .map(|segment| (page(u64_at(segment, 8)), page(u64_at(segment, 16))))
            .collect();
        let base = |mapping: &Mapping| {
            let (_, address) = loaded.iter().find(|(offset, _)| *offset == mapping.offset)?;
            Some(mapping.start.wrapping_sub(*address))
        };
        Ok(mappings.filter_map(base).next())
    }

    fn addresses<const N: usize>(&self, names: [&str; N]) -> io::Result<[Option<u64>; N]> {
        let sections = self.sections()?;
        let mut found = [None; N];
        for kind in [DYNAMIC_SYMBOLS, SYMBOLS] {
            for table in sections.iter().filter(|section| section.kind == kind) {
                let strings = usize::try_from(table.link).ok().and_then(|at| sections.get(at));
                if let Some(strings) = strings {
                    self.search(*table, *strings, names, &mut found)?;
                }
            }
        }
        Ok(found)
    }

    fn search<const N: usize>(
        &self,
        table: Table,
        strings: Table,
        names: [&str; N],
        found: &mut [Option<u64>; N],
    ) -> io::Result<()> {
        if table.size > MAX_TABLE || strings.size > MAX_TABLE {
            return Err(io::Error::other("the file's table of symbols is too large"));
        }
        let mut text = vec![0; usize::try_from(strings.size).unwrap_or(0)];
        self.file.read_exact_at(&mut text, strings.offset)?;
        let (mut chunk, mut at) = (vec![0; CHUNK], 0);
        while at < table.size {
            let size = usize::try_from(table.size - at).unwrap_or(CHUNK).min(CHUNK);
            let Some(part) = chunk.get_mut(..size) else { break };
            self.file.read_exact_at(part, table.offset.saturating_add(at))?;
            part.chunks_exact(SYMBOL).for_each(|symbol| note(symbol, &text, names, found));
            at += size as u64;
        }
        Ok(())
    }
}

/// Notes the address of a symbol that has one of the names, and that is defined in this file.
fn note<const N: usize>(symbol: &[u8], text: &[u8], names: [&str; N], found: &mut [Option<u64>; N]) {
    let (name, section, address) = (u32_at(symbol, 0), u16_at(symbol, 6), u64_at(symbol, 8));
    let Some(rest) = usize::try_from(name).ok().and_then(|at| text.get(at..)) else { return };
    if section == 0 || address == 0 {
        return;
    }
    let is = |wanted: &str| rest.starts_with(wanted.as_bytes()) && rest.get(wanted.len()) == Some(&0);
    for (name, slot) in names.iter().zip(found) {
        if slot.is_none() && is(name) {
            *slot = Some(address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proc;

    /// Something to look for.
    #[used]
    #[allow(unsafe_code)]
    // SAFETY: no other program has a symbol of this name.
    #[unsafe(no_mangle)]
    static FLEETPROF_TEST_VARIABLE: u64 = 0x1122_3344;

    fn me() -> (i32, String) {
        let exe = std::env::current_exe().unwrap();
        (i32::try_from(std::process::id()).unwrap(), exe.to_str().unwrap().to_owned())
    }

    #[test]
    fn a_variable_of_this_program_is_found_where_it_is() {
        let (pid, exe) = me();
        let names = ["FLEETPROF_TEST_VARIABLE", "fleetprof_no_such_variable"];
        let found = addresses(pid, &proc::maps(pid).unwrap(), &exe, names).unwrap();
        assert_eq!(found, [Some(&raw const FLEETPROF_TEST_VARIABLE as u64), None]);
    }

    #[test]
    fn a_name_that_is_not_there_is_told_from_a_file_that_cannot_be_read() {
        let (pid, exe) = me();
        let maps = proc::maps(pid).unwrap();
        let presence = |path: &str, name: &str| presence(pid, &maps, path, [name]);
        assert_eq!(presence(&exe, "FLEETPROF_TEST_VARIABLE"), Presence::Found);
        assert_eq!(presence(&exe, "fleetprof_no_such_variable"), Presence::Missing);
        assert_eq!(presence("/etc/passwd", "x"), Presence::Unknown);
        assert_eq!(presence("/no/such/file", "x"), Presence::Unknown);
    }

    #[test]
    fn a_torn_file_is_refused() {
        let path = std::env::temp_dir().join(format!("fleetprof-variables-{}", std::process::id()));
        let mut header = [0_u8; HEADER];
        header[..6].copy_from_slice(b"\x7fELF\x02\x01");
        let mut try_with = |at: usize, bytes: &[u8]| {
            header[at..at + bytes.len()].copy_from_slice(bytes);
            std::fs::write(&path, header).unwrap();
            Elf::read(File::open(&path).unwrap()).unwrap().addresses(["x"]).map(drop)
        };
        // No entries of the right size; then entries beyond the end of the file; then far too many of them.
        assert!(try_with(58, &0_u16.to_le_bytes()).is_err());
        assert!(try_with(58, &[64, 0, 200, 0]).is_err());
        assert!(try_with(60, &[0xff, 0xff]).is_err());
        std::fs::remove_file(&path).unwrap();
    }
}
