//! How are stable pseudo-random numbers derived from names? With SHA-256, so that all replicas and runs
//! agree.

use sha2::{Digest, Sha256};

/// What stands for names of any length in the same number of bytes.
pub type Key = [u8; 16];

/// A number that depends on all `parts` and their order, evenly spread over the range of `u64`.
#[must_use]
pub fn hash(parts: &[&str]) -> u64 {
    key(parts).iter().take(8).fold(0, |n, b| n << 8 | u64::from(*b))
}

/// What stands for all `parts` and their order: nobody can find other parts with the same key.
#[must_use]
pub fn key(parts: &[&str]) -> Key {
    let mut sha = Sha256::new();
    for part in parts {
        sha.update((part.len() as u64).to_le_bytes());
        sha.update(part.as_bytes());
    }
    let mut key = Key::default();
    key.iter_mut().zip(sha.finalize()).for_each(|(to, from)| *to = from);
    key
}

/// The same as 10 lower-case letters and digits, for names.
#[must_use]
pub fn short_name(parts: &[&str]) -> String {
    let mut n = hash(parts);
    (0..10)
        .map(|_| {
            let digit = (n % 36) as u8;
            n /= 36;
            char::from(if digit < 10 { b'0' + digit } else { b'a' + digit - 10 })
        })
        .collect()
}
