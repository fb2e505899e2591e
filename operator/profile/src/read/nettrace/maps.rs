//! Which instruction of a method (IL) was a piece of its machine code made of?

use super::bytes::Cursor;
use crate::read::ReadError;

/// What the runtime says in place of an offset.
const NO_MAPPING: i32 = -1;
const PROLOG: i32 = -2;
const EPILOG: i32 = -3;

/// Which compilation of which method.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct MethodKey {
    /// The runtime's number of the method.
    pub id: u64,
    /// Which of its compilations: each tier has another.
    pub version: u64,
}

/// The instruction that a piece of machine code was made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Il {
    /// The one at this offset in the method's body.
    Offset(u32),
    /// What a method does before its first instruction.
    Prolog,
    /// What it does after its last one.
    Epilog,
    /// Something that the compiler added.
    None,
}

impl Il {
    const fn of(number: i32) -> Self {
        match number {
            PROLOG => Self::Prolog,
            EPILOG => Self::Epilog,
            offset if offset >= 0 => Self::Offset(offset.unsigned_abs()),
            _ => Self::None,
        }
    }
}

/// The map from a method's machine code to its instructions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Map {
    /// Whose it is.
    pub key: MethodKey,
    /// Where in the machine code, in bytes from its first, which instruction begins; ascending.
    points: Box<[(u32, i32)]>,
}

impl Map {
    /// A map of such points: where in the machine code, and the offset of the instruction or what the runtime
    /// says in place of one.
    #[must_use]
    pub fn new(key: MethodKey, points: impl IntoIterator<Item = (u32, i32)>) -> Self {
        let mut points: Box<[(u32, i32)]> = points.into_iter().collect();
        // Of several at one place the last one is found: an instruction rather than nothing.
        points.sort_unstable();
        Self { key, points }
    }

    /// The content of an event about a map.
    pub(super) fn read(content: &mut Cursor<'_>) -> Result<Self, ReadError> {
        let key = MethodKey { id: content.long()?, version: content.long()? };
        let _extent = content.byte()?;
        let bytes = usize::from(content.short()?).saturating_mul(4);
        let offsets = numbers(content.take(bytes)?).map(u32::cast_signed);
        let places = numbers(content.take(bytes)?);
        Ok(Self::new(key, places.zip(offsets)))
    }

    /// The instruction at so many bytes from the first of the method.
    #[must_use]
    pub fn il(&self, place: u32) -> Il {
        let after = self.points.partition_point(|(start, _)| *start <= place);
        let point = after.checked_sub(1).and_then(|index| self.points.get(index));
        Il::of(point.map_or(NO_MAPPING, |(_, il)| *il))
    }

    /// How many points it has.
    pub(super) const fn len(&self) -> usize {
        self.points.len()
    }
}

fn numbers(bytes: &[u8]) -> impl Iterator<Item = u32> {
    bytes.chunks_exact(4).map(|four| four.try_into().map_or(0, u32::from_le_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machine_code_is_of_the_last_instruction_that_began() {
        let map =
            Map::new(MethodKey::default(), [(0, PROLOG), (20, 12), (4, 0), (20, NO_MAPPING), (30, EPILOG)]);
        let cases = [
            (0, Il::Prolog),
            (3, Il::Prolog),
            (4, Il::Offset(0)),
            (20, Il::Offset(12)),
            (29, Il::Offset(12)),
            (u32::MAX, Il::Epilog),
        ];
        for (place, wanted) in cases {
            assert_eq!(map.il(place), wanted, "{place}");
        }
        assert_eq!(Map::new(MethodKey::default(), []).il(7), Il::None);
        assert_eq!(Map::new(MethodKey::default(), [(0, NO_MAPPING)]).il(7), Il::None);
        assert_eq!(Map::new(MethodKey::default(), [(0, i32::MIN)]).il(7), Il::None);
    }

    #[test]
    fn a_map_that_says_more_than_it_has_is_damaged() {
        let event = |count: u16, rest: &[u8]| [&[0; 16][..], &[0], &count.to_le_bytes(), rest].concat();
        let whole = event(2, b"\xfe\xff\xff\xff\x06\0\0\0\0\0\0\0\x09\0\0\0");
        let map = Map::read(&mut Cursor::new(&whole, 0)).unwrap();
        assert_eq!((map.len(), map.il(8), map.il(9)), (2, Il::Prolog, Il::Offset(6)));
        for cut in 0..whole.len() {
            assert!(Map::read(&mut Cursor::new(&whole[..cut], 0)).is_err(), "{cut}");
        }
        assert!(Map::read(&mut Cursor::new(&event(u16::MAX, &[0; 64]), 0)).is_err());
    }
}
