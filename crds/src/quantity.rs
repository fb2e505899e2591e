//! How are Kubernetes quantities parsed, such as `100m`, `64Mi` and `1.5e3`?
//!
//! The grammar is that of `resource.Quantity` in the API server. Quantities are stored exactly in billionths,
//! the precision of Kubernetes; finer values are rounded up, as in Kubernetes. Quantities beyond 2^63 - 1 are
//! rejected, whereas Kubernetes caps them.

use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Billionths in one.
const NANOS: i128 = 1_000_000_000;
/// Billionths in a thousandth.
const NANOS_PER_MILLI: i128 = 1_000_000;
/// The most that Kubernetes keeps.
const MAX_NANOS: i128 = i64::MAX as i128 * NANOS;
/// Digits before the point that no amount up to [`MAX_NANOS`] exceeds, not even one of billionths.
const MAX_WHOLE_DIGITS: i64 = 28;
/// Digits after which nothing is left of a fraction: every unit has fewer.
const UNIT_DIGITS: usize = 40;

/// CPU quantity with millicore precision, such as `100m`, `2` or `0.5`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Millicores(
    #[schemars(length(min = 1, max = 16), regex(pattern = r"^([0-9]{1,9}m|[0-9]{1,6}([.][0-9]{1,3})?)$"))]
    pub String,
);

impl Default for Millicores {
    /// 100m: a capture of a Python process at 99 Hz was measured at 70 to 90m.
    fn default() -> Self {
        Self("100m".into())
    }
}

impl Millicores {
    /// Thousandths of a core; `None` for text that is not an amount of CPU.
    #[must_use]
    pub fn get(&self) -> Option<i64> {
        millicores(&self.0)
    }
}

/// Memory quantity, such as `64Mi`, `1G` or `33554432`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Memory(
    #[schemars(length(min = 1, max = 16), regex(pattern = r"^[0-9]{1,12}(k|M|G|Ki|Mi|Gi)?$"))] pub String,
);

/// Reads a Kubernetes quantity of CPU as thousandths of a core, rounded up. `None` for a negative amount, and
/// for text that is not a quantity.
#[must_use]
pub fn millicores(text: &str) -> Option<i64> {
    let nanos = text.parse::<Quantity>().ok()?.nanos;
    let up = nanos.checked_add(NANOS_PER_MILLI - 1)? / NANOS_PER_MILLI;
    (nanos >= 0).then(|| i64::try_from(up).unwrap_or(i64::MAX))
}

/// Reads a Kubernetes quantity of bytes, rounded down. `None` for a negative amount, and for text that is not
/// a quantity.
#[must_use]
pub fn bytes(text: &str) -> Option<u64> {
    u64::try_from(text.parse::<Quantity>().ok()?.nanos.div_euclid(NANOS)).ok()
}

/// An exact quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Quantity {
    nanos: i128,
}

impl Quantity {
    /// Nothing.
    pub const ZERO: Self = Self { nanos: 0 };

    /// The quantity of this many billionths.
    #[must_use]
    pub const fn from_nanos(nanos: i128) -> Self {
        Self { nanos }
    }

    /// Billionths, from -2^63 to 2^63 times 10^9 in a quantity that was read.
    #[must_use]
    pub const fn nanos(self) -> i128 {
        self.nanos
    }
}

/// Why text is not a quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuantityError {
    /// It does not follow the grammar.
    Malformed,
    /// Its magnitude is beyond 2^63 - 1.
    TooLarge,
}

impl FromStr for Quantity {
    type Err = QuantityError;

    /// `<quantity> ::= [+|-] (<digits> | <digits>.<digits> | <digits>. | .<digits>) <suffix>`
    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let (negative, unsigned) = match text.as_bytes().first() {
            Some(b'-') => (true, text.get(1..)),
            Some(b'+') => (false, text.get(1..)),
            _ => (false, Some(text)),
        };
        let unsigned = unsigned.unwrap_or_default();
        let end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
        let (number, suffix) = unsigned.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if fraction.contains('.') || (whole.is_empty() && fraction.is_empty()) {
            return Err(QuantityError::Malformed);
        }
        let (unit, exponent) = scale(suffix).ok_or(QuantityError::Malformed)?;
        let digits: Vec<u8> = whole.bytes().chain(fraction.bytes()).map(|digit| digit - b'0').collect();
        let point = i64::try_from(whole.len()).map_err(|_| QuantityError::TooLarge)? + i64::from(exponent);
        let nanos = nanos(&digits, point, unit).ok_or(QuantityError::TooLarge)?;
        Ok(Self { nanos: if negative { -nanos } else { nanos } })
    }
}

/// What a suffix multiplies by, as billionths in its unit and a power of ten.
fn scale(suffix: &str) -> Option<(i128, i32)> {
    let power = match suffix {
        "n" => return Some((1, 0)),
        "u" => return Some((NANOS / 1_000_000, 0)),
        "m" => return Some((NANOS / 1000, 0)),
        "" => return Some((NANOS, 0)),
        "k" => 3,
        "M" => 6,
        "G" => 9,
        "T" => 12,
        "P" => 15,
        "E" => 18,
        "Ki" => return Some((NANOS << 10, 0)),
        "Mi" => return Some((NANOS << 20, 0)),
        "Gi" => return Some((NANOS << 30, 0)),
        "Ti" => return Some((NANOS << 40, 0)),
        "Pi" => return Some((NANOS << 50, 0)),
        "Ei" => return Some((NANOS << 60, 0)),
        // `e3`, `E+3`, `e-3`
        _ => suffix.strip_prefix(['e', 'E'])?.parse().ok()?,
    };
    Some((NANOS, power))
}

/// Billionths in the number of these digits with the point behind the first `point` of them, times `unit`,
/// rounded up. `None` when it is more than [`MAX_NANOS`].
fn nanos(digits: &[u8], point: i64, unit: i128) -> Option<i128> {
    let zeros = digits.iter().take_while(|digit| **digit == 0).count();
    let digits = digits.get(zeros..).filter(|rest| !rest.is_empty());
    let Some(digits) = digits else { return Some(0) };
    let point = point - i64::try_from(zeros).ok()?;
    if point > MAX_WHOLE_DIGITS {
        return None;
    }
    let behind = usize::try_from(point).unwrap_or(0);
    let whole =
        (0..behind).fold(0_i128, |n, at| n * 10 + i128::from(digits.get(at).copied().unwrap_or_default()));
    let missing = usize::try_from(-point).unwrap_or(0);
    let rest = fraction(digits.get(behind..).unwrap_or_default(), missing, unit);
    whole.checked_mul(unit)?.checked_add(rest).filter(|nanos| *nanos <= MAX_NANOS)
}

/// `unit` times the fraction `0.` with `zeros` zeros and then these digits, rounded up.
fn fraction(digits: &[u8], zeros: usize, unit: i128) -> i128 {
    // From the last digit on, so that nothing is lost however many there are: a whole number that was divided
    // by ten in steps, each rounded down, is what one division rounded down gives.
    let places = digits.iter().rev().copied().chain(std::iter::repeat_n(0, zeros.min(UNIT_DIGITS)));
    let (down, exact) = places.fold((0, true), |(sum, exact), digit| {
        let sum = sum + i128::from(digit) * unit;
        (sum / 10, exact && sum % 10 == 0)
    });
    if exact { down } else { down + 1 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Suffixes as factors in billionths.
    const SUFFIXES: [(&str, i128); 21] = [
        ("", 1_000_000_000),
        ("n", 1),
        ("u", 1000),
        ("m", 1_000_000),
        ("k", 1_000_000_000_000),
        ("M", 1_000_000_000_000_000),
        ("G", 1_000_000_000_000_000_000),
        ("T", 1_000_000_000_000_000_000_000),
        ("P", 1_000_000_000_000_000_000_000_000),
        ("E", 1_000_000_000_000_000_000_000_000_000),
        ("Ki", 1_024_000_000_000),
        ("Mi", 1_048_576_000_000_000),
        ("Gi", 1_073_741_824_000_000_000),
        ("Ti", 1_099_511_627_776_000_000_000),
        ("Pi", 1_125_899_906_842_624_000_000_000),
        ("Ei", 1_152_921_504_606_846_976_000_000_000),
        ("e3", 1_000_000_000_000),
        ("E+3", 1_000_000_000_000),
        ("e0", 1_000_000_000),
        ("E-3", 1_000_000),
        ("e-9", 1),
    ];

    fn nanos_of(text: &str) -> Result<i128, QuantityError> {
        text.parse::<Quantity>().map(|quantity| quantity.nanos)
    }

    #[test]
    fn amounts_of_cpu() {
        for (text, wanted) in [
            ("100m", 100),
            ("2", 2000),
            ("0.5", 500),
            ("1.5", 1500),
            ("1e1", 10_000),
            ("500u", 1),
            ("3k", 3_000_000),
            ("0.1", 100),
            ("1M", 1_000_000_000),
            ("1Ki", 1_024_000),
            ("1000001n", 2),
            ("0.0000000001", 1),
            ("9223372036854775807", i64::MAX),
        ] {
            assert_eq!(millicores(text), Some(wanted), "{text}");
        }
        for text in ["", "m", "-1", "-1n", "x", "NaN", "inf", "1 0"] {
            assert_eq!(millicores(text), None, "{text}");
        }
        assert_eq!(Millicores::default().get(), Some(100));
    }

    #[test]
    fn amounts_of_bytes() {
        for (text, wanted) in [
            ("5Gi", 5 << 30),
            ("1.5Gi", 3 << 29),
            ("1500m", 1),
            ("500e6", 500_000_000),
            // More than the 53 bits of a float.
            ("9007199254740993", 9_007_199_254_740_993),
            ("9223372036854775807", i64::MAX.unsigned_abs()),
        ] {
            assert_eq!(bytes(text), Some(wanted), "{text}");
        }
        for text in ["5 GB", "-1", "-1n", "99999999Ti", "8Ei", "", "Gi", "NaN", "inf"] {
            assert_eq!(bytes(text), None, "{text}");
        }
    }

    #[test]
    fn every_form_of_the_grammar_is_read() {
        for (text, wanted) in [
            ("1.", NANOS),
            (".5", NANOS / 2),
            ("+.5", NANOS / 2),
            ("-1.5", -NANOS * 3 / 2),
            ("0", 0),
            ("-0", 0),
            ("000.000Ei", 0),
            ("1E", 1_000_000_000_000_000_000 * NANOS),
            ("1E1", 10 * NANOS),
            ("0.001e3", NANOS),
            ("1000e-3", NANOS),
            ("0.5Ki", 512 * NANOS),
            ("7.999Ei", 9_222_219_115_350_168_961_024_000_000),
            ("1e-400", 1),
            ("0e2000000000", 0),
        ] {
            assert_eq!(nanos_of(text), Ok(wanted), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_quantity_is_refused() {
        for text in [
            "", "+", "-", ".", "+-1", "1..", "1.2.3", "1K", "1ki", "1mi", "1 ", " 1", "1e", "1e1.5", "1em",
            "1Kim", "1_000", "0x10", "1i", "١", "1é",
        ] {
            assert_eq!(nanos_of(text), Err(QuantityError::Malformed), "{text}");
        }
        for text in ["9223372036854775808", "8Ei", "1e19", "1e2000000000", "10000000000000000000000000000n"] {
            assert_eq!(nanos_of(text), Err(QuantityError::TooLarge), "{text}");
        }
    }

    proptest! {
        #[test]
        fn an_amount_is_read_as_it_was_written(
            sign in prop::sample::select(vec!["", "+", "-"]),
            whole in 0..=9_999_i128,
            thousandths in 0..=999_i128,
            zeros in (0..5usize, 0..5usize),
            suffix in prop::sample::select(SUFFIXES.to_vec()),
        ) {
            let (leading, trailing) = ("0".repeat(zeros.0), "0".repeat(zeros.1));
            let text = format!("{sign}{leading}{whole}.{thousandths:03}{trailing}{}", suffix.0);
            let scaled = (whole * 1000 + thousandths) * suffix.1;
            let rounded = (scaled + 999) / 1000;
            let wanted = match rounded {
                n if n > MAX_NANOS => Err(QuantityError::TooLarge),
                n if sign == "-" => Ok(-n),
                n => Ok(n),
            };
            prop_assert_eq!(nanos_of(&text), wanted, "{}", text);
        }

        #[test]
        fn the_point_may_be_moved_by_an_exponent(digits in "[0-9]{1,12}", at in 0..=12usize) {
            let at = at.min(digits.len());
            let moved = format!("{}.{}e{}", &digits[..at], &digits[at..], digits.len() - at);
            prop_assert_eq!(nanos_of(&moved), nanos_of(&digits));
        }

        #[test]
        fn arbitrary_text_does_not_panic(text in "[-+]?[0-9.]{0,60}[eEinumkKMGTP0-9+-]{0,9}", other: String) {
            let _ = (nanos_of(&text), millicores(&text), bytes(&text));
            let _ = (nanos_of(&other), millicores(&other), bytes(&other));
        }
    }
}
