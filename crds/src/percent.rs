//! How is a share written in a resource? As `0.5%`, in tenths of a percent: floats are no part of the API.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A share from 0% to 999.9%, with at most one decimal: `5%`, `0.5%`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Percent(u16);

impl Percent {
    /// The share of so many tenths of a percent; at most 9999 of them.
    #[must_use]
    pub const fn from_tenths(tenths: u16) -> Self {
        Self(if tenths > 9_999 { 9_999 } else { tenths })
    }

    /// The share as a number; 0.05 is 5%.
    #[must_use]
    pub fn as_share(self) -> f64 {
        f64::from(self.0) / 1_000.0
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0 / 10, self.0 % 10) {
            (whole, 0) => write!(f, "{whole}%"),
            (whole, tenths) => write!(f, "{whole}.{tenths}%"),
        }
    }
}

/// Why a text is not a valid [`Percent`].
#[derive(Debug, PartialEq, Eq)]
pub struct ParsePercentError(String);

impl fmt::Display for ParsePercentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "invalid share {:?}; write a percentage with at most one decimal, such as 5% or 0.5%",
            self.0
        )
    }
}

impl std::error::Error for ParsePercentError {}

impl FromStr for Percent {
    type Err = ParsePercentError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || ParsePercentError(text.chars().take(40).collect());
        let number = text.strip_suffix('%').ok_or_else(bad)?;
        let (whole, tenths) = number.split_once('.').unwrap_or((number, "0"));
        let digits = |text: &str, most: usize| {
            (1..=most).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
        };
        if !digits(whole, 3) || !digits(tenths, 1) {
            return Err(bad());
        }
        let (whole, tenths): (u16, u16) =
            (whole.parse().map_err(|_| bad())?, tenths.parse().map_err(|_| bad())?);
        Ok(Self(whole * 10 + tenths))
    }
}

impl Serialize for Percent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Percent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Percent {
    fn schema_name() -> Cow<'static, str> {
        "Percent".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "maxLength": 6, "pattern": "^[0-9]{1,3}([.][0-9])?%$"})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_what_it_writes() {
        for (text, share, back) in
            [("5%", 0.05, "5%"), ("0.5%", 0.005, "0.5%"), ("20.0%", 0.2, "20%"), ("999.9%", 9.999, "999.9%")]
        {
            let percent: Percent = text.parse().unwrap();
            assert!((percent.as_share() - share).abs() < 1e-12, "{text}");
            assert_eq!(percent.to_string(), back);
            assert_eq!(back.parse::<Percent>().unwrap(), percent);
        }
        assert_eq!(Percent::from_tenths(60_000).to_string(), "999.9%");
    }

    #[test]
    fn refuses_what_the_schema_refuses() {
        for text in ["", "%", "5", "-5%", "1.25%", "1000%", ".5%", "5.%", "5 %", "1e1%", "+5%"] {
            assert!(text.parse::<Percent>().is_err(), "{text}");
        }
    }
}
