//! How large may an answer become while it is written? No larger than its limit, whatever a profile holds.

use std::io::{self, Write};

use serde::Serialize;

use super::status::Refusal;

/// Most bytes of an answer that is made, before it is compressed: a call tree of 400,000 nodes has 20 MB. A
/// hostile profile can have as many names of thousands of bytes.
pub(super) const LARGEST: usize = 32 << 20;

/// The answer would be larger than [`LARGEST`].
pub(super) fn too_large() -> Refusal {
    Refusal::too_large(format!(
        "the answer would exceed {} MiB: request fewer nodes with ?nodes=, single pods with ?pod=NAME, or \
         processes with ?process=NAME",
        LARGEST >> 20
    ))
}

/// A value as JSON.
///
/// # Errors
/// 413: it is larger than [`LARGEST`].
pub(super) fn json(value: &impl Serialize) -> Result<Vec<u8>, Refusal> {
    write(value, false)
}

/// A value as JSON that can be within a `<script>`: without any `<`, so that nothing ends it.
///
/// # Errors
/// 413: it is larger than [`LARGEST`].
pub(super) fn json_for_html(value: &impl Serialize) -> Result<Vec<u8>, Refusal> {
    write(value, true)
}

fn write(value: &impl Serialize, html: bool) -> Result<Vec<u8>, Refusal> {
    let mut bounded = Bounded { bytes: Vec::new(), html };
    serde_json::to_writer(&mut bounded, value).map_err(|_| too_large())?;
    Ok(bounded.bytes)
}

struct Bounded {
    bytes: Vec<u8>,
    html: bool,
}

impl Write for Bounded {
    fn write(&mut self, part: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + part.len() > LARGEST {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        if !self.html {
            self.bytes.extend_from_slice(part);
            return Ok(part.len());
        }
        // In JSON, `<` is only in strings.
        for byte in part {
            match byte {
                b'<' => self.bytes.extend_from_slice(br"\u003c"),
                byte => self.bytes.push(*byte),
            }
        }
        Ok(part.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_ends_a_script() {
        let name = "</script><!--<img src=x onerror=alert(1)>";
        let text = String::from_utf8(json_for_html(&[name]).unwrap()).unwrap();
        assert!(!text.contains('<'), "{text}");
        assert_eq!(serde_json::from_str::<Vec<String>>(&text).unwrap(), [name]);
        assert_eq!(json(&[name]).unwrap(), serde_json::to_vec(&[name]).unwrap());
    }

    #[test]
    fn an_answer_stays_below_its_limit() {
        assert!(json(&"x".repeat(LARGEST - 2)).is_ok());
        let refusal = json(&"x".repeat(LARGEST - 1)).unwrap_err();
        assert_eq!(refusal.code().as_u16(), 413);
        assert!(refusal.message().contains("?nodes="), "{}", refusal.message());
    }
}
