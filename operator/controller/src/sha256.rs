//! What is the SHA-256 of some bytes? By the library that TLS uses, so that there is no second one.

use aws_lc_rs::digest;

/// The SHA-256 of some bytes.
#[must_use]
pub fn sha256(bytes: impl AsRef<[u8]>) -> [u8; 32] {
    let mut sum = [0; 32];
    sum.copy_from_slice(digest::digest(&digest::SHA256, bytes.as_ref()).as_ref());
    sum
}

/// The SHA-256 of bytes that come one after the other.
pub(crate) struct Sha256(digest::Context);

impl Default for Sha256 {
    fn default() -> Self {
        Self(digest::Context::new(&digest::SHA256))
    }
}

impl Sha256 {
    /// Adds bytes.
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The sum of all of them in lower-case hex digits.
    pub(crate) fn finish(self) -> String {
        self.0.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_of_nothing_is_the_known_one() {
        let hex: String = sha256("").iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        let mut parts = Sha256::default();
        ["he", "", "llo"].iter().for_each(|part| parts.update(part.as_bytes()));
        let whole: String = sha256("hello").iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(parts.finish(), whole);
    }
}
