//! Which function, file and line does a call frame of V8 name?

use std::borrow::Cow;

use crate::builder::Frame;
use crate::read::ReadError;
use crate::read::json::Json;

/// What a function without a name is called, as `DevTools` does.
const ANONYMOUS: &str = "(anonymous)";

/// A function of a profile.
#[derive(Debug, Default)]
pub(super) struct CallFrame<'a> {
    pub(super) function: Cow<'a, str>,
    pub(super) file: Cow<'a, str>,
    /// Where it begins, from 1; 0 for what is not JavaScript.
    pub(super) line: i64,
}

impl<'a> CallFrame<'a> {
    /// Reads one.
    pub(super) fn read(json: &mut Json<'a>) -> Result<Self, ReadError> {
        let mut frame = Self::default();
        json.open_object()?;
        while let Some(key) = json.key()? {
            match &*key {
                "functionName" => frame.function = json.string()?,
                "url" => frame.file = path(json.string()?),
                // Lines of call frames count from 0; -1 is none.
                "lineNumber" => frame.line = json.integer()?.saturating_add(1).max(0),
                _ => json.skip()?,
            }
        }
        Ok(frame)
    }

    /// Whether V8 counts something else than code here, such as `(idle)`.
    pub(super) fn is(&self, name: &str) -> bool {
        self.function == name && self.file.is_empty()
    }

    /// The frame at a line; without one, at the function's first.
    pub(super) fn at(&self, line: Option<i64>) -> Frame<'_> {
        let name = if self.function.is_empty() { ANONYMOUS } else { &self.function };
        let line = line.unwrap_or(self.line);
        Frame { start_line: self.line, ..Frame::named(name, &self.file, line) }
    }
}

/// The path of a `file:` URL, without its escapes; anything else as it is (`node:internal/timers`).
fn path(url: Cow<'_, str>) -> Cow<'_, str> {
    let Some(path) = url.strip_prefix("file://") else { return url };
    if !path.contains('%') {
        return Cow::Owned(path.to_owned());
    }
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let escape = after.get(..2).filter(|_| byte == b'%').and_then(|hex| std::str::from_utf8(hex).ok());
        match escape.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(escaped) => (bytes.push(escaped), rest = after.get(2..).unwrap_or_default()).0,
            None => (bytes.push(byte), rest = after).0,
        }
    }
    Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_its_path() {
        let cases = [
            ("file:///srv/app.js", "/srv/app.js"),
            ("file:///srv/my%20app/%C3%BC%.js", "/srv/my app/ü%.js"),
            ("node:internal/timers", "node:internal/timers"),
            ("", ""),
        ];
        for (url, wanted) in cases {
            assert_eq!(path(Cow::Borrowed(url)), wanted);
        }
    }

    #[test]
    fn lines_count_from_one_and_a_nameless_function_says_so() {
        let read = |text: &str| {
            let frame = CallFrame::read(&mut Json::new("test", text.as_bytes()).unwrap()).unwrap();
            let shown = frame.at(None);
            (shown.function.to_owned(), shown.line, frame.at(Some(9)).line)
        };
        let text =
            r#"{"functionName":"","scriptId":"1","url":"file:///a.js","lineNumber":4,"columnNumber":2}"#;
        assert_eq!(read(text), ("(anonymous)".into(), 5, 9));
        assert_eq!(read(r#"{"functionName":"(root)","lineNumber":-1}"#), ("(root)".into(), 0, 9));
    }
}
