//! Which types do the events of a recording have, and which fields? Its metadata tells.

use std::collections::HashMap;
use std::rc::Rc;

use super::bytes::{Cursor, Text};
use super::{Limits, damaged, too_many};
use crate::read::ReadError;

/// Deepest element of the metadata; real ones have five levels.
const MAX_DEPTH: usize = 16;
/// Most attributes of an element; real ones have fewer than ten.
const MAX_ATTRIBUTES: usize = 64;

/// How the values of a type are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// So many bytes.
    Bytes(usize),
    /// A number of variable length.
    Number,
    /// A text.
    Text,
    /// Its fields, one after the other.
    Fields,
}

/// A field of a type.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) name: Rc<str>,
    /// Number of its type.
    pub(super) class: u64,
    /// The value is a number among the constants of the type.
    pub(super) constant: bool,
    /// There are several values, and before them their number.
    pub(super) list: bool,
    /// The value is a duration in ticks of the recording's clock.
    pub(super) ticks: bool,
}

/// A type.
#[derive(Debug)]
pub(super) struct Class {
    pub(super) name: Rc<str>,
    pub(super) form: Form,
    pub(super) fields: Vec<Field>,
}

/// The types of a chunk, by number.
#[derive(Debug, Default)]
pub(super) struct Types {
    classes: HashMap<u64, Class>,
    fields: usize,
}

impl Types {
    /// Reads the metadata event at a position.
    pub(super) fn read(bytes: &[u8], at: usize, limits: &Limits) -> Result<Self, ReadError> {
        let mut cursor = Cursor::new(bytes, at);
        let _size = cursor.number()?;
        if cursor.number()? != 0 {
            return Err(damaged(at, "there is no metadata where the header says"));
        }
        // Time, duration, number of the metadata.
        for _ in 0..3 {
            cursor.number()?;
        }
        let mut strings = Vec::new();
        for _ in 0..cursor.count()? {
            strings.push(match cursor.text()? {
                Text::Here(text) => Rc::from(&*text),
                Text::Null | Text::Constant(_) => Rc::from(""),
            });
            bounded(strings.len(), limits.strings, "texts in its metadata")?;
        }
        let mut tree = Tree { cursor, strings, limits, types: Self::default() };
        tree.element(MAX_DEPTH, &mut Parent::None)?;
        Ok(tree.types)
    }

    /// The type of a number.
    pub(super) fn class(&self, number: u64) -> Option<&Class> {
        self.classes.get(&number)
    }

    /// Whether a number is that of the type with this name.
    pub(super) fn is(&self, number: u64, name: &str) -> bool {
        self.class(number).is_some_and(|class| &*class.name == name)
    }

    fn add(&mut self, number: u64, class: Class, limits: &Limits) -> Result<(), ReadError> {
        self.fields += class.fields.len();
        self.classes.insert(number, class);
        bounded(self.classes.len(), limits.types, "types")?;
        bounded(self.fields, limits.fields, "fields")
    }
}

fn bounded(have: usize, limit: usize, what: &'static str) -> Result<(), ReadError> {
    if have > limit { Err(too_many(what, have, limit)) } else { Ok(()) }
}

/// What an element belongs to.
enum Parent<'p> {
    None,
    Class(&'p mut Vec<Field>),
    Field(&'p mut Field),
}

/// The elements of the metadata, which are read one in the other.
struct Tree<'l, 'a> {
    cursor: Cursor<'a>,
    strings: Vec<Rc<str>>,
    limits: &'l Limits,
    types: Types,
}

impl Tree<'_, '_> {
    fn element(&mut self, depth: usize, parent: &mut Parent<'_>) -> Result<(), ReadError> {
        let depth =
            depth.checked_sub(1).ok_or_else(|| damaged(self.cursor.at(), "its metadata is nested"))?;
        let name = self.string()?;
        let mut attributes = Vec::new();
        for _ in 0..self.cursor.count()? {
            attributes.push((self.string()?, self.string()?));
            bounded(attributes.len(), MAX_ATTRIBUTES, "attributes of one element")?;
        }
        match &*name {
            "class" => self.class(depth, &attributes),
            "field" => self.field(depth, &attributes, parent),
            _ => {
                if let Parent::Field(field) = parent {
                    field.ticks |=
                        &*name == "annotation" && attributes.iter().any(|(_, value)| &**value == "TICKS");
                }
                self.children(depth, &mut Parent::None)
            }
        }
    }

    fn children(&mut self, depth: usize, parent: &mut Parent<'_>) -> Result<(), ReadError> {
        for _ in 0..self.cursor.count()? {
            self.element(depth, parent)?;
        }
        Ok(())
    }

    fn class(&mut self, depth: usize, attributes: &[Attribute]) -> Result<(), ReadError> {
        let mut fields = Vec::new();
        self.children(depth, &mut Parent::Class(&mut fields))?;
        let name = attribute(attributes, "name");
        let form = match &*name {
            "boolean" | "byte" => Form::Bytes(1),
            "float" => Form::Bytes(4),
            "double" => Form::Bytes(8),
            "char" | "short" | "int" | "long" => Form::Number,
            "java.lang.String" => Form::Text,
            _ => Form::Fields,
        };
        match attribute(attributes, "id").parse() {
            Ok(number) => self.types.add(number, Class { name, form, fields }, self.limits),
            Err(_) => Err(damaged(self.cursor.at(), "a type of its metadata has no number")),
        }
    }

    fn field(
        &mut self,
        depth: usize,
        attributes: &[Attribute],
        parent: &mut Parent<'_>,
    ) -> Result<(), ReadError> {
        let class = attribute(attributes, "class").parse();
        let class = class.map_err(|_| damaged(self.cursor.at(), "a field of its metadata has no type"))?;
        let mut field = Field {
            name: attribute(attributes, "name"),
            class,
            constant: &*attribute(attributes, "constantPool") == "true",
            list: !matches!(&*attribute(attributes, "dimension"), "" | "0"),
            ticks: false,
        };
        self.children(depth, &mut Parent::Field(&mut field))?;
        if let Parent::Class(fields) = parent {
            fields.push(field);
        }
        Ok(())
    }

    fn string(&mut self) -> Result<Rc<str>, ReadError> {
        let at = self.cursor.at();
        let number = usize::try_from(self.cursor.number()?).ok();
        let text = number.and_then(|number| self.strings.get(number)).cloned();
        text.ok_or_else(|| damaged(at, "its metadata has no text of this number"))
    }
}

type Attribute = (Rc<str>, Rc<str>);

/// The value of an attribute, or an empty text.
fn attribute(attributes: &[Attribute], name: &str) -> Rc<str> {
    let found = attributes.iter().find(|(key, _)| &**key == name);
    found.map_or_else(|| Rc::from(""), |(_, value)| Rc::clone(value))
}
