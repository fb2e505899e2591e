//! Does a Go program hold the handlers of `net/http/pprof`? The names in the table for tracebacks show it;
//! every Go program has that table, stripped or not.
//!
//! The file is read and not mapped: a target that cuts it short must not end the process that looks.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use object::{Object, ObjectSection, ReadCache};

use crate::capture::native::go_names;

/// The function that answers `/debug/pprof/`, by its name in the table.
const HANDLER: &[u8] = b"\0net/http/pprof.Index\0";
/// Most bytes of names that are read: ten times those of the largest programs.
const MAX_NAMES: u64 = 256 << 20;
/// Bytes read at a time.
const CHUNK: usize = 256 << 10;
/// Bytes of the table's header.
const HEADER: usize = 72;

/// Whether the program of a process can serve its profiles. Errors where it may not be read.
pub fn can_serve(pid: i32) -> io::Result<bool> {
    in_file(File::open(format!("/proc/{pid}/exe"))?)
}

fn in_file(file: File) -> io::Result<bool> {
    let names = names(&file)?;
    names.map_or(Ok(false), |names| holds(&file, names, HANDLER))
}

/// The part of the file that holds the names of functions; `None` without a table of Go 1.18 or newer.
fn names(file: &File) -> io::Result<Option<Range<u64>>> {
    let cache = ReadCache::new(file.try_clone()?);
    let Ok(elf) = object::File::parse(&cache) else { return Ok(None) };
    let section = [".gopclntab", ".data.rel.ro.gopclntab"].iter().find_map(|name| elf.section_by_name(name));
    let Some((start, size)) = section.and_then(|section| section.file_range()) else { return Ok(None) };
    let mut header = [0; HEADER];
    file.read_exact_at(&mut header, start)?;
    let within = |range: Range<u64>| {
        let end = range.end.min(size).min(range.start.saturating_add(MAX_NAMES));
        Some(start.checked_add(range.start)?..start.checked_add(end)?)
    };
    Ok(go_names(&header).and_then(within))
}

/// Whether a part of a file holds a text.
fn holds(file: &File, part: Range<u64>, text: &[u8]) -> io::Result<bool> {
    let mut buffer = vec![0; CHUNK + text.len()];
    let (mut at, mut kept) = (part.start, 0);
    while at < part.end {
        let room = buffer.get_mut(kept..).unwrap_or_default();
        let wanted = room.len().min(usize::try_from(part.end - at).unwrap_or(usize::MAX));
        let read = file.read_at(room.get_mut(..wanted).unwrap_or_default(), at)?;
        if read == 0 {
            break;
        }
        at = at.saturating_add(read as u64);
        let filled = buffer.get(..kept + read).unwrap_or_default();
        if filled.windows(text.len()).any(|window| window == text) {
            return Ok(true);
        }
        // The text may cross the border of two reads.
        let tail = filled.len().min(text.len() - 1);
        let from = filled.len() - tail;
        buffer.copy_within(from..from + tail, 0);
        kept = tail;
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn file(bytes: &[u8]) -> File {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let n = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("fleetprof-program-{}-{n}", std::process::id()));
        let mut file =
            File::options().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
        std::fs::remove_file(path).unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    #[test]
    fn a_text_is_found_wherever_it_is_and_only_within_its_part() {
        let text = b"needle";
        for at in [0, 5, CHUNK - 3, CHUNK, CHUNK + 3, 2 * CHUNK + 1, 3 * CHUNK - 6] {
            let mut bytes = vec![b'.'; 3 * CHUNK];
            bytes[at..at + text.len()].copy_from_slice(text);
            let file = file(&bytes);
            let (start, end) = (at as u64, (at + text.len()) as u64);
            assert!(holds(&file, 0..bytes.len() as u64, text).unwrap(), "{at}");
            assert!(holds(&file, start..end, text).unwrap(), "{at}");
            assert!(!holds(&file, 0..end - 1, text).unwrap(), "{at}");
            assert!(!holds(&file, start + 1..bytes.len() as u64, text).unwrap(), "{at}");
        }
        assert!(!holds(&file(b"short"), 0..u64::MAX, text).unwrap(), "a part longer than its file");
    }

    #[test]
    fn a_file_that_is_not_a_go_program_has_no_handlers() {
        assert!(!in_file(file(b"#!/bin/sh\n")).unwrap());
        assert!(!in_file(File::open("/proc/self/exe").unwrap()).unwrap());
    }
}
