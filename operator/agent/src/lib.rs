//! The agent: a supervisor that takes orders, and one worker process per target and collector.

pub mod capture;
pub mod proc;
pub mod supervisor;
