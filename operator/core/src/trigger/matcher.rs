//! Do the labels of an alert match? Matchers are written as in Alertmanager: `severity="page"`,
//! `team=~"shop|pay.*"`.

use regex::{Regex, RegexBuilder};

use super::place::Labels;

/// Bytes that a compiled pattern may take: the first of these that suffices is what counts. Patterns without classes such
/// as `\w`, which holds all letters of Unicode, need less than the first.
const COMPILED: [usize; 5] = [16 << 10, 32 << 10, 64 << 10, 128 << 10, 256 << 10];
/// Bytes that it may take beside them while it matches.
const MATCHING: usize = 16 << 10;

/// One matcher.
#[derive(Clone, Debug)]
pub struct Matcher {
    name: String,
    wanted: bool,
    value: Value,
}

#[derive(Clone, Debug)]
enum Value {
    Text(String),
    /// With the bytes that it may take.
    Pattern(Regex, usize),
}

impl Matcher {
    /// Reads `name="value"`, with `=`, `!=`, `=~` or `!~`; the quotes may be left out. A pattern has to match
    /// the whole value.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let shape = || {
            format!("invalid matcher {text:?}; write it as alertname=\"SlowOrders\", with =, !=, =~ or !~")
        };
        let at = text.find(['=', '!']).ok_or_else(shape)?;
        let (name, rest) = text.split_at(at);
        let operators = [("=~", true, true), ("!~", false, true), ("!=", false, false), ("=", true, false)];
        let (rest, wanted, is_pattern) = operators
            .iter()
            .find_map(|(op, wanted, pattern)| Some((rest.strip_prefix(op)?, *wanted, *pattern)))
            .ok_or_else(shape)?;
        let name = name.trim().to_owned();
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            return Err(shape());
        }
        let value = unquoted(rest.trim()).ok_or_else(shape)?;
        let value = if is_pattern { pattern(&value)? } else { Value::Text(value) };
        Ok(Self { name, wanted, value })
    }

    /// Whether it holds; a label that is not there is an empty one.
    #[must_use]
    pub fn holds(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.name).map_or("", String::as_str);
        let equal = match &self.value {
            Value::Text(text) => text == value,
            Value::Pattern(pattern, _) => pattern.is_match(value),
        };
        equal == self.wanted
    }

    /// Most bytes that it takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let value = match &self.value {
            Value::Text(text) => text.capacity(),
            Value::Pattern(_, bytes) => *bytes,
        };
        size_of::<Self>() + self.name.capacity() + value
    }
}

fn pattern(text: &str) -> Result<Value, String> {
    let within = |bytes: usize| {
        let mut builder = RegexBuilder::new(&format!("^(?:{text})$"));
        let built = builder.size_limit(bytes).dfa_size_limit(MATCHING).build();
        built.map(|pattern| Value::Pattern(pattern, bytes + MATCHING))
    };
    let [least, more @ ..] = COMPILED;
    more.into_iter().fold(within(least), |built, bytes| built.or_else(|_| within(bytes))).map_err(|error| {
        format!(
            "invalid regular expression {text:?}: {}",
            error.to_string().lines().last().unwrap_or_default().trim()
        )
    })
}

/// The text between double quotes, with `\"`, `\\` and `\n` undone; a text without quotes unchanged.
fn unquoted(text: &str) -> Option<String> {
    let Some(inner) = text.strip_prefix('"') else {
        return (!text.contains('"')).then(|| text.to_owned());
    };
    let mut chars = inner.strip_suffix('"')?.chars();
    let mut out = String::new();
    while let Some(c) = chars.next() {
        match c {
            '"' => return None,
            '\\' => match chars.next()? {
                'n' => out.push('\n'),
                c @ ('"' | '\\') => out.push(c),
                // A pattern's own escape, such as `\d`.
                c => out.extend(['\\', c]),
            },
            c => out.push(c),
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A policy may have 256 patterns, and the usual ones have to fit into its 16 MiB.
    #[test]
    fn patterns_as_people_write_them_are_small() {
        let bytes = |pattern: &str| Matcher::parse(&format!("team=~\"{pattern}\"")).unwrap().bytes();
        for pattern in ["shop|pay.*", ".+", "[^/]+/[a-z0-9-]+", "(?i)(critical|page)", "prod-.*-[0-9]{1,3}"] {
            assert!(bytes(pattern) < 33 * 1024, "{pattern}: {}", bytes(pattern));
        }
        for pattern in [r"\d+", r"\w+Orders", r"\w+-\w+"] {
            assert!(bytes(pattern) < 145 * 1024, "{pattern}: {}", bytes(pattern));
        }
    }

    #[test]
    fn matchers_are_read_as_alertmanager_reads_them() {
        let labels: Labels = [("alertname", "SlowOrders"), ("severity", "page")]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into();
        let cases = [
            (r#"alertname="SlowOrders""#, true),
            ("alertname=SlowOrders", true),
            (r#"alertname = "Slow""#, false),
            (r#"alertname=~"Slow.*""#, true),
            (r#"alertname=~"Slow""#, false),
            (r#"severity!="warn""#, true),
            (r#"severity!~"pag.|warn""#, false),
            (r#"team="""#, true),
            (r#"team!="""#, false),
            (r#"alertname=~"\w+Orders""#, true),
        ];
        for (text, holds) in cases {
            assert_eq!(Matcher::parse(text).unwrap().holds(&labels), holds, "{text}");
        }
    }

    #[test]
    fn what_is_no_matcher_says_so() {
        for text in ["", "alertname", "=x", "a b=c", "a==\"x", "a=\"x\"y\"", "a!x", "ä=b"] {
            assert!(Matcher::parse(text).unwrap_err().contains("invalid matcher"), "{text}");
        }
        assert!(Matcher::parse("a=~\"(\"").unwrap_err().contains("error: unclosed group"));
        assert!(
            Matcher::parse("a=~\"(((a{99}){99}){99}){99}\"")
                .unwrap_err()
                .contains("invalid regular expression")
        );
    }

    proptest::proptest! {
        #[test]
        fn nothing_breaks_it(text in ".{0,80}", value in ".{0,40}") {
            if let Ok(matcher) = Matcher::parse(&text) {
                let _ = matcher.holds(&[("a".to_owned(), value)].into());
            }
        }
    }
}
