//! What does a Ruby method tell of why its thread waits? A part of its name, and the end of its file.
//!
//! Functions in C are not in these stacks. What waits on top of one is the method that has called such a function,
//! so that a wait stands above it: see [`is_ruby`].

use super::rules::Role;

/// What the agent calls threads that run no Ruby code.
const NO_RUBY: &str = "[threads without Ruby code]";

/// Methods that wait for their caller.
const WAITS: [(&str, &str); 2] = [("wait", "/monitor.rb"), ("pop", "<internal:thread_sync>")];

/// Loops of pools and servers.
const LOOPS: [(&str, &str); 9] = [
    ("spawn_thread", "/puma/thread_pool.rb"),
    ("handle_servers", "/puma/server.rb"),
    ("select", "/puma/reactor.rb"),
    ("run", "/puma/cluster.rb"),
    ("run", "/puma/single.rb"),
    ("worker_loop", "/unicorn/http_server.rb"),
    ("join", "/unicorn/http_server.rb"),
    ("timeout_thread", "/timeout.rb"),
    ("start", "/webrick/server.rb"),
];

/// Whether the top of this stack has called what is not in it: a function in C.
pub(super) fn is_ruby(file: &str) -> bool {
    file.ends_with(".rb") || file.starts_with("<internal:")
}

/// The role of a Ruby method; `None` for other functions.
pub(super) fn of_ruby(function: &str, file: &str) -> Option<Role> {
    let is_in = |table: &[(&str, &str)]| {
        table.iter().any(|(part, end)| function.contains(part) && file.ends_with(end))
    };
    match () {
        () if function == NO_RUBY => Some(Role::Loop),
        () if !is_ruby(file) => None,
        () if is_in(&LOOPS) => Some(Role::Loop),
        () if is_in(&WAITS) => Some(Role::Wait),
        () if function == "<main>" => Some(Role::Main),
        () => Some(Role::Code),
    }
}
