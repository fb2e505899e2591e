//! Which line does an instruction belong to? The location table of code objects, as Python has it since 3.11:
//! entries of one or more bytes, each for up to eight units of two bytes of code.

/// Bytes of a unit of code.
const UNIT: u32 = 2;

/// How an entry tells its line, by the bits 3 to 6 of its first byte.
enum Form {
    /// Columns alone: one byte more.
    Short,
    /// The line is so many further; two bytes more.
    OneLine(i64),
    /// The line's difference follows.
    NoColumns,
    /// The line's difference follows, and three numbers.
    Long,
    /// It has the line of the entry before.
    Nothing,
}

impl Form {
    fn of(first: u8) -> Self {
        match (first >> 3) & 15 {
            code @ 10..=12 => Self::OneLine(i64::from(code) - 10),
            13 => Self::NoColumns,
            14 => Self::Long,
            15 => Self::Nothing,
            _ => Self::Short,
        }
    }
}

/// The line of the instruction at `offset` bytes of the code: the one before where it has none of its own. `None`
/// where the table ends before it.
pub fn line_at(table: &[u8], first_line: i32, offset: u32) -> Option<i32> {
    let mut bytes = Bytes(table);
    let (mut line, mut end) = (i64::from(first_line), 0_u32);
    while let Some(first) = bytes.next() {
        line = line.saturating_add(bytes.difference(Form::of(first))?);
        end = end.saturating_add((u32::from(first & 7) + 1) * UNIT);
        if offset < end {
            return i32::try_from(line).ok().filter(|line| *line > 0);
        }
    }
    None
}

struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn skip(&mut self, n: usize) -> Option<()> {
        self.0 = self.0.get(n..)?;
        Some(())
    }

    /// By how much the line of an entry differs from the one before; what else the entry holds is skipped.
    fn difference(&mut self, form: Form) -> Option<i64> {
        match form {
            Form::Nothing => Some(0),
            Form::Short => self.skip(1).map(|()| 0),
            Form::OneLine(lines) => self.skip(2).map(|()| lines),
            Form::NoColumns => self.signed(),
            Form::Long => {
                let lines = self.signed()?;
                for _ in 0..3 {
                    self.number()?;
                }
                Some(lines)
            }
        }
    }

    /// Six bits a byte, the lowest first; bit 6 says that there is more.
    fn number(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..60).step_by(6) {
            let byte = self.next()?;
            value |= u64::from(byte & 63) << shift;
            if byte & 64 == 0 {
                return Some(value);
            }
        }
        None
    }

    /// The lowest bit is the sign.
    fn signed(&mut self) -> Option<i64> {
        let value = self.number()?;
        let size = i64::try_from(value >> 1).ok()?;
        Some(if value & 1 == 0 { size } else { -size })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn entry(code: u8, units: u8) -> u8 {
        0x80 | code << 3 | (units - 1)
    }

    #[test]
    fn every_form_of_an_entry_is_read() {
        let table = [
            [entry(13, 1), 0].as_slice(),        // the first line
            &[entry(0, 2), 0x11],                // the same
            &[entry(11, 1), 5, 9],               // one further
            &[entry(14, 3), 64 | 2, 1, 0, 3, 7], // 33 further: 66 / 2
            &[entry(13, 1), 5],                  // two back
            &[entry(15, 8)],                     // none
        ]
        .concat();
        let lines: Vec<Option<i32>> = (0..20).map(|unit| line_at(&table, 10, unit * UNIT)).collect();
        let [first, second, third, fourth] = [Some(10), Some(11), Some(44), Some(42)];
        let wanted = [first, first, first, second, third, third, third, fourth];
        assert_eq!(&lines[..8], &wanted);
        assert_eq!(&lines[8..16], &[fourth; 8]);
        assert_eq!(&lines[16..], &[None; 4]);
        assert_eq!(line_at(&table, 10, 1), first, "the second byte of a unit");
    }

    proptest! {
        #[test]
        fn no_table_is_too_odd(table in prop::collection::vec(any::<u8>(), 0..200), first in any::<i32>(), offset in any::<u32>()) {
            let _line = line_at(&table, first, offset);
        }
    }
}
