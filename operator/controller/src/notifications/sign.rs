//! How does a receiver know that a notification is the operator's? By a signature as [Standard Webhooks] has it,
//! which libraries of many languages verify: HMAC-SHA256 over id, time and body.
//!
//! [Standard Webhooks]: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Beginning of a key that is written in base64.
const IN_BASE64: &str = "whsec_";
/// Fewest bytes of a key.
const SHORTEST: usize = 24;

/// The keys in the text of a Secret, one a line: the first line is the current one, and while keys are exchanged a
/// second one is the one before.
pub(super) struct Keys(Vec<hmac::Key>);

impl Keys {
    /// Reads the keys: `whsec_` and base64, or else the bytes of the line.
    ///
    /// # Errors
    /// A sentence without full stop and without the key.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let keys = lines.map(key).collect::<Result<Vec<_>, _>>()?;
        if keys.is_empty() {
            return Err("signing-key is empty".to_owned());
        }
        Ok(Self(keys))
    }

    /// The header `webhook-signature`: a signature by each key.
    pub(super) fn signatures(&self, id: &str, second: i64, body: &str) -> String {
        let signed = format!("{id}.{second}.{body}");
        let signature = |key| format!("v1,{}", STANDARD.encode(hmac::sign(key, signed.as_bytes()).as_ref()));
        self.0.iter().map(signature).collect::<Vec<_>>().join(" ")
    }
}

fn key(line: &str) -> Result<hmac::Key, String> {
    let bytes = match line.strip_prefix(IN_BASE64) {
        Some(coded) => {
            STANDARD.decode(coded).map_err(|_| "signing-key: what follows whsec_ is not base64")?
        }
        None => line.as_bytes().to_vec(),
    };
    if bytes.len() < SHORTEST {
        return Err(format!("signing-key has {} bytes, and the fewest are {SHORTEST}", bytes.len()));
    }
    Ok(hmac::Key::new(hmac::HMAC_SHA256, &bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_the_one_of_the_specification() {
        let keys = Keys::read("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signature =
            keys.signatures("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, r#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn while_keys_are_exchanged_both_sign() {
        let (new, old) = ("a-key-of-the-new-generation", "a-key-of-the-old-generation");
        let sign = |text: &str| Keys::read(text).unwrap().signatures("id", 1, "body");
        assert_eq!(sign(&format!("{new}\n{old}\n")), format!("{} {}", sign(new), sign(old)));
    }

    #[test]
    fn a_key_that_is_none_is_refused_without_being_shown() {
        for (text, word) in [("", "empty"), ("short-secret", "12 bytes"), ("whsec_///***", "not base64")] {
            let error = Keys::read(text).err().unwrap();
            assert!(error.contains(word) && !error.contains("short-secret"), "{text}: {error}");
        }
    }
}
