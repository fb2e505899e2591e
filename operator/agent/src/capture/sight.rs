//! What is known of a process before anything is done to it? What `/proc` tells, and its own listeners.

use std::fmt;
use std::time::Duration;

use super::dotnet::{self, Diagnostics};
use super::go::{self, Pprof};
use super::runtime::{self, Runtime};
use super::variables::Presence;
use super::{php, ruby};
use crate::proc::{self, SignalSet, read_bounded};

/// Most bytes of a command line that are read.
const MAX_ARGUMENT_BYTES: u64 = 16 * 1024;
/// Most arguments that are kept, and most bytes of one.
const MAX_ARGUMENTS: usize = 128;
const MAX_ARGUMENT: usize = 1024;

/// The variable with which webhook and controller say that the pod shares the node's network (`true`): what
/// listens in it for a capture can then be reached by every process of the node. Workers get it from the
/// supervisor.
pub const HOST_NETWORK: &str = "FLEETPROF_HOST_NETWORK";

/// How old a process is when its runtime is certainly ready, also on a slow node.
const YOUNG: Duration = Duration::from_secs(10);

/// Whether a process started so lately that its runtime may not be ready.
#[must_use]
pub fn is_young(pid: i32) -> bool {
    proc::age(pid).is_some_and(|age| age < YOUNG)
}

/// A process, as collectors see it when they say what they offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sight {
    /// The process.
    pub pid: i32,
    /// Its runtime.
    pub runtime: Runtime,
    /// Signals that it handles: any other one that is sent to it may end it.
    pub caught: SignalSet,
    /// Its command line.
    pub arguments: Arguments,
    /// Whether it started so lately that its runtime may not be ready.
    pub is_young: bool,
    /// Whether every process of the node reaches what it listens at.
    pub host_network: bool,
    /// Of a Go process, whether it serves its profiles.
    pub pprof: Pprof,
    /// Of a .NET process, whether it can be asked.
    pub diagnostics: Diagnostics,
    /// Of a Ruby or PHP process, whether its interpreter can be found by its symbols.
    pub variables: Presence,
}

/// A command line: at most 128 arguments of 1024 bytes. It may hold secrets, so it is never logged or sent,
/// and does not show itself.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Arguments(Vec<String>);

impl Arguments {
    /// The arguments in the text of a `cmdline` file.
    #[must_use]
    pub fn parse(text: &[u8]) -> Self {
        let words = text.split(|byte| *byte == 0).filter(|word| !word.is_empty()).take(MAX_ARGUMENTS);
        let word =
            |word: &[u8]| String::from_utf8_lossy(word.get(..MAX_ARGUMENT).unwrap_or(word)).into_owned();
        Self(words.map(word).collect())
    }

    /// Whether one of them is this word.
    #[must_use]
    pub fn hold(&self, word: &str) -> bool {
        self.0.iter().any(|argument| argument == word)
    }

    /// What follows in the first one that begins like this.
    #[must_use]
    pub fn after(&self, prefix: &str) -> Option<&str> {
        self.0.iter().find_map(|argument| argument.strip_prefix(prefix))
    }

    /// Whether one of them begins like this.
    #[must_use]
    pub fn begin(&self, prefix: &str) -> bool {
        self.0.iter().any(|argument| argument.starts_with(prefix))
    }
}

impl fmt::Debug for Arguments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{} arguments]", self.0.len())
    }
}

impl Sight {
    /// A process of which nothing but its runtime is known.
    #[must_use]
    pub fn new(pid: i32, runtime: Runtime) -> Self {
        let (caught, arguments) = (SignalSet::default(), Arguments::default());
        let (pprof, diagnostics, variables) = (Pprof::Unknown, Diagnostics::default(), Presence::Unknown);
        let (is_young, host_network) = (false, false);
        Self { pid, runtime, caught, arguments, is_young, host_network, pprof, diagnostics, variables }
    }

    /// What can be seen of a process at once; `None` where it takes a while: a Go process is asked whether it
    /// serves its profiles.
    #[must_use]
    pub fn quick(pid: i32) -> Option<Self> {
        let runtime = runtime::detect(pid);
        (!matches!(runtime, Runtime::Go(_))).then(|| Self::read(pid, runtime))
    }

    /// What can be seen of a process within a second; never fails.
    #[must_use]
    pub fn of(pid: i32) -> Self {
        let sight = Self::read(pid, runtime::detect(pid));
        match sight.runtime {
            Runtime::Go(_) => Self { pprof: go::look(pid), ..sight },
            _ => sight,
        }
    }

    fn read(pid: i32, runtime: Runtime) -> Self {
        let arguments = read_bounded(format!("/proc/{pid}/cmdline"), MAX_ARGUMENT_BYTES).unwrap_or_default();
        Self {
            caught: proc::caught_signals(pid).unwrap_or_default(),
            arguments: Arguments::parse(&arguments),
            is_young: is_young(pid),
            host_network: std::env::var(HOST_NETWORK).is_ok_and(|value| value == "true"),
            diagnostics: if runtime == Runtime::DotNet { dotnet::look(pid) } else { Diagnostics::default() },
            variables: variables(pid, &runtime),
            ..Self::new(pid, runtime)
        }
    }
}

/// Whether the interpreter of a process can be found by its symbols, where a collector needs it.
fn variables(pid: i32, runtime: &Runtime) -> Presence {
    let look = match runtime {
        Runtime::Ruby => ruby::look_for_variables,
        Runtime::Php(_) => php::look_for_variables,
        _ => return Presence::Unknown,
    };
    let exe = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
    look(pid, &proc::maps(pid).unwrap_or_default(), &exe.to_string_lossy())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_is_bounded_and_does_not_show_itself() {
        let text = [b"java\0-Xrs\0".as_slice(), &[b'x'; 5000], b"\0", &b"a\0".repeat(500)].concat();
        let arguments = Arguments::parse(&text);
        assert!(arguments.hold("-Xrs") && arguments.begin("-X") && !arguments.hold("-X"));
        assert_eq!((arguments.after("-X"), arguments.after("-y")), (Some("rs"), None));
        assert!(arguments.0.len() == MAX_ARGUMENTS && arguments.0[2].len() == MAX_ARGUMENT);
        assert_eq!(format!("{arguments:?}"), "[128 arguments]");
    }

    #[test]
    fn this_process_is_seen() {
        let me = i32::try_from(std::process::id()).unwrap();
        let sight = Sight::of(me);
        assert_eq!((sight.pid, &sight.runtime), (me, &Runtime::Native));
        assert!(sight.arguments.0.len() <= MAX_ARGUMENTS && !sight.arguments.0.is_empty());
        assert_eq!(Sight::of(i32::MAX), Sight::new(i32::MAX, Runtime::Unknown));
    }
}
