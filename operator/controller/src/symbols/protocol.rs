//! What does the operator ask the process that reads a file with symbols, and what does it answer?

use std::path::PathBuf;

use fleetprof_profile::resolve::FileNames;
use serde::{Deserialize, Serialize};

/// Names for addresses of one file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Question {
    /// The file.
    pub file: PathBuf,
    /// The build id that it must have.
    pub build_id: String,
    /// The file that `dwz` moved common parts of its debug information to.
    pub supplement: Supplement,
    /// Addresses, sorted.
    pub addresses: Vec<u64>,
}

/// Where the other part of split debug information is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Supplement {
    /// It was not looked for: the answer may ask for it.
    Unknown,
    /// Nobody has it: names that it holds stay unknown.
    Nowhere,
    /// A file, and the build id that it must have.
    File(PathBuf, String),
}

/// What came of a question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// The names that were found.
    Named(FileNames),
    /// The file needs its other part: its path as the file says, and its build id.
    Needs {
        /// The path; hostile.
        path: String,
        /// The build id in hex; hostile.
        build_id: String,
    },
    /// The file cannot be used: why, as a clause without a full stop.
    Refused(String),
}
