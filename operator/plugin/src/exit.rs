//! With which code does the plugin end, and what does it say then?

use std::fmt;
use std::process::ExitCode;

/// How a command ended. The codes are part of the interface: scripts branch on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// There is data; of a gate: no regression.
    Data,
    /// An error, or a session without data; of a gate: a regression.
    Error,
    /// The command line is wrong; of a gate: any error.
    Usage,
    /// Some targets have data, others failed; of a gate: inconclusive.
    Partial,
    /// The time to wait has passed; the session goes on.
    TimedOut,
    /// Interrupted by the user.
    Interrupted,
}

impl Exit {
    /// All of them, by code.
    pub(crate) const ALL: [Self; 6] =
        [Self::Data, Self::Error, Self::Usage, Self::Partial, Self::TimedOut, Self::Interrupted];

    /// What it means, for the man pages.
    pub(crate) const fn meaning(self) -> &'static str {
        match self {
            Self::Data => "The command did what it was asked to. diff and regress: no regression.",
            Self::Error => {
                "An error, or a session without data. doctor: a check failed. diff and regress: a regression."
            }
            Self::Usage => {
                "The command line is wrong, or no policy serves the target. diff and regress: an error."
            }
            Self::Partial => "now: some targets have data, others do not. diff and regress: inconclusive.",
            Self::TimedOut => "now: the time of --timeout has passed; the session goes on.",
            Self::Interrupted => "Interrupted by Ctrl-C. now: the session goes on unless you cancel it.",
        }
    }

    /// The code of the process.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Data => 0,
            Self::Error => 1,
            Self::Usage => 2,
            Self::Partial => 3,
            Self::TimedOut => 4,
            Self::Interrupted => 130,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Why a command gave no data: one sentence for stderr, and the code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    message: String,
    exit: Exit,
    status: Option<u16>,
}

impl Failure {
    /// Code 1.
    pub(crate) fn error(message: impl Into<String>) -> Self {
        Self { message: message.into(), exit: Exit::Error, status: None }
    }

    /// Code 2: the command line is wrong.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { message: message.into(), exit: Exit::Usage, status: None }
    }

    /// The API server refused with this HTTP status.
    pub(crate) fn refused(status: u16, message: impl Into<String>) -> Self {
        Self { status: Some(status), ..Self::error(message) }
    }

    /// Whoever read the output has closed it, such as `head`: nothing is said.
    pub(crate) const fn closed() -> Self {
        Self { message: String::new(), exit: Exit::Data, status: None }
    }

    /// The same with another code.
    #[must_use]
    pub(crate) fn with(self, exit: Exit) -> Self {
        match self.is_closed() {
            true => self,
            false => Self { exit, ..self },
        }
    }

    /// The code.
    pub(crate) const fn exit(&self) -> Exit {
        self.exit
    }

    /// Whether only the reader of the output has gone.
    pub(crate) const fn is_closed(&self) -> bool {
        self.message.is_empty()
    }

    /// The HTTP status of a refusal.
    pub(crate) const fn status(&self) -> Option<u16> {
        self.status
    }
}

/// The code of a command whose result is known, whether or not its output was read to the end: a gate that found
/// something does not pass because `head` has closed the pipe.
pub(crate) fn after(printed: Result<(), Failure>, exit: Exit) -> Result<Exit, Failure> {
    match printed {
        Err(failure) if !failure.is_closed() => Err(failure),
        _ => Ok(exit),
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_codes_are_those_of_the_guide() {
        assert_eq!(Exit::ALL.map(Exit::code), [0, 1, 2, 3, 4, 130], "scripts rely on them");
        let guide = include_str!("../../../docs/plugin.md");
        let table = guide.split("## Exit codes").nth(1).and_then(|rest| rest.split("\n## ").next()).unwrap();
        let first = |line: &str| line.strip_prefix("| ")?.split(' ').next()?.parse::<u8>().ok();
        let codes: Vec<u8> = table.lines().filter_map(first).collect();
        assert_eq!(codes, Exit::ALL.map(Exit::code), "the table in docs/plugin.md");
        assert_eq!(Failure::closed().with(Exit::Usage).exit(), Exit::Data, "a closed pipe is not an error");
        assert_eq!(Failure::error("no").with(Exit::Usage).exit(), Exit::Usage);
    }

    #[test]
    fn a_closed_pipe_changes_no_result() {
        for exit in [Exit::Data, Exit::Error, Exit::Partial] {
            assert_eq!(after(Err(Failure::closed()), exit), Ok(exit));
            assert_eq!(after(Ok(()), exit), Ok(exit));
        }
        assert_eq!(after(Err(Failure::error("no space")), Exit::Data), Err(Failure::error("no space")));
    }
}
