//! Which of these names does a program export, and what number does one of them hold?
//!
//! The linker leaves a hash table for the loader (`DT_GNU_HASH`). By it a name is looked up in a dozen reads
//! of a few bytes, however large the file is: Node.js has 100 MB and a hundred thousand names. The table
//! stays when a program is stripped, and when it is packed together with an application. The file is the
//! target's: what it says is never trusted beyond the answer.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Most segments of a file, and most entries of its dynamic section, that are looked at.
const MAX_SEGMENTS: u16 = 128;
const MAX_ENTRIES: usize = 256;
/// Most names with hashes of the same bucket that are looked at.
const MAX_CHAIN: u32 = 64;
/// Longest name.
const MAX_NAME: usize = 64;
/// Sizes of a file's header, of a segment's, an entry of the dynamic section, and a symbol.
const HEADER: usize = 64;
const SEGMENT: usize = 56;
const ENTRY: usize = 16;
const SYMBOL: usize = 24;
/// Kinds of segments, and tags of the dynamic section.
const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const DT_STRTAB: u64 = 5;
const DT_SYMTAB: u64 = 6;
const DT_GNU_HASH: u64 = 0x6fff_fef5;

/// A segment that is loaded: its place in memory as linked, its place in the file, and its size there.
#[derive(Clone, Copy, Debug)]
struct Loaded {
    address: u64,
    offset: u64,
    size: u64,
}

/// The names that a program exports.
#[derive(Debug)]
pub struct Exports<'f> {
    file: &'f File,
    loaded: Vec<Loaded>,
    strings: u64,
    symbols: u64,
    table: HashTable,
}

/// Where the parts of the hash table are in the file.
#[derive(Debug)]
struct HashTable {
    buckets: u32,
    first_symbol: u32,
    filters: u32,
    shift: u32,
    filter_at: u64,
    bucket_at: u64,
    chain_at: u64,
}

fn bytes<const N: usize>(file: &File, at: u64) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    file.read_exact_at(&mut bytes, at)?;
    Ok(bytes)
}

fn u32_in(file: &File, at: u64) -> io::Result<u32> {
    bytes(file, at).map(u32::from_le_bytes)
}

fn u64_in(file: &File, at: u64) -> io::Result<u64> {
    bytes(file, at).map(u64::from_le_bytes)
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..at + N).and_then(|part| part.try_into().ok()).unwrap_or([0; N])
}

fn malformed(what: &str) -> io::Error {
    io::Error::other(format!("the program's {what} is malformed"))
}

impl<'f> Exports<'f> {
    /// The names that a 64-bit ELF file exports; `None` where it has no table of them, as a static program.
    ///
    /// # Errors
    /// The file cannot be read, or is none.
    pub fn of(file: &'f File) -> io::Result<Option<Self>> {
        let header: [u8; HEADER] = bytes(file, 0)?;
        // Magic number, 64 bits, little endian, as both architectures that the agent is built for.
        if !header.starts_with(b"\x7fELF\x02\x01") {
            return Err(malformed("header"));
        }
        let (loaded, dynamic) = segments(file, &header)?;
        let Some(dynamic) = dynamic else { return Ok(None) };
        let at = |address: Option<u64>| address.and_then(|address| place(&loaded, address));
        let tags = entries(file, dynamic)?;
        let found = |tag| at(tags.iter().find(|(have, _)| *have == tag).map(|(_, value)| *value));
        match (found(DT_STRTAB), found(DT_SYMTAB), found(DT_GNU_HASH)) {
            (Some(strings), Some(symbols), Some(hash)) => {
                let table = HashTable::at(file, hash)?;
                Ok(Some(Self { file, loaded, strings, symbols, table }))
            }
            _ => Ok(None),
        }
    }

    /// Whether the program exports a name.
    #[must_use]
    pub fn hold(&self, name: &str) -> bool {
        matches!(self.find(name), Ok(Some(_)))
    }

    /// The first four bytes of what the program exports by a name, as a number.
    #[must_use]
    pub fn u32_at(&self, name: &str) -> Option<u32> {
        let address = self.find(name).ok()??;
        u32_in(self.file, place(&self.loaded, address)?).ok()
    }

    /// The address of a name as linked.
    fn find(&self, name: &str) -> io::Result<Option<u64>> {
        let (table, hash) = (&self.table, gnu_hash(name));
        let filter = table.filter_at.saturating_add(8 * u64::from((hash / 64) % table.filters.max(1)));
        let bits = (1_u64 << (hash % 64)) | (1_u64 << ((hash >> table.shift) % 64));
        if u64_in(self.file, filter)? & bits != bits {
            return Ok(None);
        }
        let bucket = table.bucket_at.saturating_add(4 * u64::from(hash % table.buckets.max(1)));
        let first = u32_in(self.file, bucket)?;
        for symbol in first..first.saturating_add(MAX_CHAIN) {
            let Some(link) = symbol.checked_sub(table.first_symbol) else { break };
            let chained = u32_in(self.file, table.chain_at.saturating_add(4 * u64::from(link)))?;
            if chained | 1 == hash | 1
                && let Some(address) = self.address_if_named(symbol, name)?
            {
                return Ok(Some(address));
            }
            if chained & 1 == 1 {
                break;
            }
        }
        Ok(None)
    }

    /// The address of a symbol that has this name and is defined in this file.
    fn address_if_named(&self, symbol: u32, name: &str) -> io::Result<Option<u64>> {
        let at = self.symbols.saturating_add(u64::from(symbol) * SYMBOL as u64);
        let entry: [u8; SYMBOL] = bytes(self.file, at)?;
        let text = u64::from(u32::from_le_bytes(number(&entry, 0)));
        let (section, address) =
            (u16::from_le_bytes(number(&entry, 6)), u64::from_le_bytes(number(&entry, 8)));
        let mut have = [0; MAX_NAME + 1];
        let n = self.file.read_at(&mut have, self.strings.saturating_add(text))?;
        let is_named = name.len() <= MAX_NAME
            && n > name.len()
            && have.starts_with(name.as_bytes())
            && have.get(name.len()) == Some(&0);
        Ok((is_named && section != 0).then_some(address))
    }
}

impl HashTable {
    fn at(file: &File, at: u64) -> io::Result<Self> {
        let head: [u8; 16] = bytes(file, at)?;
        let word = |n: usize| u32::from_le_bytes(number(&head, 4 * n));
        let (buckets, first_symbol, filters, shift) = (word(0), word(1), word(2), word(3));
        if buckets == 0 || filters == 0 || shift >= 32 {
            return Err(malformed("hash table"));
        }
        let filter_at = at.saturating_add(16);
        let bucket_at = filter_at.saturating_add(8 * u64::from(filters));
        let chain_at = bucket_at.saturating_add(4 * u64::from(buckets));
        Ok(Self { buckets, first_symbol, filters, shift, filter_at, bucket_at, chain_at })
    }
}

/// The hash of a name, as the loader computes it.
fn gnu_hash(name: &str) -> u32 {
    name.bytes().fold(5381, |hash: u32, byte| hash.wrapping_mul(33).wrapping_add(u32::from(byte)))
}

/// Offset in the file, and size.
type Part = (u64, u64);

/// The segments that are loaded, and the dynamic section.
fn segments(file: &File, header: &[u8; HEADER]) -> io::Result<(Vec<Loaded>, Option<Part>)> {
    let offset = u64::from_le_bytes(number(header, 32));
    let (size, count) = (u16::from_le_bytes(number(header, 54)), u16::from_le_bytes(number(header, 56)));
    if usize::from(size) != SEGMENT || count > MAX_SEGMENTS {
        return Err(malformed("table of segments"));
    }
    let mut table = vec![0; SEGMENT * usize::from(count)];
    file.read_exact_at(&mut table, offset)?;
    let (mut loaded, mut dynamic) = (Vec::new(), None);
    for segment in table.chunks_exact(SEGMENT) {
        let word = |at| u64::from_le_bytes(number(segment, at));
        match u32::from_le_bytes(number(segment, 0)) {
            PT_LOAD => loaded.push(Loaded { offset: word(8), address: word(16), size: word(32) }),
            PT_DYNAMIC => dynamic = Some((word(8), word(32))),
            _ => {}
        }
    }
    Ok((loaded, dynamic))
}

/// Tags and values of the dynamic section.
fn entries(file: &File, (offset, size): Part) -> io::Result<Vec<(u64, u64)>> {
    let count = usize::try_from(size).map_or(MAX_ENTRIES, |size| (size / ENTRY).min(MAX_ENTRIES));
    let mut table = vec![0; ENTRY * count];
    file.read_exact_at(&mut table, offset)?;
    let entry = |entry: &[u8]| (u64::from_le_bytes(number(entry, 0)), u64::from_le_bytes(number(entry, 8)));
    Ok(table.chunks_exact(ENTRY).map(entry).collect())
}

/// Where in the file an address is.
fn place(loaded: &[Loaded], address: u64) -> Option<u64> {
    let in_segment = |segment: &Loaded| {
        let within = address.checked_sub(segment.address)?;
        (within < segment.size).then(|| segment.offset.checked_add(within))?
    };
    loaded.iter().find_map(in_segment)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The machine's C library: a file with a hash table, whose names are known.
    fn libc_file() -> File {
        let folders = ["/lib/x86_64-linux-gnu", "/lib/aarch64-linux-gnu", "/lib64", "/usr/lib"];
        let files = folders.iter().filter_map(|folder| File::open(format!("{folder}/libc.so.6")).ok());
        files.into_iter().next().expect("the C library")
    }

    #[test]
    fn names_are_found_and_others_are_not() {
        let file = libc_file();
        let exports = Exports::of(&file).unwrap().unwrap();
        for name in ["malloc", "pthread_create", "gnu_get_libc_version", "write"] {
            assert!(exports.hold(name), "{name}");
        }
        for name in ["", "mallo", "malloc2", "fleetprof_no_such_name", &"m".repeat(500)] {
            assert!(!exports.hold(name), "{name}");
        }
        // `_IO_2_1_stdout_` begins with the number that marks a stream.
        assert_eq!(exports.u32_at("_IO_2_1_stdout_").map(|n| n >> 16), Some(0xfbad));
        assert_eq!(exports.u32_at("fleetprof_no_such_name"), None);
    }

    #[test]
    fn the_hash_is_that_of_the_loader() {
        for (name, hash) in [("", 0x1505), ("printf", 0x156b_2bb8), ("exit", 0x7c96_7e3f)] {
            assert_eq!(gnu_hash(name), hash, "{name}");
        }
    }

    #[test]
    fn what_is_no_program_is_an_error() {
        assert!(Exports::of(&File::open("/etc/passwd").unwrap()).is_err());
        assert!(Exports::of(&File::open("/dev/null").unwrap()).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// A file whose bytes are changed anywhere in its tables is refused, or names nothing, and never
        /// more.
        #[test]
        fn damage_does_no_harm(
            at in 0_usize..200_000,
            bytes in proptest::collection::vec(any::<u8>(), 1..64),
        ) {
            let mut image = vec![0; 400_000];
            let n = libc_file().read_at(&mut image, 0).unwrap();
            image.truncate(n);
            let end = (at + bytes.len()).min(image.len());
            image[at.min(end)..end].copy_from_slice(&bytes[..end - at.min(end)]);
            let copy = File::from(
                nix::sys::memfd::memfd_create(c"image", nix::sys::memfd::MFdFlags::MFD_CLOEXEC).unwrap(),
            );
            copy.write_all_at(&image, 0).unwrap();
            if let Ok(Some(exports)) = Exports::of(&copy) {
                let _found = exports.hold("malloc") || exports.u32_at("stdout").is_some();
                prop_assert!(!exports.hold("fleetprof_no_such_name"));
            }
        }
    }
}
