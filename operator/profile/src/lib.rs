//! What does a profile hold, and how is it built, read, checked, merged and summed?
//!
//! A pure crate: bytes and numbers in, bytes and numbers out; no file, no network, no clock.
//!
//! ```text
//! recording ─► read ──────────┐
//! collector ─► ProfileBuilder ┴► Profile ─► set_labels ─► encode ─► bytes ─► decode + validate ─► Profile
//!                                                                                                  │
//!                                              merge ◄─────────────────────────────────────────────┤
//!                                                └─► fold_idle ─► top · fold · tree · diff ◄───────┤
//!                                                                     PodCapture ─► verdict ◄──────┘
//! ```
//! Functions that read a [`Profile`] never panic, even if it was not validated: dangling references are
//! skipped.

pub mod builder;
pub mod codec;
pub mod diff;
pub mod fold;
pub mod growth;
#[cfg(test)]
mod hostile;
pub mod idle;
pub mod kind;
pub mod labels;
pub mod merge;
mod named;
pub mod proto;
pub mod read;
mod samples;
mod strings;
#[cfg(test)]
mod testing;
pub mod text;
pub mod top;
pub mod tree;
pub mod validate;
pub mod verdict;
mod view;
pub mod waits;

pub use builder::{
    AdoptError, Adopted, BuildError, BuilderLimits, Frame, Label, LabelValue, Line, LocationId, MappingId,
    MappingInfo, ProfileBuilder, Truncation,
};
pub use codec::{DecodeError, EncodeError, Limits, decode, decode_valid, encode};
pub use diff::{Diff, DiffRow, diff, render_diff};
pub use fold::fold;
pub use growth::growth;
pub use idle::{IDLE, fold_idle};
pub use kind::{ProfileKind, Rate, UnknownKind};
pub use labels::{retain_labels, set_labels};
pub use merge::{MergeError, Merger, Overlap, merge};
pub use proto::Profile;
pub use read::ReadError;
pub use top::{Top, TopRow, render_top, top};
pub use tree::{FlameNode, tree};
pub use validate::{Invalid, validate};
pub use view::{default_value_index, sample_types, total, value_index};
pub use waits::Wait;
