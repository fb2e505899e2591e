//! What do all servers of the operator share?

mod bind;

pub use bind::bind;
