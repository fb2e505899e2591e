//! Which line is an instruction of a method from?

use std::sync::Arc;

use super::bytes::Cursor;
use super::damaged;
use super::points::Point;
use crate::read::ReadError;
use crate::read::nettrace::Il;

/// Most bytes of the path of a file that are kept.
const MAX_PATH: usize = 1024;
/// Most files of one method that have a name: one made of templates has a few.
const MAX_FILES: usize = 32;

/// The names of the files of a method, by their rows.
#[derive(Debug, Default)]
pub(super) struct Files(Vec<(u32, Arc<str>)>);

impl Files {
    /// Adds a file, where it is another one. One whose name is damaged has none.
    pub(super) fn add(&mut self, row: u32, name: impl FnOnce() -> Result<String, ReadError>) {
        if self.0.len() < MAX_FILES && self.find(row).is_none() {
            self.0.push((row, name().unwrap_or_default().into()));
        }
    }

    fn find(&self, row: u32) -> Option<&Arc<str>> {
        self.0.iter().find(|(known, _)| *known == row).map(|(_, name)| name)
    }
}

/// Where the instructions of a method are from.
#[derive(Debug)]
pub struct MethodSource {
    points: Vec<Point>,
    files: Files,
    first: Point,
}

impl MethodSource {
    /// `None` where all of it is hidden.
    pub(super) fn of(points: Vec<Point>, files: Files) -> Option<Self> {
        let first = points.iter().copied().find(|point| point.line > 0)?;
        Some(Self { points, files, first })
    }

    /// File and line of an instruction; the line is 0 where the instruction is not known.
    #[must_use]
    pub fn at(&self, il: Option<Il>) -> (Arc<str>, u32) {
        let point = match il {
            Some(Il::Offset(offset)) => self.last(offset),
            Some(Il::Prolog) => self.first,
            Some(Il::Epilog) => self.last(u32::MAX),
            Some(Il::None) | None => Point { line: 0, ..self.first },
        };
        (self.files.find(point.document).map(Arc::clone).unwrap_or_default(), point.line)
    }

    /// The line on which the method begins.
    #[must_use]
    pub const fn start_line(&self) -> u32 {
        self.first.line
    }

    /// The last point before the instruction after this one. A hidden one is of the line before it.
    fn last(&self, offset: u32) -> Point {
        let after = self.points.partition_point(|point| point.il <= offset);
        let before = self.points.get(..after).unwrap_or_default();
        before.iter().rev().copied().find(|point| point.line > 0).unwrap_or(self.first)
    }
}

/// A path: the character that separates its parts, and these, which are blobs.
pub(super) fn path<'b>(
    mut name: Cursor<'_>,
    blob: &dyn Fn(u32) -> Result<&'b [u8], ReadError>,
) -> Result<String, ReadError> {
    let (at, separator) = (name.place(), name.byte()?);
    if !separator.is_ascii() {
        return Err(damaged(at, "the parts of a path are not separated by a character"));
    }
    let (mut path, mut is_first) = (Vec::new(), true);
    while name.left() > 0 && path.len() < MAX_PATH {
        let part = name.number()?;
        if !is_first && separator != 0 {
            path.push(separator);
        }
        is_first = false;
        if part != 0 {
            let part = blob(part)?;
            path.extend(part.iter().take(MAX_PATH - path.len()));
        }
    }
    let shown = String::from_utf8_lossy(&path);
    Ok(shown.chars().filter(|c| !c.is_control()).collect())
}
