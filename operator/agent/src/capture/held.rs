//! Which runtime does a program hold, whatever its file is called? One that was renamed, that embeds an
//! interpreter, or that was packed together with its application.
//!
//! | runtime | exported name | such programs |
//! |---|---|---|
//! | Node.js | `node::Start` | renamed, single executable applications, `pkg` |
//! | Python | `Py_Initialize` | renamed, embedded without a library of its own |
//! | Ruby | `ruby_init` | the same |
//! | PHP | `php_module_startup` | the same |
//! | .NET | `DotNetRuntimeInfo` | single files that bring their runtime |
//! | Erlang | `enif_send` | renamed |
//!
//! Interpreters export these for their extensions, so they stay when symbols are stripped. A Java virtual
//! machine is always a library; native images of GraalVM and .NET have none of their own and are machine
//! code. Go has a section of its own. Programs that are linked statically export nothing.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::{Mutex, PoisonError};

use super::exports::Exports;
use super::runtime::{Runtime, go_version};

/// Most programs that are remembered.
const MAX_KNOWN: usize = 64;

/// A file at a time: its device and inode, its size, and when it was changed.
type Identity = (u64, u64, u64, i64, i64);

/// What was found in programs; a program of many processes is read once.
static KNOWN: Mutex<VecDeque<(Identity, Option<Runtime>)>> = Mutex::new(VecDeque::new());

/// The runtime that the program of a process holds; `None` where it holds none, or cannot be read.
pub fn by(pid: i32) -> Option<Runtime> {
    let file = File::open(format!("/proc/{pid}/exe")).ok()?;
    let meta = file.metadata().ok()?;
    let identity = (meta.dev(), meta.ino(), meta.size(), meta.ctime(), meta.ctime_nsec());
    let known = |known: &VecDeque<(Identity, Option<Runtime>)>| {
        known.iter().find(|(have, _)| *have == identity).map(|(_, runtime)| runtime.clone())
    };
    if let Some(runtime) = known(&KNOWN.lock().unwrap_or_else(PoisonError::into_inner)) {
        return runtime;
    }
    let runtime = read(file).ok()?;
    let mut all = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    all.truncate(MAX_KNOWN - 1);
    all.push_front((identity, runtime.clone()));
    runtime
}

fn read(file: File) -> io::Result<Option<Runtime>> {
    let exported = match Exports::of(&file)? {
        Some(exports) => by_exports(&exports),
        None => None,
    };
    match exported {
        Some(runtime) => Ok(Some(runtime)),
        None => Ok(go_version(file)?.map(|version| Runtime::Go(Some(version).filter(|v| !v.is_empty())))),
    }
}

fn by_exports(exports: &Exports<'_>) -> Option<Runtime> {
    match () {
        () if exports.hold("_ZN4node5StartEiPPc") => Some(Runtime::Node),
        () if exports.hold("Py_Initialize") => Some(Runtime::Python(python_version(exports))),
        () if exports.hold("ruby_init") => Some(Runtime::Ruby),
        () if exports.hold("php_module_startup") => Some(Runtime::Php(None)),
        () if exports.hold("DotNetRuntimeInfo") => Some(Runtime::DotNet),
        () if exports.hold("enif_send") => Some(Runtime::Beam),
        () => None,
    }
}

/// Python says its version since 3.11: `0x030B02F0` is 3.11.2.
fn python_version(exports: &Exports<'_>) -> Option<(u8, u8)> {
    let [major, minor, ..] = exports.u32_at("Py_Version")?.to_be_bytes();
    (major == 3).then_some((major, minor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_read_once_and_few_are_remembered() {
        let me = i32::try_from(std::process::id()).unwrap();
        assert_eq!((by(me), by(me)), (None, None));
        assert_eq!(by(i32::MAX), None);
        let meta = std::fs::metadata("/proc/self/exe").unwrap();
        let known = KNOWN.lock().unwrap();
        let own = known.iter().filter(|((dev, inode, ..), _)| (*dev, *inode) == (meta.dev(), meta.ino()));
        assert_eq!(own.count(), 1);
        assert!(known.len() <= MAX_KNOWN);
    }
}
