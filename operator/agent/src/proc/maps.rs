//! What is mapped into a process, according to `/proc/PID/maps`?

use std::io;

use super::read_bounded;

/// Most bytes read of `/proc/PID/maps`: about 40,000 mappings.
const MAX_BYTES: u64 = 4 * 1024 * 1024;
/// Most mappings that are kept.
const MAX_MAPPINGS: usize = 65_536;

/// One line of `/proc/PID/maps`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Mapping {
    /// First address.
    pub start: u64,
    /// First address after it.
    pub end: u64,
    /// Whether code in it can run.
    pub executable: bool,
    /// Offset of the first address in the file.
    pub offset: u64,
    /// Inode of the file; 0 for memory without a file.
    pub inode: u64,
    /// Path as the target sees it, `[vdso]` and the like, or empty.
    pub path: String,
}

impl Mapping {
    /// The path, where the mapping is of a file that still has this name.
    pub fn file(&self) -> Option<&str> {
        let named = self.path.starts_with('/') && self.inode != 0;
        (named && !self.path.ends_with(" (deleted)")).then_some(self.path.as_str())
    }
}

/// The mappings in the text of `/proc/PID/maps`; malformed lines are left out.
pub fn parse_maps(text: &str) -> Vec<Mapping> {
    text.lines().filter_map(parse_mapping).take(MAX_MAPPINGS).collect()
}

fn parse_mapping(line: &str) -> Option<Mapping> {
    let mut rest = line;
    let mut field = || -> Option<&str> {
        let trimmed = rest.trim_start_matches(' ');
        let end = trimmed.find(' ').unwrap_or(trimmed.len());
        let (head, tail) = trimmed.split_at(end);
        rest = tail;
        (!head.is_empty()).then_some(head)
    };
    let (range, perms, offset, _device, inode) = (field()?, field()?, field()?, field()?, field()?);
    let (start, end) = range.split_once('-')?;
    let mapping = Mapping {
        start: u64::from_str_radix(start, 16).ok()?,
        end: u64::from_str_radix(end, 16).ok()?,
        executable: perms.as_bytes().get(2) == Some(&b'x'),
        offset: u64::from_str_radix(offset, 16).ok()?,
        inode: inode.parse().ok()?,
        path: rest.trim_start_matches(' ').to_owned(),
    };
    (mapping.start < mapping.end).then_some(mapping)
}

/// The mappings of a process. Errors when the process is gone or may not be looked at.
pub fn maps(pid: i32) -> io::Result<Vec<Mapping>> {
    let bytes = read_bounded(format!("/proc/{pid}/maps"), MAX_BYTES)?;
    Ok(parse_maps(&String::from_utf8_lossy(&bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_with_and_without_files() {
        let text = "55d0c0000000-55d0c0001000 r-xp 00002000 fd:01 42                         /app/my server\n\
                    7f00-8000 rw-p 00000000 00:00 0 \n\
                    7ffd000-7ffe000 r-xp 00000000 00:00 0                          [vdso]\n\
                    1000-2000 r-xp 00000000 fd:01 7 /lib/old.so (deleted)\n\
                    nonsense\n\
                    9-1 r-xp 0 0:0 0\n";
        let maps = parse_maps(text);
        assert_eq!(maps.len(), 4);
        assert_eq!(
            (maps[0].file(), maps[0].executable, maps[0].offset),
            (Some("/app/my server"), true, 0x2000)
        );
        assert_eq!((maps[1].file(), maps[1].executable, maps[1].path.as_str()), (None, false, ""));
        assert_eq!(maps[2].path, "[vdso]");
        assert_eq!(maps[3].file(), None);
    }
}
