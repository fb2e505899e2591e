//! What does a PHP function tell of why its process waits? Functions are called with their class.

use super::rules::Role;

/// What the agent calls time in which no PHP function runs: a worker of FPM waits for a request.
const NO_PHP: [&str; 2] = ["[no PHP code]", "[threads without PHP code]"];
/// Code outside of all functions.
const MAIN: &str = "{main}";

/// Functions of PHP itself that wait for their caller.
const WAITS: [&str; 8] = [
    "pcntl_sigtimedwait",
    "pcntl_sigwaitinfo",
    "pcntl_wait",
    "pcntl_waitpid",
    "socket_select",
    "stream_select",
    "time_nanosleep",
    "time_sleep_until",
];

/// Event loops, and what takes from a queue: beginnings of names.
const LOOPS: [&str; 7] = [
    "Amp\\Loop\\",
    "Illuminate\\Queue\\Worker::sleep",
    "React\\EventLoop\\",
    "Revolt\\EventLoop\\",
    "Spiral\\RoadRunner\\Worker::waitPayload",
    "Symfony\\Component\\Messenger\\Worker::run",
    "Workerman\\",
];

/// The role of a PHP function; `None` for other functions.
pub(super) fn of_php(function: &str) -> Option<Role> {
    match () {
        () if NO_PHP.contains(&function) => Some(Role::Loop),
        () if WAITS.contains(&function) => Some(Role::Wait),
        () if function == MAIN => Some(Role::Main),
        () if LOOPS.iter().any(|prefix| function.starts_with(prefix)) => Some(Role::Loop),
        () => None,
    }
}
