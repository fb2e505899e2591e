//! Which frames does a stack have, and what are they called?

use std::collections::HashMap;
use std::rc::Rc;

use super::bytes::Text;
use super::chunk::{Chunk, Value};
use super::{Limits, too_many};
use crate::builder::{Frame, TRUNCATED};
use crate::read::ReadError;

/// Shown where a sample has no stack: it could not be taken, or the thread ran no Java code.
const NO_STACK: &str = "[no Java stack]";
/// Shown for a method without a name.
const UNKNOWN: &str = "[unknown]";
/// Deepest stack that a recording can have; the profile cuts further.
const MAX_FRAMES: usize = 4_096;
/// Names of classes made at run time go on like this, with a number that is another one in each process.
const RUN_TIME_MARKS: [&str; 4] = ["$$Lambda", "/0x", "+0x", ".0x"];

/// A method: `package.Class.method`, and its class.
#[derive(Debug)]
pub(super) struct Method {
    name: String,
    class: String,
}

/// A stack, leaf first.
#[derive(Debug, Default)]
pub(super) struct Stack {
    frames: Vec<(Rc<Method>, i64)>,
    truncated: bool,
}

impl Stack {
    /// Its frames for a profile.
    pub(super) fn frames(&self) -> Vec<Frame<'_>> {
        if self.frames.is_empty() {
            return vec![Frame::named(NO_STACK, "", 0)];
        }
        let frames =
            self.frames.iter().map(|(method, line)| Frame::named(&method.name, &method.class, *line));
        frames.chain(self.truncated.then(|| Frame::named(TRUNCATED, "", 0))).collect()
    }

    /// Whether it is at work for the recording itself.
    pub(super) fn is_of_the_recorder(&self) -> bool {
        self.frames.iter().any(|(method, _)| method.class.starts_with("jdk.jfr.internal."))
    }
}

/// The stacks of a chunk; names are looked up once.
pub(super) struct Stacks<'c, 'a> {
    chunk: &'c Chunk<'a>,
    limits: &'c Limits,
    methods: HashMap<(u64, u64), Rc<Method>>,
    bytes: usize,
}

impl<'c, 'a> Stacks<'c, 'a> {
    /// No stacks yet.
    pub(super) fn new(chunk: &'c Chunk<'a>, limits: &'c Limits) -> Self {
        Self { chunk, limits, methods: HashMap::new(), bytes: 0 }
    }

    /// The stack of a number; one without frames where there is none.
    pub(super) fn stack(&mut self, class: u64, key: u64) -> Result<Stack, ReadError> {
        let found = self.chunk.constant(class, key, ["truncated", "frames"])?;
        let Some([truncated, Value::List { class, count, at }]) = found else {
            return Ok(Stack::default());
        };
        let mut cursor = self.chunk.cursor(at);
        let mut frames = Vec::new();
        for _ in 0..count.min(MAX_FRAMES) {
            let [method, line] = self.chunk.fields(&mut cursor, class, ["method", "lineNumber"])?;
            let line = if let Value::Number(line) = line { i64::try_from(line).unwrap_or(0) } else { 0 };
            // Lines are 32 bits wide; a negative one stands for none.
            let line = if line > i64::from(i32::MAX) { 0 } else { line };
            frames.push((self.method(&method)?, line));
        }
        Ok(Stack { frames, truncated: matches!(truncated, Value::Number(1)) })
    }

    fn method(&mut self, value: &Value<'_>) -> Result<Rc<Method>, ReadError> {
        let Value::Constant(class, key) = *value else {
            return Ok(Rc::new(Method { name: UNKNOWN.to_owned(), class: String::new() }));
        };
        if let Some(method) = self.methods.get(&(class, key)) {
            return Ok(Rc::clone(method));
        }
        let [holder, name] =
            self.chunk.constant(class, key, ["type", "name"])?.unwrap_or([Value::Missing, Value::Missing]);
        let class_name = self.class_name(&holder)?;
        let name = self.text(&name)?;
        let name = if name.is_empty() { UNKNOWN } else { &name };
        let name = if class_name.is_empty() { name.to_owned() } else { format!("{class_name}.{name}") };
        self.bytes += name.len() + class_name.len();
        if self.bytes > self.limits.name_bytes {
            return Err(too_many("bytes of names", self.bytes, self.limits.name_bytes));
        }
        let method = Rc::new(Method { name, class: class_name });
        self.methods.insert((class, key), Rc::clone(&method));
        Ok(method)
    }

    /// The name of a class as people write it.
    pub(super) fn class_name(&self, value: &Value<'_>) -> Result<String, ReadError> {
        let Value::Constant(class, key) = *value else {
            return Ok(String::new());
        };
        let Some([name]) = self.chunk.constant(class, key, ["name"])? else {
            return Ok(String::new());
        };
        Ok(readable(&self.text(&name)?))
    }

    /// A text, or one of the constants: a symbol, or a text that is used more than once.
    fn text(&self, value: &Value<'_>) -> Result<String, ReadError> {
        let text = match value {
            Value::Constant(class, key) => self.chunk.constant_text(*class, *key)?,
            Value::Text(text) => Some(text.clone()),
            _ => None,
        };
        Ok(match text {
            Some(Text::Here(text)) => text.into_owned(),
            _ => String::new(),
        })
    }
}

/// `java/lang/Thread` → `java.lang.Thread`, `App$$Lambda$14/0x00000008000c4c38` → `App$$Lambda`.
pub(in crate::read) fn readable(name: &str) -> String {
    let cut = |mark: &&str| {
        let at = name.find(*mark)?;
        Some(if mark.starts_with('$') { at + mark.len() } else { at })
    };
    let end = RUN_TIME_MARKS.iter().filter_map(cut).min().unwrap_or(name.len());
    name.get(..end).unwrap_or(name).replace('/', ".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_named_alike_in_every_process() {
        let cases = [
            ("java/lang/Thread", "java.lang.Thread"),
            ("Busy$$Lambda$1/1562557367", "Busy$$Lambda"),
            ("Busy$$Lambda$2+0x00007fae0c001800/2124308362", "Busy$$Lambda"),
            ("com/acme/Orders$$Lambda/0x0000000075041228", "com.acme.Orders$$Lambda"),
            ("java/lang/invoke/LambdaForm$MH+0x0000000800c4c38", "java.lang.invoke.LambdaForm$MH"),
            ("com/acme/Orders$Item", "com.acme.Orders$Item"),
            ("", ""),
        ];
        for (name, wanted) in cases {
            assert_eq!(readable(name), wanted, "{name}");
        }
    }

    #[test]
    fn a_sample_without_a_stack_says_so() {
        assert_eq!(Stack::default().frames()[0].function, NO_STACK);
    }
}
