//! For which address was a byte of an ELF file linked?

use std::ops::Range;

use object::read::elf::ProgramHeader;

const PAGE: u64 = 0x1000;
/// Most segments of a file that are kept.
const MAX_SEGMENTS: usize = 64;

/// A segment that is loaded into memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Where it starts in the file.
    pub offset: u64,
    /// Bytes of it in the file.
    pub size: u64,
    /// The address it was linked for.
    pub address: u64,
    /// Whether code in it can run.
    pub executable: bool,
}

impl Segment {
    fn end(&self) -> u64 {
        self.offset.saturating_add(self.size)
    }

    /// Its bytes in the file, and what is loaded with them: whole pages.
    fn pages(&self) -> Range<u64> {
        let end = self.end().max(1).checked_next_multiple_of(PAGE).unwrap_or(u64::MAX);
        self.offset & !(PAGE - 1)..end
    }
}

/// Where a byte of a file was linked to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its address.
    pub address: u64,
    /// The pages of its segment.
    pub segment: Range<u64>,
    /// Where these pages start in the file.
    pub offset: u64,
}

/// The segments of a file that are loaded.
#[derive(Clone, Debug, Default)]
pub struct Segments(Vec<Segment>);

impl Segments {
    /// Those among the program headers of a file, the first 64.
    pub fn of<H: ProgramHeader>(headers: &[H], endian: H::Endian) -> Self {
        let load = headers.iter().filter(|h| h.p_type(endian) == object::elf::PT_LOAD);
        let segment = |h: &H| Segment {
            offset: h.p_offset(endian).into(),
            size: h.p_filesz(endian).into(),
            address: h.p_vaddr(endian).into(),
            executable: h.p_flags(endian).contains(object::elf::PF_X),
        };
        Self(load.map(segment).take(MAX_SEGMENTS).collect())
    }

    /// The segment that holds an offset. Where pages of two are loaded from the same page of the file, it is
    /// the one with code, as everything here is about code.
    fn find(&self, offset: u64) -> Option<&Segment> {
        let exact = |s: &Segment| (s.offset..s.end()).contains(&offset);
        let holding = self.0.iter().filter(|s| s.pages().contains(&offset));
        holding.max_by_key(|s| (s.executable, exact(s), s.offset))
    }

    /// The address that an offset of the file was linked for.
    pub fn address(&self, offset: u64) -> Option<u64> {
        let segment = self.find(offset)?;
        Some(segment.address.wrapping_sub(segment.offset).wrapping_add(offset))
    }

    /// The same with the pages of the segment; none where these lie outside of what can be addressed.
    pub fn place(&self, offset: u64) -> Option<Place> {
        let segment = self.find(offset)?;
        let pages = segment.pages();
        let start = segment.address.checked_sub(segment.offset - pages.start)?;
        Some(Place {
            address: start.checked_add(offset - pages.start)?,
            segment: start..start.checked_add(pages.end - pages.start)?,
            offset: pages.start,
        })
    }

    /// How far a mapping at `start` with file offset `offset` was moved from where it was linked for.
    pub fn bias(&self, start: u64, offset: u64) -> Option<u64> {
        Some(start.wrapping_sub(self.address(offset)?))
    }

    /// Lowest address that the file was linked for.
    pub fn base(&self) -> u64 {
        self.0.iter().map(|s| s.address & !(PAGE - 1)).min().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(offset: u64, size: u64, address: u64, executable: bool) -> Segment {
        Segment { offset, size, address, executable }
    }

    /// As ld.lld lays out: segments share pages of the file, and lie a page apart in memory.
    fn packed() -> Segments {
        Segments(vec![
            segment(0, 0x1500, 0x40_0000, false),
            segment(0x1500, 0x2000, 0x40_2500, true),
            segment(0x3500, 0x300, 0x40_5500, false),
        ])
    }

    #[test]
    fn the_bias_is_found_by_the_segment_that_holds_the_offset() {
        let segments = packed();
        assert_eq!(segments.bias(0x40_0000, 0), Some(0));
        assert_eq!(segments.bias(0x40_2000, 0x1000), Some(0));
        assert_eq!(segments.bias(0x7f00_0000_2000, 0x1000), Some(0x7f00_0000_2000 - 0x40_2000));
        assert_eq!(segments.bias(0x7f00_0000_2000, 0x9000), None);
        assert_eq!(segments.base(), 0x40_0000);
    }

    #[test]
    fn a_place_is_in_the_pages_of_its_segment() {
        let code = |address| Place { address, segment: 0x40_2000..0x40_5000, offset: 0x1000 };
        let segments = packed();
        assert_eq!(segments.place(0x1500), Some(code(0x40_2500)));
        assert_eq!(segments.place(0x34ff), Some(code(0x40_44ff)), "data starts in the same page of the file");
        assert_eq!(segments.place(0x9000), None);
        let first = Segments(vec![segment(0, 0x800, 0, true)]);
        assert_eq!(first.place(0x10), Some(Place { address: 0x10, segment: 0..0x1000, offset: 0 }));
    }

    /// What `go tool pprof` and others compute from a mapping, the file and an address.
    fn resolved(place: &Place, of: &Segment) -> u64 {
        let loaded_at = place.segment.start.wrapping_sub(place.offset).wrapping_add(of.offset);
        place.address.wrapping_sub(loaded_at.wrapping_sub(of.address))
    }

    #[test]
    fn who_computes_where_the_file_was_loaded_gets_the_same_address() {
        for of in [
            segment(0, 0x5000, 0, true),
            segment(0x1000, 0x5000, 0x1000, true),
            segment(0x1500, 0x5000, 0x2500, true),
            segment(0x1000, 0x5000, 0x40_1000, true),
            segment(0x20_0000, 0x5000, 0x7000_0020_0000, true),
        ] {
            let segments = Segments(vec![of]);
            for offset in [of.offset, of.offset + 0x123, of.offset + 0x4fff] {
                let place = segments.place(offset).unwrap();
                assert_eq!(place.address, of.address + (offset - of.offset));
                assert_eq!(resolved(&place, &of), place.address, "{of:?}");
                assert_eq!(
                    place.address - place.segment.start + place.offset,
                    offset,
                    "the place in the file"
                );
                assert!(place.segment.contains(&place.address));
                assert_eq!(
                    (place.segment.start % PAGE, place.segment.end % PAGE, place.offset % PAGE),
                    (0, 0, 0)
                );
            }
        }
    }

    #[test]
    fn impossible_segments_have_no_place() {
        for of in [
            segment(0x1500, u64::MAX, 0x100, true),
            segment(0x1000, 0x1000, u64::MAX - 10, true),
            segment(u64::MAX, u64::MAX, u64::MAX, true),
            segment(0, u64::MAX, 1, true),
        ] {
            let segments = Segments(vec![of]);
            for offset in [0, 0x1000, 0x1600, u64::MAX - 1, u64::MAX] {
                let place = segments.place(offset);
                assert!(place.is_none_or(|p| p.segment.contains(&p.address)), "{of:?} {offset}");
                let _any = (segments.bias(offset, offset), segments.base());
            }
        }
    }
}
