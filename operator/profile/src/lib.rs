//! What does a profile hold, and how is it built, read, checked, merged and summed?
//!
//! A pure crate: bytes and numbers in, bytes and numbers out; no file, no network, no clock.
//!
//! ```text
//! recording ─► read ──────────┐
//! collector ─► ProfileBuilder ┴► Profile ─► set_labels ─► encode ─► bytes ─► decode + validate ─► Profile
//!                                                                                                  │
//!                                              merge ◄─────────────────────────────────────────────┤
//!                                                └─► fold_idle ─► top · tree · fold · diff ◄───────┤
//!                                                             PodCapture ─► verdict · trend ◄──────┘
//! ```
//! Functions that read a [`Profile`] never panic, even if it was not validated: dangling references are
//! skipped.

pub mod basis;
pub mod builder;
pub mod codec;
#[cfg(feature = "demangle")]
pub mod demangle;
pub mod diff;
#[cfg(feature = "elf")]
pub mod elf;
pub mod fold;
mod functions;
pub mod growth;
#[cfg(test)]
mod hostile;
pub mod idle;
mod index;
pub mod kind;
pub mod labels;
pub mod merge;
mod named;
mod noise;
pub mod otlp;
pub mod proto;
pub mod read;
pub mod resolve;
mod samples;
mod strings;
mod sums;
#[cfg(test)]
mod testing;
pub mod text;
pub mod top;
pub mod tree;
pub mod trend;
pub mod validate;
pub mod verdict;
mod view;
pub mod waits;

pub use basis::{Basis, BasisError, Side, Totals};
pub use builder::{
    AdoptError, Adopted, BuildError, BuilderLimits, Frame, Label, LabelValue, Line, LocationId, MappingId,
    MappingInfo, ProfileBuilder, Truncation,
};
pub use codec::{DecodeError, EncodeError, Limits, decode, decode_valid, encode};
pub use diff::{Diff, DiffRow, DiffSide, Differ, Order, render_diff};
pub use fold::{TooLong, fold};
pub use growth::growth;
pub use idle::{ASYNCIO_TASK, IDLE, fold_idle};
pub use kind::{ProfileKind, Rate, UnknownKind};
pub use labels::{TRACE_LABELS, rename_label, retain_labelled, retain_labels, set_comment, set_labels};
pub use merge::{MergeError, Merger, Overlap, merge};
pub use proto::Profile;
pub use read::ReadError;
pub use top::{Top, TopRow, render_top, top};
pub use tree::{CallTree, Columns, Grower, SideColumns, TreeLimits};
pub use validate::{Invalid, validate};
pub use view::{default_value_index, sample_types, total, value_index};
pub use waits::Wait;
