//! How large would a profile become in memory, told from its bytes alone?
//!
//! Two bytes on the wire can become a hundred in memory, so hostile bytes are measured here, without
//! allocating, before anything is decoded.

use super::{DecodeError, Limits};

/// What the bytes hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Measure {
    pub(crate) samples: usize,
    pub(crate) strings: usize,
    /// Mappings, locations, lines and functions together.
    pub(crate) entries: usize,
    /// The longest list of one sample: locations, values or labels.
    pub(crate) longest: usize,
    /// Bytes of memory the decoded profile takes, estimated from above.
    pub(crate) memory: usize,
}

/// A field of a message: its number and what it holds.
pub(super) enum Field<'a> {
    Number(u64),
    /// A number of 4 or 8 bytes, which pprof has nowhere.
    Fixed,
    Bytes(&'a [u8]),
}

/// Memory of one element: its size, doubled for the growth of vectors.
const fn cost<T>() -> usize {
    2 * size_of::<T>()
}

/// Measures `bytes` and refuses as soon as a limit is crossed.
pub(crate) fn measure(bytes: &[u8], limits: &Limits) -> Result<Measure, DecodeError> {
    let mut measure = Measure::default();
    walk(bytes, |number, field| {
        measure.profile_field(number, field, limits)?;
        measure.check(limits)
    })?;
    Ok(measure)
}

impl Measure {
    fn profile_field(&mut self, number: u64, field: Field<'_>, limits: &Limits) -> Result<(), DecodeError> {
        use crate::proto::{Function, Location, Mapping, Sample, ValueType};
        match (number, field) {
            (1 | 11, Field::Bytes(_)) => self.memory += cost::<ValueType>(),
            (2, Field::Bytes(body)) => {
                self.samples += 1;
                self.memory += cost::<Sample>();
                self.sample(body)?;
            }
            (3, Field::Bytes(_)) => self.entry(cost::<Mapping>()),
            (4, Field::Bytes(body)) => {
                self.entry(cost::<Location>());
                self.location(body)?;
            }
            (5, Field::Bytes(_)) => self.entry(cost::<Function>()),
            (6, Field::Bytes(body)) => self.string(body, limits)?,
            (13, Field::Bytes(body)) => self.memory += packed(body) * cost::<i64>(),
            (13, Field::Number(_)) => self.memory += cost::<i64>(),
            _ => {}
        }
        Ok(())
    }

    fn entry(&mut self, memory: usize) {
        self.entries += 1;
        self.memory += memory;
    }

    fn string(&mut self, body: &[u8], limits: &Limits) -> Result<(), DecodeError> {
        self.strings += 1;
        self.memory += cost::<String>() + body.len();
        if body.len() > limits.string_length {
            return Err(DecodeError::too_many("bytes in one string", body.len(), limits.string_length));
        }
        Ok(())
    }

    fn sample(&mut self, body: &[u8]) -> Result<(), DecodeError> {
        use crate::proto::Label;
        let mut lists = [0_usize; 3];
        walk(body, |number, field| {
            let (list, count) = match (number, field) {
                (1, Field::Bytes(body)) => (0, packed(body)),
                (1, Field::Number(_)) => (0, 1),
                (2, Field::Bytes(body)) => (1, packed(body)),
                (2, Field::Number(_)) => (1, 1),
                (3, Field::Bytes(_)) => (2, 1),
                _ => return Ok(()),
            };
            if let Some(sum) = lists.get_mut(list) {
                *sum += count;
            }
            Ok(())
        })?;
        let [locations, values, labels] = lists;
        // A vector of numbers begins with room for four.
        self.memory += (locations + values + 8) * cost::<u64>() + labels * cost::<Label>();
        self.longest = self.longest.max(locations).max(values).max(labels);
        Ok(())
    }

    fn location(&mut self, body: &[u8]) -> Result<(), DecodeError> {
        let mut lines = 0;
        walk(body, |number, field| {
            if let (4, Field::Bytes(_)) = (number, field) {
                lines += 1;
            }
            Ok(())
        })?;
        self.entries += lines;
        self.memory += lines * cost::<crate::proto::Line>();
        self.longest = self.longest.max(lines);
        Ok(())
    }

    fn check(&self, limits: &Limits) -> Result<(), DecodeError> {
        let bounds = [
            ("samples", self.samples, limits.samples),
            ("strings", self.strings, limits.strings),
            ("mappings, locations, lines and functions", self.entries, limits.entries),
            ("entries in one list", self.longest, limits.list_length),
            ("bytes in memory", self.memory, limits.memory_bytes),
        ];
        match bounds.into_iter().find(|(_, have, most)| have > most) {
            None => Ok(()),
            Some((what, have, most)) => Err(DecodeError::too_many(what, have, most)),
        }
    }
}

/// Calls `visit` for every field of a message.
fn walk<'a>(
    mut bytes: &'a [u8],
    mut visit: impl FnMut(u64, Field<'a>) -> Result<(), DecodeError>,
) -> Result<(), DecodeError> {
    while !bytes.is_empty() {
        let (number, field, rest) = field(bytes).ok_or(DecodeError::Malformed)?;
        visit(number, field)?;
        bytes = rest;
    }
    Ok(())
}

/// The first field of a message and what follows it; groups, which pprof does not know, are refused.
#[inline]
pub(super) fn field(bytes: &[u8]) -> Option<(u64, Field<'_>, &[u8])> {
    let (tag, rest) = varint(bytes)?;
    let (field, rest) = match tag & 7 {
        0 => {
            let (value, rest) = varint(rest)?;
            (Field::Number(value), rest)
        }
        1 => (Field::Fixed, rest.get(8..)?),
        2 => {
            let (length, rest) = varint(rest)?;
            let (body, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
            (Field::Bytes(body), rest)
        }
        5 => (Field::Fixed, rest.get(4..)?),
        _ => return None,
    };
    Some((tag >> 3, field, rest))
}

/// A number of at most 64 bits and what follows it.
#[inline]
pub(super) fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    match bytes {
        // Nearly all numbers are small.
        [low, rest @ ..] if *low < 0x80 => Some((u64::from(*low), rest)),
        [low, high, rest @ ..] if *high < 0x80 => {
            Some((u64::from(*low & 0x7f) | u64::from(*high) << 7, rest))
        }
        _ => long_varint(bytes),
    }
}

fn long_varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0_u64;
    for (position, byte) in bytes.iter().take(10).enumerate() {
        let bits = u64::from(byte & 0x7f);
        if position == 9 && bits > 1 {
            return None;
        }
        value |= bits << (7 * position);
        if byte & 0x80 == 0 {
            return Some((value, bytes.get(position + 1..)?));
        }
    }
    None
}

/// How many numbers a packed list holds.
pub(super) fn packed(body: &[u8]) -> usize {
    body.iter().filter(|byte| **byte & 0x80 == 0).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_end_within_ten_bytes() {
        assert_eq!(varint(&[0x96, 0x01, 7]), Some((150, &[7_u8][..])));
        assert_eq!(varint(&[0x80; 11]), None);
        let most = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        assert_eq!(varint(&most), Some((u64::MAX, &[][..])));
        assert_eq!(varint(&[&most[..9], &[0x02]].concat()), None, "65 bits");
        assert_eq!(varint(&[]), None);
    }

    #[test]
    fn two_bytes_that_become_many_are_counted_before_they_are_decoded() {
        let empty_samples = [0x12_u8, 0x00].repeat(1000);
        let measure = measure(&empty_samples, &Limits::default()).expect("within the limits");
        assert_eq!(measure.samples, 1000);
        assert!(measure.memory >= 1000 * size_of::<crate::proto::Sample>());
    }

    #[test]
    fn a_length_beyond_the_end_is_malformed() {
        assert!(matches!(measure(&[0x32, 0x05, b'a'], &Limits::default()), Err(DecodeError::Malformed)));
    }
}
