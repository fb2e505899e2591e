//! Destinations against receivers of this process that are as strict as the real ones; tests/tests has the real
//! ones.

mod buckets;
mod delivery;
pub(crate) mod memory;
mod otlp;
mod pushes;
mod s3;
