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
    /// Whether it is only asked if the file can be used at all.
    #[serde(default)]
    pub check: bool,
}

impl Question {
    /// Whether a file can be used for what has this build id.
    pub fn check(file: PathBuf, build_id: &str) -> Self {
        let (build_id, supplement) = (build_id.to_owned(), Supplement::Nowhere);
        Self { file, build_id, supplement, addresses: Vec::new(), check: true }
    }
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
    /// The file can be used.
    Usable,
    /// The file needs its other part: its path as the file says, and its build id.
    Needs {
        /// The path; hostile.
        path: String,
        /// The build id in hex; hostile.
        build_id: String,
    },
    /// The file cannot be used, now or later: why, as a clause without a full stop.
    Refused(String),
    /// It could not be looked at this time: why, as a clause without a full stop.
    Unable(String),
}

/// Why a file was not read, as a clause without a full stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unread {
    /// The file is at fault, and will be the next time.
    Useless(String),
    /// Something else is, such as the time or the memory of the operator: another try may do better.
    Unable(String),
}

impl Unread {
    /// Whether the file itself is at fault.
    pub const fn is_useless(&self) -> bool {
        matches!(self, Self::Useless(_))
    }

    /// The clause, about the file of `whom`.
    pub fn of(self, whom: &str) -> String {
        match self {
            Self::Useless(why) => format!("the file {whom} is of no use: {why}"),
            Self::Unable(why) => format!("the file {whom} could not be read: {why}"),
        }
    }
}

impl From<String> for Unread {
    fn from(why: String) -> Self {
        Self::Unable(why)
    }
}
