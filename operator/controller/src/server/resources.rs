//! How many files and sockets may this process have open, and how much memory may it take?

use std::path::Path;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// What container runtimes grant at least, where the number cannot be read.
const USUAL: u64 = 1024;

/// Raises the soft limit to the hard one, and says what holds then. The soft limit is 1024 in many places for
/// the sake of `select`, which nothing here uses. Doing it again changes nothing.
pub fn raise_files() -> u64 {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return USUAL };
    match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => hard,
        Err(error) => {
            tracing::warn!(%error, limit = soft, "failed to raise the limit of open files");
            soft
        }
    }
}

/// Bytes of memory that the process's container may take; `None` where nothing limits it.
pub fn memory_limit() -> Option<u64> {
    // A container sees its own cgroup at the root, of either version.
    let files = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    files.iter().find_map(|file| limit_of(Path::new(file)))
}

fn limit_of(file: &Path) -> Option<u64> {
    // `max` without a limit; version 1 writes a number that no machine has instead.
    std::fs::read_to_string(file).ok()?.trim().parse().ok().filter(|bytes| *bytes < 1 << 50)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_a_number_of_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("memory.max");
        for (text, limit) in
            [("536870912\n", Some(512 << 20)), ("max\n", None), ("9223372036854771712\n", None)]
        {
            std::fs::write(&file, text).unwrap();
            assert_eq!(limit_of(&file), limit, "{text}");
        }
        assert_eq!(limit_of(&folder.path().join("gone")), None);
    }

    #[test]
    fn what_may_be_raised_is_raised() {
        let raised = raise_files();
        assert_eq!(getrlimit(Resource::RLIMIT_NOFILE).unwrap(), (raised, raised));
        assert_eq!(raise_files(), raised);
    }
}
