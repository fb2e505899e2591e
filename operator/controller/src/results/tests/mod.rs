//! Does the volume keep what it promises?

mod crash;
pub(crate) mod fixtures;
mod full;
mod growth;
mod kinds;
mod share;
mod volume;
