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
    /// Numbers from 0 on with dots between them, such as `0.2`; not given by default.
    Path(&'static str),
    /// One of these words; the first when it is not given.
    Words(&'static [&'static str]),
}

impl Param {
    /// How to give it, with its default.
    pub(super) fn usage(&self) -> String {
        match self.values {
            Values::Text(example) | Values::Path(example) => format!("{}={example}", self.name),
            Values::Number { default, .. } => format!("{}={default}", self.name),
            Values::Words(words) => format!("{}={}", self.name, words.join(" or ")),
        }
    }

    /// Its JSON schema.
    pub(super) fn schema(&self) -> Value {
        match self.values {
            Values::Text(_) | Values::Path(_) => json!({"type": "string"}),
            Values::Number { default, most } => {
                json!({"type": "integer", "minimum": 1, "maximum": most, "default": default})
            }
            Values::Words(words) => json!({"type": "string", "enum": words, "default": words.first()}),
        }
    }

    fn takes(&self, value: &str) -> bool {
        match self.values {
            Values::Text(_) => true,
            Values::Path(_) => path(value).is_some_and(|path| path.len() <= MAX_PATH),
            Values::Number { most, .. } => value.parse().is_ok_and(|number| (1..=most).contains(&number)),
            Values::Words(words) => words.contains(&value),
        }
    }

    fn refuse(&self, value: &str) -> Refusal {
        let value: String = value.chars().take(MAX_SHOWN).collect();
        let range = match self.values {
            Values::Number { most, .. } => format!(" (1 to {most})"),
            Values::Text(_) | Values::Path(_) | Values::Words(_) => String::new(),
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
/// Most steps of a path: deeper than any call tree.
const MAX_PATH: usize = 1_024;
/// What clients add to any request, and the API server reads.
const OF_CLIENTS: [&str; 2] = ["timeout", "pretty"];

/// The numbers of a path.
fn path(value: &str) -> Option<Vec<usize>> {
    value.split('.').map(|step| step.parse().ok()).collect()
}

/// The parameters of a request; each is one that its view has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Params(Vec<(&'static str, String)>);

impl Params {
    /// Reads a query.
    ///
    /// # Errors
    /// 400: the view does not have the parameter, a value is not allowed, or a parameter is given twice.
    pub(super) fn read<'p>(
        query: &str,
        known: impl Iterator<Item = &'p Param> + Clone,
    ) -> Result<Self, Refusal> {
        let mut params = Self::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            if OF_CLIENTS.contains(&&*name) {
                continue;
            }
            let param = known
                .clone()
                .find(|param| param.name == name)
                .ok_or_else(|| unknown(&name, known.clone()))?;
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

    /// A path, if it was given.
    pub(super) fn path(&self, param: &Param) -> Option<Vec<usize>> {
        self.value(param).and_then(path)
    }

    /// The names of all that was given.
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.0.iter().map(|(name, _)| *name)
    }

    /// The value that was given for the parameter of this name.
    pub(super) fn given(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
    }

    /// Whether it was given.
    pub(super) fn has(&self, param: &Param) -> bool {
        self.value(param).is_some()
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
        self.given(param.name)
    }
}

fn unknown<'p>(name: &str, known: impl Iterator<Item = &'p Param>) -> Refusal {
    let name: String = name.chars().take(MAX_SHOWN).collect();
    let known: Vec<&str> = known.map(|param| param.name).collect();
    Refusal::bad_request(format!("unknown parameter {name:?}: use {}", known.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const POD: Param = Param { name: "pod", about: "", values: Values::Text("NAME") };
    const N: Param = Param { name: "n", about: "", values: Values::Number { default: 20, most: 1_000 } };
    const FORMAT: Param = Param { name: "format", about: "", values: Values::Words(&["text", "json"]) };
    const ROOT: Param = Param { name: "root", about: "", values: Values::Path("0.2") };

    fn read(query: &str) -> Result<(Option<String>, usize, String), String> {
        let params =
            Params::read(query, [POD, N, FORMAT, ROOT].iter()).map_err(|e| e.message().to_owned())?;
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
            ("pods=a", "unknown parameter \"pods\": use pod, n, format, root"),
            ("root=0..1", "invalid parameter root=\"0..1\": use root=0.2"),
            ("root=-1", "invalid parameter root=\"-1\": use root=0.2"),
            ("root=", "invalid parameter root=\"\": use root=0.2"),
            ("pod=a&pod=b", "parameter pod is given twice: give it once"),
        ];
        for (query, message) in cases {
            assert_eq!(read(query), Err(message.to_owned()), "{query}");
        }
        for long in
            [format!("n={}", "9".repeat(5_000)), "x".repeat(5_000), format!("root={}0", "0.".repeat(1_024))]
        {
            assert!(read(&long).unwrap_err().len() < 200, "{long}");
        }
        let path = Params::read("root=0.12.3", [ROOT].iter()).unwrap().path(&ROOT);
        assert_eq!(path, Some(vec![0, 12, 3]));
    }
}
