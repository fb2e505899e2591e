//! What does pprof look like on the wire?
//!
//! The types are generated from `proto/profile.proto` (no `protoc`; `tests/generated.rs` keeps them fresh).
//! Numbers that name a text are indices into [`Profile::string_table`], ids are free but unique and not 0.

#![allow(missing_docs, clippy::all)]

include!("generated/perftools.profiles.rs");
