//! How is a file of a stranger read without harm? In a process of its own, which the kernel bounds.
//!
//! ```text
//! operator ─ spawn ─► bound memory, CPU time, processes ─► exec itself ─► read the file ─► no new descriptors
//!     └──── question (stdin) ──────────────────────────────────┘              └── answer (stdout) ──► operator
//! ```
//! The bounds are set before the program that reads begins, so that they count for all of its memory. A process
//! without new descriptors opens neither files nor connections.

use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use clap::Args;
use nix::sys::resource::{Resource, setrlimit};

use super::protocol::Answer;
use super::read;

/// Memory of its own, in bytes: less than a merge of profiles may take, for whose turn it waits.
pub(super) const MEMORY: u64 = 224 << 20;
/// Address space, in bytes: files that are mapped count.
const ADDRESS_SPACE: u64 = 8 << 30;
/// CPU time, in seconds.
pub(super) const CPU: u64 = 20;
/// Descriptors while files are opened.
const OPEN_FILES: u64 = 16;
/// Longest question, in bytes.
pub(super) const MAX_QUESTION: usize = 4 << 20;

/// Flags of the hidden subcommand.
#[derive(Args, Clone, Copy, Debug)]
pub struct WorkerArgs {
    /// The bounds are set.
    #[arg(long)]
    bounded: bool,
}

/// Reads a question from stdin and writes the answer to stdout.
#[must_use]
pub fn main(args: WorkerArgs) -> ExitCode {
    let done = if args.bounded { serve() } else { begin_again() };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("failed to name addresses of a file: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Sets the bounds and starts over.
fn begin_again() -> std::io::Result<()> {
    // The kernel kills at the hard limit, as it does without memory; before that it says that the time is over.
    setrlimit(Resource::RLIMIT_CPU, CPU, CPU + 2)?;
    for (resource, bound) in [
        (Resource::RLIMIT_CORE, 0),
        (Resource::RLIMIT_FSIZE, 0),
        (Resource::RLIMIT_AS, ADDRESS_SPACE),
        (Resource::RLIMIT_DATA, MEMORY),
        (Resource::RLIMIT_NOFILE, OPEN_FILES),
    ] {
        setrlimit(resource, bound, bound)?;
    }
    Err(Command::new("/proc/self/exe").args(["symbolize", "--bounded"]).env_clear().exec())
}

fn serve() -> std::io::Result<()> {
    setrlimit(Resource::RLIMIT_NPROC, 0, 0)?;
    nix::sys::prctl::set_dumpable(false)?;
    nix::sys::prctl::set_no_new_privs()?;
    std::panic::set_hook(Box::new(|_| ()));
    let mut text = Vec::new();
    std::io::stdin().take(MAX_QUESTION as u64 + 1).read_to_end(&mut text)?;
    let question = serde_json::from_slice(&text).map_err(std::io::Error::other)?;
    let mut closed = false;
    let answer = read::answer(&question, || closed = setrlimit(Resource::RLIMIT_NOFILE, 0, 0).is_ok());
    let answer = match answer {
        Answer::Named(_) | Answer::Usable if !closed => {
            Answer::Unable("the process that reads it could not be bounded".to_owned())
        }
        answer => answer,
    };
    let mut out = std::io::stdout();
    serde_json::to_writer(&mut out, &answer).map_err(std::io::Error::other)?;
    out.flush()
}
