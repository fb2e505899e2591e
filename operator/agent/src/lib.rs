//! The agent: a supervisor that takes orders, and a worker process for each capture.

pub mod capture;
pub mod proc;
pub mod start;
pub mod supervisor;
