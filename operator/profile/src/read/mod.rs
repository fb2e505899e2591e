//! How are profiles in the formats of other profilers read?
//!
//! Each reader is a pure function from bounded bytes to profiles. The bytes come from a target, so they are
//! hostile: sizes are checked before they are used, work is bounded by the number of bytes, and what is not
//! known is skipped.

pub mod class_histogram;
pub mod goroutines;
pub mod jfr;
mod json;
mod little_endian;
pub mod nettrace;
pub mod portable_pdb;
pub mod thread_dump;
pub mod v8;

/// Why bytes could not be read as what they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// More than the limits allow.
    #[error("the {format} has {have} {what}, the limit is {limit}: capture shorter slices")]
    TooLarge {
        /// The format, such as `JFR recording`.
        format: &'static str,
        /// What there is too much of.
        what: &'static str,
        /// How much there is, or more.
        have: usize,
        /// How much is allowed.
        limit: usize,
    },
    /// The bytes break a rule of the format.
    #[error("the {format} is damaged at byte {at}: {what}; capture again")]
    Damaged {
        /// The format, such as `JFR recording`.
        format: &'static str,
        /// Where, in bytes from the start.
        at: usize,
        /// What is wrong there.
        what: &'static str,
    },
    /// The bytes are in a form that is not read.
    #[error("the {format} has {what}, which this version of fleetprof does not read: update the agent")]
    Unsupported {
        /// The format, such as `JFR recording`.
        format: &'static str,
        /// What is not read.
        what: &'static str,
    },
}
