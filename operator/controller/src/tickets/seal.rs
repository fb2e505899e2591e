//! Was this text made here, and not changed since? `KIND.payload.mac`, HMAC-SHA256 over kind and payload.

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Longest sealed text that is looked at, in bytes.
const MAX_SEALED: usize = 4 * 1024;

/// Seals and opens texts with one key.
pub(super) struct Seal {
    // The expanded key, so that this is not done for each text.
    key: hmac::Key,
}

impl Seal {
    pub(super) fn new(key: &[u8; 32]) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, key) }
    }

    /// The sealed text of a payload. The kind is part of what is signed: a ticket is never a credential.
    pub(super) fn close(&self, kind: &str, payload: &impl Serialize) -> Result<String, serde_json::Error> {
        let payload = URL_SAFE_NO_PAD.encode(serde_json::to_vec(payload)?);
        let signed = format!("{kind}.{payload}");
        let mac = hmac::sign(&self.key, signed.as_bytes());
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac)))
    }

    /// The payload of a text of this kind that was sealed with this key, and of no other text.
    pub(super) fn open<T: DeserializeOwned>(&self, kind: &str, sealed: &str) -> Option<T> {
        if sealed.len() > MAX_SEALED {
            return None;
        }
        let (signed, mac) = sealed.rsplit_once('.')?;
        let payload = signed.strip_prefix(kind)?.strip_prefix('.')?;
        // Compares in constant time, before anything in the payload is looked at.
        hmac::verify(&self.key, signed.as_bytes(), &URL_SAFE_NO_PAD.decode(mac).ok()?).ok()?;
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_sealed_opens_again() {
        let seal = Seal::new(&[7; 32]);
        let sealed = seal.close("k1", &("hello", 3)).unwrap();
        assert_eq!(seal.open("k1", &sealed), Some(("hello".to_owned(), 3)));
        assert_eq!(seal.open::<(String, i32)>("k2", &sealed), None);
        assert_eq!(Seal::new(&[8; 32]).open::<(String, i32)>("k1", &sealed), None);
    }

    #[test]
    fn a_sealed_text_is_the_same_in_every_version() {
        let seal = Seal::new(&[7; 32]);
        let sealed = "k1.WyJoZWxsbyIsM10.UhNTrx1S02VkwUQM_oN4NTB9yQ2A84R-lj23UV6wXqk";
        assert_eq!(seal.close("k1", &("hello", 3)).unwrap(), sealed);
        assert_eq!(seal.open("k1", sealed), Some(("hello".to_owned(), 3)));
    }

    proptest! {
        #[test]
        fn no_changed_text_opens(at in 0usize..200, with in proptest::char::range('!', '~')) {
            let seal = Seal::new(&[7; 32]);
            let sealed = seal.close("k1", &"some payload of a certain length").unwrap();
            let mut changed: Vec<char> = sealed.chars().collect();
            let at = at % changed.len();
            prop_assume!(changed[at] != with);
            changed[at] = with;
            prop_assert_eq!(seal.open::<String>("k1", &changed.into_iter().collect::<String>()), None);
        }

        #[test]
        fn arbitrary_text_neither_opens_nor_panics(text: String) {
            prop_assert_eq!(Seal::new(&[7; 32]).open::<String>("k1", &text), None);
        }
    }
}
