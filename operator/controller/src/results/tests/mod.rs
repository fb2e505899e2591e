//! Does the volume keep what it promises?

mod archived_symbols;
mod crash;
pub(crate) mod fixtures;
mod full;
mod growth;
mod kinds;
mod share;
mod volume;
