//! How is an answer of Prometheus decoded? Straight into what is kept of it: the labels of a series, however many and
//! long they are, and whatever else the answer has, are read and not held.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::promql::{MAX_SERIES, MAX_WORDS, Series, SeriesBuilder};
use crate::text::cut;

/// An answer, of which `error` and the like are cut.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Answer {
    pub(super) status: Short,
    #[serde(default)]
    pub(super) error_type: Short,
    #[serde(default)]
    pub(super) error: Short,
    pub(super) data: Option<Data>,
}

/// What a query returned.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Data {
    pub(super) result_type: Short,
    pub(super) result: Option<Found>,
}

/// The series of an answer.
#[derive(Default)]
pub(super) struct Found {
    /// The first of them, as many as may be.
    pub(super) series: Vec<Series>,
    /// How many there are.
    pub(super) count: usize,
    /// How much else there is, such as the numbers of a scalar.
    pub(super) others: usize,
}

/// The beginning of a text: a little more than is shown of it.
#[derive(Default)]
pub(super) struct Short(pub(super) String);

/// A text that is held no longer than it takes to read it.
struct Text<'a>(Cow<'a, str>);

/// A series, or something else.
enum Element {
    Series(Series),
    Other,
}

/// The labels of a series.
struct Metric(Series);

/// Reads what is a text alone.
struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Text<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a text")
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Text<'de>, E> {
        Ok(Text(Cow::Borrowed(text)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Text<'de>, E> {
        Ok(Text(Cow::Owned(text.to_owned())))
    }
}

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_str(TextVisitor)
    }
}

impl<'de> Deserialize<'de> for Short {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        // Characters that nobody is shown are taken out later, and count here.
        Text::deserialize(from).map(|text| Self(cut(&text.0, 4 * MAX_WORDS)))
    }
}

impl<'de> Deserialize<'de> for Metric {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Labels;
        impl<'de> Visitor<'de> for Labels {
            type Value = Metric;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("labels")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Metric, A::Error> {
                let mut series = SeriesBuilder::default();
                while let Some((Text(name), Text(value))) = map.next_entry()? {
                    series.label(&name, &value);
                }
                Ok(Metric(series.finish()))
            }
        }
        from.deserialize_map(Labels)
    }
}

impl<'de> Deserialize<'de> for Found {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(FoundVisitor)
    }
}

struct FoundVisitor;

impl<'de> Visitor<'de> for FoundVisitor {
    type Value = Found;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Found, A::Error> {
        let mut found = Found::default();
        while found.count < MAX_SERIES {
            match list.next_element()? {
                Some(Element::Series(series)) => {
                    found.series.push(series);
                    found.count += 1;
                }
                Some(Element::Other) => found.others += 1,
                None => return Ok(found),
            }
        }
        // The others are only counted.
        while list.next_element::<IgnoredAny>()?.is_some() {
            found.count += 1;
        }
        if found.count > MAX_SERIES {
            found.series = Vec::new();
        }
        Ok(found)
    }
}

impl<'de> Deserialize<'de> for Element {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(ElementVisitor)
    }
}

struct ElementVisitor;

impl<'de> Visitor<'de> for ElementVisitor {
    type Value = Element;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a series")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Element, A::Error> {
        let mut element = Element::Other;
        while let Some(Text(field)) = map.next_key()? {
            match &*field {
                "metric" => element = Element::Series(map.next_value::<Metric>()?.0),
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(element)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Element, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Element::Other)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Element, E> {
        Ok(Element::Other)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Element, E> {
        Ok(Element::Other)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Element, E> {
        Ok(Element::Other)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Element, E> {
        Ok(Element::Other)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Element, E> {
        Ok(Element::Other)
    }

    fn visit_unit<E: Error>(self) -> Result<Element, E> {
        Ok(Element::Other)
    }
}
