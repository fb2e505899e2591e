//! Who may use the console? Whoever exchanged a code that was printed to the terminal for the token.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// How long a code can be used.
const CODE_LIFE: Duration = Duration::from_mins(2);
/// Most codes that wait at a time; the oldest one goes first.
const MOST_CODES: usize = 8;

/// The token, and the codes that can be exchanged for it.
pub(super) struct Keys {
    token: String,
    codes: Mutex<Vec<(String, Instant)>>,
}

impl Keys {
    /// A new token, and no code. Nothing if the system has no random numbers.
    pub(super) fn new() -> Option<Self> {
        Some(Self { token: random()?, codes: Mutex::default() })
    }

    /// A code that works once, until two minutes from now.
    pub(super) fn issue(&self, now: Instant) -> Option<String> {
        let code = random()?;
        let mut codes = self.codes.lock().unwrap_or_else(PoisonError::into_inner);
        if codes.len() >= MOST_CODES {
            codes.remove(0);
        }
        codes.push((code.clone(), now));
        Some(code)
    }

    /// The token, if this is a code that was issued lately and not used yet.
    pub(super) fn exchange(&self, code: &str, now: Instant) -> Option<&str> {
        let mut codes = self.codes.lock().unwrap_or_else(PoisonError::into_inner);
        codes.retain(|(_, issued)| now.duration_since(*issued) < CODE_LIFE);
        let at = codes.iter().position(|(known, _)| same(known, code))?;
        codes.remove(at);
        Some(&self.token)
    }

    /// Whether this is the token.
    pub(super) fn is_token(&self, token: &str) -> bool {
        same(&self.token, token)
    }
}

/// Compares without telling by the time it takes how much is right.
fn same(one: &str, other: &str) -> bool {
    verify_slices_are_equal(one.as_bytes(), other.as_bytes()).is_ok()
}

/// 256 random bits.
fn random() -> Option<String> {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes).ok()?;
    Some(URL_SAFE_NO_PAD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_works_once() {
        let (keys, now) = (Keys::new().unwrap(), Instant::now());
        let code = keys.issue(now).unwrap();
        let token = keys.exchange(&code, now).unwrap();
        assert!(keys.is_token(token));
        assert!(keys.exchange(&code, now).is_none(), "spent");
        assert!(!keys.is_token(&code) && !keys.is_token(""));
    }

    #[test]
    fn a_code_works_for_two_minutes() {
        let (keys, now) = (Keys::new().unwrap(), Instant::now());
        let (early, late) = (keys.issue(now).unwrap(), keys.issue(now).unwrap());
        assert!(keys.exchange(&early, now + Duration::from_secs(119)).is_some());
        assert!(keys.exchange(&late, now + Duration::from_mins(2)).is_none());
    }

    #[test]
    fn codes_do_not_pile_up_and_do_not_repeat() {
        let (keys, now) = (Keys::new().unwrap(), Instant::now());
        let codes: Vec<String> = (0..20).map(|_| keys.issue(now).unwrap()).collect();
        let distinct: std::collections::BTreeSet<&String> = codes.iter().collect();
        assert_eq!(distinct.len(), 20);
        assert!(keys.exchange(&codes[11], now).is_none() && keys.exchange(&codes[12], now).is_some());
        assert!(keys.exchange("", now).is_none());
    }
}
