//! How many files and sockets may this process have open?

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// What container runtimes grant at least, where the number cannot be read.
const USUAL: u64 = 1024;

/// Raises the soft limit to the hard one, and says what holds then. The soft limit is 1024 in many places for the sake of
/// `select`, which nothing here uses. Doing it again changes nothing.
pub fn raise_files() -> u64 {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return USUAL };
    match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => hard,
        Err(error) => {
            tracing::warn!(%error, limit = soft, "the limit of open files could not be raised");
            soft
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_raised_is_raised() {
        let raised = raise_files();
        assert_eq!(getrlimit(Resource::RLIMIT_NOFILE).unwrap(), (raised, raised));
        assert_eq!(raise_files(), raised);
    }
}
