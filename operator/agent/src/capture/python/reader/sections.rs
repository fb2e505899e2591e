//! What does a section of an ELF file begin with? For tables of constants, which are in the file as they are
//! in memory.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::codes::word_at;

/// Bytes of the header of a file, and of that of a section.
const HEAD: usize = 64;
/// Most sections of a file, and most bytes of their names.
const MAX_SECTIONS: usize = 1024;
const MAX_NAMES: usize = 64 << 10;

/// The first bytes of a section, whose name ends with a zero.
///
/// # Errors
/// It is not an ELF file of 64 bits, or has no such section.
pub fn beginning<const N: usize>(file: &File, name: &[u8]) -> io::Result<[u8; N]> {
    if !file.metadata()?.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut head = [0; HEAD];
    file.read_exact_at(&mut head, 0)?;
    let short =
        |at: usize| word_at(&head, at - 6).and_then(|word| usize::try_from(word >> 48).ok()).unwrap_or(0);
    let (count, names) = (short(60).min(MAX_SECTIONS), short(62));
    if !head.starts_with(b"\x7fELF\x02\x01") || short(58) != HEAD {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut sections = vec![0; count * HEAD];
    file.read_exact_at(&mut sections, word_at(&head, 40).unwrap_or(0))?;
    let section = |n: usize| sections.get(n * HEAD..(n + 1) * HEAD).ok_or(io::ErrorKind::InvalidData);
    let place = |section: &[u8]| (word_at(section, 24).unwrap_or(0), word_at(section, 32).unwrap_or(0));
    let (start, len) = place(section(names)?);
    let mut text = vec![0; usize::try_from(len).unwrap_or(MAX_NAMES).min(MAX_NAMES)];
    file.read_exact_at(&mut text, start)?;
    let is_wanted = |section: &&[u8]| {
        let at = word_at(section, 0).and_then(|word| usize::try_from(word & 0xffff_ffff).ok());
        at.and_then(|at| text.get(at..)).is_some_and(|rest| rest.starts_with(name))
    };
    let wanted = sections.chunks_exact(HEAD).find(is_wanted).ok_or(io::ErrorKind::NotFound)?;
    let mut bytes = [0; N];
    file.read_exact_at(&mut bytes, place(wanted).0)?;
    Ok(bytes)
}

/// An ELF file with one section, for tests.
#[cfg(test)]
pub fn elf(name: &[u8], bytes: &[u8]) -> Vec<u8> {
    let mut file = vec![0; HEAD * 4];
    file[..6].copy_from_slice(b"\x7fELF\x02\x01");
    file[40..48].copy_from_slice(&(HEAD as u64).to_ne_bytes());
    (file[58], file[60], file[62]) = (HEAD as u8, 3, 2);
    let mut section = |n: usize, name: u8, start: usize, len: usize| {
        let at = HEAD * (n + 1);
        file[at] = name;
        file[at + 24..at + 32].copy_from_slice(&(start as u64).to_ne_bytes());
        file[at + 32..at + 40].copy_from_slice(&(len as u64).to_ne_bytes());
    };
    section(1, 1, HEAD * 4, bytes.len());
    section(2, 0, HEAD * 4 + bytes.len(), name.len() + 1);
    [&file, bytes, &[0], name].concat()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const NAME: &[u8] = b".table\0";

    fn read(bytes: &[u8]) -> io::Result<[u8; 4]> {
        let file = File::from(nix::sys::memfd::memfd_create(c"elf", nix::sys::memfd::MFdFlags::empty())?);
        (&file).write_all(bytes)?;
        beginning(&file, NAME)
    }

    #[test]
    fn a_section_is_found_by_its_name() {
        assert_eq!(read(&elf(NAME, b"abcdef")).unwrap(), *b"abcd");
        assert_eq!(read(&elf(b".tables\0", b"abcdef")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn files_that_hold_nonsense_are_refused() {
        let whole = elf(NAME, b"abcd");
        for len in 0..whole.len() {
            assert!(read(&whole[..len]).is_err(), "{len} bytes");
        }
        for at in 0..HEAD * 4 {
            let mut file = whole.clone();
            file[at] = 0xff;
            let _either = read(&file);
        }
        assert!(beginning::<4>(&File::open("/dev/zero").unwrap(), NAME).is_err());
    }
}
