//! Where does output go? Data to stdout, everything else to stderr.

use std::io::{ErrorKind, Write};

use clap::ValueEnum;
use fleetprof_core::text::is_unprintable;
use serde_json::Value;

use crate::exit::Failure;

/// How data is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// As the API has it.
    Json,
    /// The same as YAML.
    Yaml,
    /// Kind and name alone.
    Name,
    /// A table with all columns.
    Wide,
}

/// Prints data, which must end its own lines.
///
/// # Errors
/// Stdout does not take it. If its reader is gone, such as `head`, that ends the command without a word.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    bytes(text.as_bytes())
}

/// Prints data that need not be text.
///
/// # Errors
/// As [`print`].
pub(crate) fn bytes(data: &[u8]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(data).and_then(|()| out.flush()).map_err(|error| match error.kind() {
        ErrorKind::BrokenPipe => Failure::closed(),
        _ => Failure::error(format!("stdout cannot be written: {error}")),
    })
}

/// Prints text with colours, where stdout is a terminal and `NO_COLOR` is not set.
///
/// # Errors
/// As [`print`].
pub(crate) fn coloured(text: &str) -> Result<(), Failure> {
    match anstream::AutoStream::choice(&std::io::stdout()) {
        anstream::ColorChoice::Never => print(&anstream::adapter::strip_str(text).to_string()),
        _ => print(text),
    }
}

/// Says something that is not data. It may quote what others wrote.
pub(crate) fn note(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{}", lines(text));
}

/// Text of several lines without the characters that drive a terminal, or make a line read as what it is not.
pub(crate) fn lines(text: &str) -> String {
    text.chars().filter(|c| *c == '\n' || !is_unprintable(*c)).collect()
}

/// An object, or a list, as JSON, YAML or names.
///
/// # Errors
/// The object cannot be written as YAML.
pub(crate) fn object(object: &Value, format: Format) -> Result<String, Failure> {
    match format {
        Format::Yaml => serde_yaml::to_string(object)
            .map_err(|error| Failure::error(format!("the answer cannot be written as YAML: {error}"))),
        Format::Name => Ok(names(object)),
        Format::Json | Format::Wide => Ok(format!("{object:#}\n")),
    }
}

fn names(object: &Value) -> String {
    match object["items"].as_array() {
        Some(items) => items.iter().map(names).collect(),
        None => {
            let kind = object["kind"].as_str().unwrap_or_default().to_lowercase();
            let group = object["apiVersion"]
                .as_str()
                .unwrap_or_default()
                .split_once('/')
                .map_or("", |(group, _)| group);
            let dot = if group.is_empty() { "" } else { "." };
            format!("{kind}{dot}{group}/{}\n", object["metadata"]["name"].as_str().unwrap_or_default())
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn notes_keep_their_lines_and_drive_no_terminal() {
        assert_eq!(lines("Next:\n  a\u{1b}]0;b\u{7}\u{202e}\r\nc"), "Next:\n  a]0;b\nc");
    }

    #[test]
    fn objects_are_named_as_kubectl_names_them() {
        let one = |name: &str| json!({"apiVersion": "fleetprof.dev/v1alpha1", "kind": "ProfileSession", "metadata": {"name": name}});
        let list = json!({"kind": "List", "items": [one("a"), one("b")]});
        assert_eq!(
            object(&list, Format::Name).unwrap(),
            "profilesession.fleetprof.dev/a\nprofilesession.fleetprof.dev/b\n"
        );
        assert_eq!(object(&json!({"a": [1]}), Format::Yaml).unwrap().trim_end(), "a:\n- 1");
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}});
        assert_eq!(object(&pod, Format::Name).unwrap(), "pod/p\n");
    }
}
