//! What can be asked of a view, and what was asked? Parameters are data, so that documents and refusals say
//! what the parser takes.

use serde_json::{Value, json};

use super::status::Refusal;

/// A query parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Param {
    /// Its name.
    pub(super) name: &'static str,
    /// What it does, for documents; starts in lower case.
    pub(super) about: &'static str,
    /// What it takes.
    pub(super) values: Values,
}

/// What a parameter takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Values {
    /// Any text, such as the name of a pod; not given by default.
    Text(&'static str),
    /// A number from 1 to `most`.
    Number {
        /// When it is not given.
        default: usize,
        /// The largest.
        most: usize,
    },
    /// One of these words; the first when it is not given.
    Words(&'static [&'static str]),
}

impl Param {
    /// How to give it, with its default.
    pub(super) fn usage(&self) -> String {
        match self.values {
            Values::Text(example) => format!("{}={example}", self.name),
            Values::Number { default, .. } => format!("{}={default}", self.name),
            Values::Words(words) => format!("{}={}", self.name, words.join(" or ")),
        }
    }

    /// Its JSON schema.
    pub(super) fn schema(&self) -> Value {
        match self.values {
            Values::Text(_) => json!({"type": "string"}),
            Values::Number { default, most } => {
                json!({"type": "integer", "minimum": 1, "maximum": most, "default": default})
            }
            Values::Words(words) => json!({"type": "string", "enum": words, "default": words.first()}),
        }
    }

    fn takes(&self, value: &str) -> bool {
        match self.values {
            Values::Text(_) => true,
            Values::Number { most, .. } => value.parse().is_ok_and(|number| (1..=most).contains(&number)),
            Values::Words(words) => words.contains(&value),
        }
    }

    fn refuse(&self, value: &str) -> Refusal {
        let value: String = value.chars().take(MAX_SHOWN).collect();
        let range = match self.values {
            Values::Number { most, .. } => format!(" (1 to {most})"),
            Values::Text(_) | Values::Words(_) => String::new(),
        };
        Refusal::bad_request(format!(
            "invalid parameter {}={value:?}: use {}{range}",
            self.name,
            self.usage()
        ))
    }
}

/// Most characters of a value that are shown back.
const MAX_SHOWN: usize = 64;

/// The parameters of a request; each is one that its view has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Params(Vec<(&'static str, String)>);

impl Params {
    /// Reads a query. Parameters that the view does not have are left alone, as the API server does.
    ///
    /// # Errors
    /// 400: a value is not allowed, or a parameter is given twice.
    pub(super) fn read<'p>(
        query: &str,
        known: impl Iterator<Item = &'p Param> + Clone,
    ) -> Result<Self, Refusal> {
        let mut params = Self::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let Some(param) = known.clone().find(|param| param.name == name) else { continue };
            if params.value(param).is_some() {
                return Err(Refusal::bad_request(format!("parameter {name} is given twice: give it once")));
            }
            if !param.takes(&value) {
                return Err(param.refuse(&value));
            }
            params.0.push((param.name, value.into_owned()));
        }
        Ok(params)
    }

    /// A text, if it was given.
    pub(super) fn text(&self, param: &Param) -> Option<&str> {
        self.value(param)
    }

    /// A number, or its default.
    pub(super) fn number(&self, param: &Param) -> usize {
        let Values::Number { default, .. } = param.values else { return 0 };
        self.value(param).and_then(|value| value.parse().ok()).unwrap_or(default)
    }

    /// A word, or its default.
    pub(super) fn word(&self, param: &Param) -> &str {
        let Values::Words(words) = param.values else { return "" };
        self.value(param).or(words.first().copied()).unwrap_or_default()
    }

    fn value(&self, param: &Param) -> Option<&str> {
        self.0.iter().find(|(name, _)| *name == param.name).map(|(_, value)| value.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POD: Param = Param { name: "pod", about: "", values: Values::Text("NAME") };
    const N: Param = Param { name: "n", about: "", values: Values::Number { default: 20, most: 1_000 } };
    const FORMAT: Param = Param { name: "format", about: "", values: Values::Words(&["text", "json"]) };

    fn read(query: &str) -> Result<(Option<String>, usize, String), String> {
        let params = Params::read(query, [POD, N, FORMAT].iter()).map_err(|e| e.message().to_owned())?;
        Ok((params.text(&POD).map(Into::into), params.number(&N), params.word(&FORMAT).into()))
    }

    #[test]
    fn a_query_is_read_with_its_defaults() {
        assert_eq!(read(""), Ok((None, 20, "text".into())));
        assert_eq!(
            read("pod=a%2db&n=1000&format=json&timeout=9s"),
            Ok((Some("a-b".into()), 1_000, "json".into()))
        );
    }

    #[test]
    fn what_is_not_allowed_is_refused_with_what_is() {
        let cases = [
            ("n=0", "invalid parameter n=\"0\": use n=20 (1 to 1000)"),
            ("n=1001", "invalid parameter n=\"1001\": use n=20 (1 to 1000)"),
            ("n=many", "invalid parameter n=\"many\": use n=20 (1 to 1000)"),
            ("n=", "invalid parameter n=\"\": use n=20 (1 to 1000)"),
            ("format=svg%1b", "invalid parameter format=\"svg\\u{1b}\": use format=text or json"),
            ("pod=a&pod=b", "parameter pod is given twice: give it once"),
        ];
        for (query, message) in cases {
            assert_eq!(read(query), Err(message.to_owned()), "{query}");
        }
        assert!(read(&format!("n={}", "9".repeat(5_000))).unwrap_err().len() < 200);
    }
}
