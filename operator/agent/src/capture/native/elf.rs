//! What is in an ELF file of the target: unwind tables, build id, load segments, Go's own table, and how much
//! debug information?
//!
//! Files are opened below the target's own root, mapped, and kept open: the process may end before its last
//! slice is named.

use std::fs::File;
use std::io;
use std::ops::{Deref, Range};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;

use framehop::ExplicitModuleSectionInfo;
use memmap2::Mmap;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use object::read::elf::ElfFile64;
use object::{CompressionFormat, Object, ObjectSection};

use super::go_table::GoTable;
use super::segments::Segments;
use super::symbols::SourceLocation;
use crate::proc;

/// Largest file that is mapped.
const MAX_FILE: u64 = 1 << 30;
/// Most debug information that is read from a mapped file.
const MAX_DEBUG: u64 = 1 << 30;
/// Most debug information that is unpacked into memory.
const MAX_UNPACKED_DEBUG: u64 = 96 << 20;
/// Most bytes of a build id that are kept.
const MAX_BUILD_ID: usize = 64;

/// A part of a mapped file.
#[derive(Clone, Default)]
pub struct Part {
    map: Option<Arc<Mmap>>,
    range: Range<usize>,
}

impl Deref for Part {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.map.as_deref().and_then(|m| m.get(self.range.clone())).unwrap_or_default()
    }
}

/// An open ELF file of the target.
pub struct Elf {
    /// Number of the file within this capture.
    pub id: u32,
    /// Lower-case hex, or empty.
    pub build_id: String,
    /// Whether its debug information is small enough to be read.
    pub debug: bool,
    file: File,
    map: Arc<Mmap>,
    segments: Segments,
    sections: Vec<(String, u64, Range<usize>)>,
    go: Option<GoTable>,
}

impl Elf {
    /// Opens and reads a file that the target has mapped, by the path that the target sees.
    pub fn open(id: u32, pid: i32, path: &str) -> io::Result<Self> {
        Self::read(id, open_below_root(pid, path)?)
    }

    /// The kernel's own library in every process: the worker's is the same as the target's.
    pub fn vdso(id: u32) -> io::Result<Self> {
        Self::of_image(id, &Self::vdso_image()?)
    }

    /// The bytes of the kernel's library.
    pub(super) fn vdso_image() -> io::Result<Vec<u8>> {
        let me = i32::try_from(std::process::id()).map_err(io::Error::other)?;
        let vdso = proc::maps(me)?.into_iter().find(|m| m.path == "[vdso]").ok_or(io::ErrorKind::NotFound)?;
        let length = usize::try_from(vdso.end - vdso.start).map_err(io::Error::other)?.min(1 << 20);
        let mut image = vec![0; length];
        File::open("/proc/self/mem")?.read_exact_at(&mut image, vdso.start)?;
        Ok(image)
    }

    /// A file that is in memory.
    pub(super) fn of_image(id: u32, image: &[u8]) -> io::Result<Self> {
        let copy =
            File::from(nix::sys::memfd::memfd_create(c"image", nix::sys::memfd::MFdFlags::MFD_CLOEXEC)?);
        copy.write_all_at(image, 0)?;
        Self::read(id, copy)
    }

    fn read(id: u32, file: File) -> io::Result<Self> {
        let meta = file.metadata()?;
        if !meta.is_file() || meta.size() > MAX_FILE {
            return Err(io::Error::other("not a regular file, or larger than 1 GiB"));
        }
        let map = Arc::new(map_file(&file)?);
        // A hostile file must not end the capture: what panics is a file that cannot be read.
        catch_unwind(AssertUnwindSafe(|| Self::parse(id, file, map)))
            .unwrap_or_else(|_| Err(io::Error::other("malformed tables")))
    }

    fn parse(id: u32, file: File, map: Arc<Mmap>) -> io::Result<Self> {
        let elf = ElfFile64::<object::Endianness>::parse(&**map).map_err(io::Error::other)?;
        let endian = elf.endian();
        let segments = Segments::of(elf.elf_program_headers(), endian);
        let build_id = elf.build_id().ok().flatten().unwrap_or_default();
        let build_id = build_id.iter().take(MAX_BUILD_ID).map(|b| format!("{b:02x}")).collect();
        let sections = elf.sections().filter_map(|s| needed_section(&s)).collect();
        let debug = debug_is_small(&elf);
        let entry = elf.entry();
        let mut read =
            Self { id, build_id, debug, file, map: Arc::clone(&map), segments, sections, go: None };
        let text = read.section(".text").map_or(0, |(_, address, _)| *address);
        read.go = GoTable::parse(&read.go_table(), text, entry);
        Ok(read)
    }

    fn section(&self, name: &str) -> Option<&(String, u64, Range<usize>)> {
        self.sections.iter().find(|(n, ..)| n == name)
    }

    fn part(&self, name: &str) -> Option<Part> {
        self.section(name).map(|(.., range)| Part { map: Some(Arc::clone(&self.map)), range: range.clone() })
    }

    fn go_table(&self) -> Part {
        self.part(".gopclntab").or_else(|| self.part(".data.rel.ro.gopclntab")).unwrap_or_default()
    }

    /// The Go function at an offset of the file.
    pub fn go_location(&self, offset: u64) -> Option<SourceLocation> {
        self.go?.lookup(&self.go_table(), self.segments.address(offset)?)
    }

    /// How far the stack pointer is below the return address at an offset of the file, in a Go function.
    pub fn go_stack_depth(&self, offset: u64) -> Option<u64> {
        self.go?.stack_depth(&self.go_table(), self.segments.address(offset)?)
    }

    /// A path to the open file that does not depend on the target.
    pub fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.file.as_raw_fd()).into()
    }

    /// Which of its bytes were linked for which addresses.
    pub const fn segments(&self) -> &Segments {
        &self.segments
    }

    /// The unwind tables.
    pub fn unwind_info(&self) -> ExplicitModuleSectionInfo<Part> {
        let addresses = |name: &str| {
            self.section(name).map(|(_, address, range)| *address..address.saturating_add(range.len() as u64))
        };
        ExplicitModuleSectionInfo {
            base_svma: self.segments.base(),
            text_svma: addresses(".text"),
            text: self.part(".text"),
            got_svma: addresses(".got"),
            eh_frame_svma: addresses(".eh_frame"),
            eh_frame: self.part(".eh_frame"),
            eh_frame_hdr_svma: addresses(".eh_frame_hdr"),
            eh_frame_hdr: self.part(".eh_frame_hdr"),
            debug_frame: self.part(".debug_frame"),
            ..ExplicitModuleSectionInfo::default()
        }
    }
}

#[allow(unsafe_code)]
fn map_file(file: &File) -> io::Result<Mmap> {
    // SAFETY: the bytes are only read as plain data and every reader tolerates that they change. A target
    // that cuts the file short ends this worker by SIGBUS; the supervisor reports that, and the target runs
    // on.
    unsafe { Mmap::map(file) }
}

/// Opens a path as the target would: links in it are followed below the target's root, not ours.
pub fn open_below_root(pid: i32, path: &str) -> io::Result<File> {
    let root = File::open(format!("/proc/{pid}/root"))?;
    let how = OpenHow::new()
        .flags(OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT);
    match openat2(&root, path, how) {
        Ok(fd) => Ok(File::from(fd)),
        // Old kernels and strict seccomp profiles have no openat2.
        Err(nix::errno::Errno::ENOSYS | nix::errno::Errno::EPERM) => {
            let flags = libc::O_NONBLOCK | libc::O_NOFOLLOW;
            std::fs::OpenOptions::new().read(true).custom_flags(flags).open(format!("/proc/{pid}/root{path}"))
        }
        Err(e) => Err(e.into()),
    }
}

/// Name, address and place in the file of a section that unwinding or naming needs.
fn needed_section<'d>(section: &impl ObjectSection<'d>) -> Option<(String, u64, Range<usize>)> {
    let name = section.name().ok()?;
    let wanted = matches!(
        name,
        ".text"
            | ".got"
            | ".eh_frame"
            | ".eh_frame_hdr"
            | ".debug_frame"
            | ".gopclntab"
            | ".data.rel.ro.gopclntab"
    );
    let plain = section.compressed_file_range().is_ok_and(|r| r.format == CompressionFormat::None);
    let (offset, size) = section.file_range().filter(|_| wanted && plain)?;
    let start = usize::try_from(offset).ok()?;
    let end = start.checked_add(usize::try_from(size).ok()?)?;
    Some((name.to_owned(), section.address(), start..end))
}

fn debug_is_small(elf: &ElfFile64<'_>) -> bool {
    let (mut mapped, mut unpacked) = (0_u64, 0_u64);
    for section in elf
        .sections()
        .filter(|s| s.name().is_ok_and(|n| n.starts_with(".debug_") || n.starts_with(".zdebug_")))
    {
        match section.compressed_file_range() {
            Ok(range) if range.format == CompressionFormat::None => {
                mapped = mapped.saturating_add(range.uncompressed_size)
            }
            Ok(range) => unpacked = unpacked.saturating_add(range.uncompressed_size),
            Err(_) => return false,
        }
    }
    mapped <= MAX_DEBUG && unpacked <= MAX_UNPACKED_DEBUG
}

#[cfg(test)]
mod tests {
    use super::*;

    fn me() -> i32 {
        i32::try_from(std::process::id()).unwrap()
    }

    #[test]
    fn this_program_can_be_read() {
        let exe = std::env::current_exe().unwrap();
        let elf = Elf::open(0, me(), exe.to_str().unwrap()).unwrap();
        let info = elf.unwind_info();
        assert!(info.eh_frame.is_some_and(|d| !d.is_empty()) && info.text_svma.is_some());
        assert!(std::fs::metadata(elf.path()).unwrap().len() > 0);
    }

    #[test]
    fn the_vdso_can_be_read() {
        assert!(Elf::vdso(0).unwrap().unwind_info().eh_frame.is_some());
    }

    #[test]
    fn what_is_no_elf_file_is_an_error() {
        assert!(Elf::open(0, me(), "/etc/passwd").is_err());
        assert!(Elf::open(0, me(), "/dev/null").is_err());
        assert!(Elf::open(0, me(), "/no/such/file").is_err());
    }
}
