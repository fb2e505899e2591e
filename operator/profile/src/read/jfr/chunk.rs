//! What is at a place of a chunk? Values are read by the types of its metadata, whatever their order.

use std::cell::Cell;
use std::collections::HashMap;

use super::bytes::{Cursor, Text};
use super::types::{Class, Field, Form, Types};
use super::{Limits, damaged, too_many};
use crate::read::ReadError;

/// Deepest value: a structure in a structure.
const MAX_DEPTH: usize = 16;
/// Values that may be read for each byte of a chunk. Each is read when it is listed, and again when it is
/// used.
const STEPS: usize = 16;
/// The types whose constants are used.
const KEPT: [&str; 5] =
    ["jdk.types.StackTrace", "jdk.types.Method", "java.lang.Class", "jdk.types.Symbol", "java.lang.String"];

/// The value of a field.
#[derive(Clone, Debug)]
pub(super) enum Value<'a> {
    /// There is no such field.
    Missing,
    /// A whole number, or a boolean. Numbers with a decimal point are passed over.
    Number(u64),
    /// A duration in ticks.
    Ticks(u64),
    /// A text.
    Text(Text<'a>),
    /// The number of a constant of a type.
    Constant(u64, u64),
    /// Values of a type: how many, and where the first one is.
    List { class: u64, count: usize, at: usize },
    /// Fields of a type.
    Fields,
}

/// One part of a recording, with types and constants of its own.
pub(super) struct Chunk<'a> {
    bytes: &'a [u8],
    types: Types,
    /// Where the constants are that are used, by type and number.
    constants: HashMap<(u64, u64), usize>,
    steps: Cell<usize>,
}

/// An event: the number of its type, and where its fields begin.
#[derive(Clone, Copy, Debug)]
pub(super) struct Event {
    pub(super) class: u64,
    pub(super) at: usize,
}

impl<'a> Chunk<'a> {
    /// A chunk of these bytes, with its metadata at one position and its first event at another.
    pub(super) fn read(
        bytes: &'a [u8],
        metadata: usize,
        first: usize,
        limits: &Limits,
    ) -> Result<Self, ReadError> {
        let types = Types::read(bytes, metadata, limits)?;
        let steps = Cell::new(bytes.len().saturating_mul(STEPS));
        let mut chunk = Self { bytes, types, constants: HashMap::new(), steps };
        for event in chunk.events(first) {
            let event = event?;
            if event.class == 1 {
                chunk.checkpoint(event.at, limits)?;
            }
        }
        Ok(chunk)
    }

    /// The events from a position on.
    pub(super) fn events(&self, first: usize) -> Events<'a> {
        Events { cursor: Cursor::new(self.bytes, first) }
    }

    /// The type of a number.
    pub(super) fn class(&self, number: u64) -> Option<&Class> {
        self.types.class(number)
    }

    /// Whether a number is that of the type with this name.
    pub(super) fn is(&self, number: u64, name: &str) -> bool {
        self.types.is(number, name)
    }

    /// Lists the constants of a checkpoint.
    fn checkpoint(&mut self, at: usize, limits: &Limits) -> Result<(), ReadError> {
        let mut cursor = Cursor::new(self.bytes, at);
        // Time, duration, distance to the checkpoint before.
        for _ in 0..3 {
            cursor.number()?;
        }
        let _kind = cursor.byte()?;
        for _ in 0..cursor.count()? {
            let number = cursor.number()?;
            let count = cursor.count()?;
            let class = self.types.class(number);
            let class = class.ok_or_else(|| damaged(cursor.at(), "constants of an unknown type"))?;
            let kept = KEPT.contains(&&*class.name);
            for _ in 0..count {
                let key = cursor.number()?;
                let place = cursor.at();
                self.pass(&mut cursor, number, MAX_DEPTH)?;
                if kept {
                    self.constants.insert((number, key), place);
                }
            }
            if self.constants.len() > limits.constants {
                return Err(too_many("constants", self.constants.len(), limits.constants));
            }
        }
        Ok(())
    }

    /// The fields of these names of a constant; nothing where there is no such constant.
    pub(super) fn constant<const N: usize>(
        &self,
        class: u64,
        key: u64,
        names: [&str; N],
    ) -> Result<Option<[Value<'a>; N]>, ReadError> {
        let Some(place) = self.constants.get(&(class, key)) else {
            return Ok(None);
        };
        self.fields(&mut Cursor::new(self.bytes, *place), class, names).map(Some)
    }

    /// The text of a constant that is one, or of the only field of one that has it.
    pub(super) fn constant_text(&self, class: u64, key: u64) -> Result<Option<Text<'a>>, ReadError> {
        let Some(place) = self.constants.get(&(class, key)) else {
            return Ok(None);
        };
        let mut cursor = Cursor::new(self.bytes, *place);
        if self.class(class).is_some_and(|class| class.form == Form::Text) {
            return cursor.text().map(Some);
        }
        let [value] = self.fields(&mut cursor, class, ["string"])?;
        Ok(if let Value::Text(text) = value { Some(text) } else { None })
    }

    /// The fields of these names of the next value of a type.
    pub(super) fn fields<const N: usize>(
        &self,
        cursor: &mut Cursor<'a>,
        class: u64,
        names: [&str; N],
    ) -> Result<[Value<'a>; N], ReadError> {
        self.step(cursor.at())?;
        let mut values = [const { Value::Missing }; N];
        let class = self.class(class);
        let class = class.ok_or_else(|| damaged(cursor.at(), "a value has an unknown type"))?;
        for field in &class.fields {
            let value = self.value(cursor, field, MAX_DEPTH)?;
            let slots = values.iter_mut().zip(names);
            for (slot, _) in slots.filter(|(_, name)| **name == *field.name) {
                *slot = value.clone();
            }
        }
        Ok(values)
    }

    /// A cursor at a position of the chunk.
    pub(super) fn cursor(&self, at: usize) -> Cursor<'a> {
        Cursor::new(self.bytes, at)
    }

    fn value(&self, cursor: &mut Cursor<'a>, field: &Field, depth: usize) -> Result<Value<'a>, ReadError> {
        let class = field.class;
        if field.list {
            let count = cursor.count()?;
            let at = cursor.at();
            for _ in 0..count {
                self.one(cursor, field, depth)?;
            }
            return Ok(Value::List { class, count, at });
        }
        Ok(match self.one(cursor, field, depth)? {
            Value::Number(number) if field.ticks => Value::Ticks(number),
            value => value,
        })
    }

    fn one(&self, cursor: &mut Cursor<'a>, field: &Field, depth: usize) -> Result<Value<'a>, ReadError> {
        if field.constant {
            self.step(cursor.at())?;
            return Ok(Value::Constant(field.class, cursor.number()?));
        }
        self.pass(cursor, field.class, depth)
    }

    /// Passes over a value of a type, and tells what it was.
    fn pass(&self, cursor: &mut Cursor<'a>, class: u64, depth: usize) -> Result<Value<'a>, ReadError> {
        self.step(cursor.at())?;
        let at = cursor.at();
        let class = self.class(class).ok_or_else(|| damaged(at, "a value has an unknown type"))?;
        match class.form {
            Form::Bytes(1) => Ok(Value::Number(cursor.byte()?.into())),
            Form::Bytes(count) => cursor.take(count).map(|_| Value::Fields),
            Form::Number => Ok(Value::Number(cursor.number()?)),
            Form::Text => Ok(Value::Text(cursor.text()?)),
            Form::Fields => {
                let depth = depth.checked_sub(1).ok_or_else(|| damaged(at, "a value is nested"))?;
                for field in &class.fields {
                    self.value(cursor, field, depth)?;
                }
                Ok(Value::Fields)
            }
        }
    }

    /// A damaged recording could have values without bytes, in lists in lists.
    fn step(&self, at: usize) -> Result<(), ReadError> {
        let left = self.steps.get().checked_sub(1);
        self.steps.set(left.ok_or_else(|| damaged(at, "it has more values than bytes"))?);
        Ok(())
    }
}

/// Goes from event to event by their sizes.
pub(super) struct Events<'a> {
    cursor: Cursor<'a>,
}

impl Events<'_> {
    fn read(&mut self) -> Result<Event, ReadError> {
        let start = self.cursor.at();
        let size = usize::try_from(self.cursor.number()?).unwrap_or(usize::MAX);
        let mut fields = self.cursor;
        let class = fields.number()?;
        let header = self.cursor.at() - start;
        let rest = size.checked_sub(header).filter(|rest| *rest > 0);
        self.cursor.take(rest.ok_or_else(|| damaged(start, "an event has no size"))?)?;
        Ok(Event { class, at: fields.at() })
    }
}

impl Iterator for Events<'_> {
    type Item = Result<Event, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.cursor.left() == 0 {
            return None;
        }
        let event = self.read();
        if event.is_err() {
            let _rest = self.cursor.take(self.cursor.left());
        }
        Some(event)
    }
}
