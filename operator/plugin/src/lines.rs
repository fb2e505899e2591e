//! What are the lines of an answer that never ends? A watch sends one event a line.

use http_body_util::BodyExt;
use kube::client::Body;
use serde_json::Value;

/// The longest line: an object of Kubernetes has at most 1.5 MB.
const LONGEST: usize = 8 << 20;

/// The lines of a body as they arrive.
pub(crate) struct Lines {
    body: Body,
    waiting: Vec<u8>,
}

impl Lines {
    /// The lines of this body.
    pub(crate) const fn new(body: Body) -> Self {
        Self { body, waiting: Vec::new() }
    }

    /// The next event of a watch; nothing once the connection ends, which is normal after some minutes.
    pub(crate) async fn event(&mut self) -> Option<Value> {
        loop {
            if let Some(line) = line(&mut self.waiting) {
                match serde_json::from_slice(&line) {
                    Ok(event) => return Some(event),
                    Err(_) if line.trim_ascii().is_empty() => continue,
                    Err(_) => return None,
                }
            }
            if self.waiting.len() > LONGEST {
                return None;
            }
            let frame = self.body.frame().await?.ok()?;
            if let Ok(data) = frame.into_data() {
                self.waiting.extend_from_slice(&data);
            }
        }
    }
}

/// Takes the first whole line.
fn line(waiting: &mut Vec<u8>) -> Option<Vec<u8>> {
    let end = waiting.iter().position(|byte| *byte == b'\n')?;
    let rest = waiting.split_off(end + 1);
    Some(std::mem::replace(waiting, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_taken_one_by_one_and_what_is_not_whole_waits() {
        let mut waiting = b"one\ntwo\nthr".to_vec();
        assert_eq!(line(&mut waiting).as_deref(), Some(&b"one\n"[..]));
        assert_eq!(line(&mut waiting).as_deref(), Some(&b"two\n"[..]));
        assert_eq!((line(&mut waiting), waiting), (None, b"thr".to_vec()));
    }
}
