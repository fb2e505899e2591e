//! Was this text made here, and not changed since? `KIND.payload.mac`, HMAC-SHA256 over kind and payload.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::digest::KeyInit;
use hmac::{Hmac, Mac};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::Sha256;

/// Longest sealed text that is looked at, in bytes.
const MAX_SEALED: usize = 4 * 1024;

/// Seals and opens texts with one key.
pub(super) struct Seal {
    // The keyed state, so that the key is not expanded for each text.
    mac: Hmac<Sha256>,
}

impl Seal {
    pub(super) fn new(key: &[u8; 32]) -> Self {
        // HMAC pads short keys with zeros to a block.
        let mut block = [0; 64];
        block[..key.len()].copy_from_slice(key);
        Self { mac: <Hmac<Sha256> as KeyInit>::new(&block.into()) }
    }

    /// The sealed text of a payload. The kind is part of what is signed: a ticket is never a credential.
    pub(super) fn close(&self, kind: &str, payload: &impl Serialize) -> Result<String, serde_json::Error> {
        let payload = URL_SAFE_NO_PAD.encode(serde_json::to_vec(payload)?);
        let signed = format!("{kind}.{payload}");
        let mac = self.sign(&signed).finalize().into_bytes();
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
        self.sign(signed).verify_slice(&URL_SAFE_NO_PAD.decode(mac).ok()?).ok()?;
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
    }

    fn sign(&self, signed: &str) -> Hmac<Sha256> {
        self.mac.clone().chain_update(signed)
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
