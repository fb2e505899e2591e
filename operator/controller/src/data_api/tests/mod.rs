//! Does the router answer as kubectl and the API server want it?

mod answers;
mod cluster;
pub(super) mod fixtures;
mod reviews;
mod served;
mod symbols;
mod verdict;
mod views;
