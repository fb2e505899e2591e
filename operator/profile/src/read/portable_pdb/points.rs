//! At which instructions of a method does a new line begin (sequence points)?

use super::bytes::Cursor;
use super::{damaged, too_large};
use crate::read::ReadError;

/// Most sequence points of a method that are read; a method of ten thousand lines has about as many.
const MAX_POINTS: usize = 20_000;

/// An instruction at which another line begins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Point {
    /// Where it is in the method's body, in bytes.
    pub(super) il: u32,
    /// The line; 0 where the compiler hides the instruction.
    pub(super) line: u32,
    /// The row of its document.
    pub(super) document: u32,
}

/// The sequence points of a method of a document; 0 where they say that themselves.
pub(super) fn read(mut blob: Cursor<'_>, document: u32) -> Result<Vec<Point>, ReadError> {
    let _locals = blob.number()?;
    let document = if document == 0 { blob.number()? } else { document };
    let mut last = Point { document, ..Point::default() };
    let (mut points, mut line) = (Vec::new(), None);
    while blob.left() > 0 {
        let at = blob.place();
        let delta = blob.number()?;
        if delta == 0 && !points.is_empty() {
            last.document = blob.number()?;
            continue;
        }
        let il = last.il.checked_add(delta);
        last.il = il.ok_or_else(|| damaged(at, "an instruction is beyond every method"))?;
        last.line = begun(&mut blob, &mut line)?;
        if points.len() >= MAX_POINTS {
            return Err(too_large("sequence points in a method", points.len() + 1, MAX_POINTS));
        }
        points.push(last);
    }
    Ok(points)
}

/// The line on which a sequence point begins. It is told from that of the last one that is not hidden.
fn begun(blob: &mut Cursor<'_>, last: &mut Option<i64>) -> Result<u32, ReadError> {
    let at = blob.place();
    let lines = blob.number()?;
    let columns = if lines == 0 { i64::from(blob.number()?) } else { blob.signed()? };
    if lines == 0 && columns == 0 {
        return Ok(0);
    }
    let line = match *last {
        None => {
            let line = i64::from(blob.number()?);
            let _column = blob.number()?;
            line
        }
        Some(before) => {
            let line = before.saturating_add(blob.signed()?);
            let _column = blob.signed()?;
            line
        }
    };
    *last = Some(line);
    u32::try_from(line).map_err(|_| damaged(at, "a line is before the first"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(bytes: &[u8], document: u32) -> Result<Vec<(u32, u32, u32)>, ReadError> {
        let points = read(Cursor::new(bytes, 0), document)?;
        Ok(points.into_iter().map(|point| (point.il, point.line, point.document)).collect())
    }

    #[test]
    fn lines_are_told_by_their_distance() {
        // No locals; then instruction, lines, columns, line, column.
        let one = [0, 0, 0, 1, 20, 5, 5, 0, 2, 2, 4];
        assert_eq!(points(&one, 3).unwrap(), [(0, 20, 3), (5, 21, 3)]);
        // A line before the last one: -1.
        let back = [0, 0, 0, 1, 20, 5, 5, 0, 2, 0x7f, 4];
        assert_eq!(points(&back, 3).unwrap(), [(0, 20, 3), (5, 19, 3)]);
        // Several lines, and columns that go back.
        let long = [0, 0, 2, 0x7f, 20, 5];
        assert_eq!(points(&long, 1).unwrap(), [(0, 20, 1)]);
    }

    #[test]
    fn hidden_instructions_have_no_line_and_do_not_count() {
        let hidden = [0, 0, 0, 0, 3, 0, 1, 20, 5, 4, 0, 0, 2, 0, 2, 2, 0];
        assert_eq!(points(&hidden, 1).unwrap(), [(0, 0, 1), (3, 20, 1), (7, 0, 1), (9, 21, 1)]);
    }

    #[test]
    fn a_method_may_be_of_several_files() {
        let partly = [0, 2, 0, 0, 1, 20, 5, 0, 3, 4, 0, 2, 2, 4];
        assert_eq!(points(&partly, 0).unwrap(), [(0, 20, 2), (4, 21, 3)]);
    }

    #[test]
    fn what_cannot_be_is_damaged() {
        for bytes in [&[0_u8, 0, 0, 1][..], &[], &[0, 0, 0, 1, 20, 5, 1, 0, 2, 0x57, 0], &[0, 0xff]] {
            assert!(points(bytes, 1).is_err(), "{bytes:?}");
        }
        let beyond = [&[0, 0, 0, 0][..], &[0xdf, 0xff, 0xff, 0xff, 0, 0].repeat(9)].concat();
        assert!(points(&beyond, 1).unwrap_err().to_string().contains("beyond every method"));
        let many = [&[0, 0, 0, 0][..], &[1, 0, 0].repeat(MAX_POINTS)].concat();
        assert!(points(&many, 1).unwrap_err().to_string().contains("the limit is 20000"));
    }
}
