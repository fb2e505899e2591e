//! What does a frame tell of why its thread waits? Tables of functions, by runtime.

use super::dotnet::of_dotnet;
use super::go::of_go;
use super::java::{is_java, of_java};
use super::php::of_php;
use super::ruby::of_ruby;

/// What a function is to a thread that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// It waits for whoever called it: the C library, or a function above it that does no more than wait.
    Wait,
    /// It waits for a lock.
    Lock,
    /// A loop that gets work and does it: where it waits, it has none.
    Loop,
    /// It starts a thread or a program.
    Start,
    /// A C program's first function; of other languages what starts theirs.
    Main,
    /// Code of the program.
    Code,
}

/// What a thread waits for, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waits {
    /// For what pools and event loops wait for.
    ForWork,
    /// For a time to pass.
    ForTime,
    /// For something else, whose end somebody may wait for.
    Otherwise,
}

/// What pools and event loops wait for, by the label `waits_for`. Not `poll` and `select`: much code waits so
/// for one socket.
const FOR_WORK: [&str; 7] = ["futex", "epoll", "signal", "child", "accept", "condition", "channel"];

/// Libraries whose functions are the program's way to the kernel: the beginnings of their file names.
const SYSTEM_LIBRARIES: [&str; 7] =
    ["libc.so", "libc-", "libpthread", "ld-musl-", "ld-linux", "libstdc++", "[vdso]"];

/// Values of the label that no system call tells, but the runtime of a language, or nobody.
const NOT_BY_KERNEL: [&str; 7] = ["", "memory", "lock", "condition", "channel", "future", "other"];

/// Functions of the C library that wait, for programs that hold it: names as [`plain`] makes them. Those on
/// top of a stack are known without their names.
const LIBRARY_WAITS: [&str; 32] = [
    "accept",
    "accept4",
    "clock_nanosleep",
    "epoll_pwait",
    "epoll_wait",
    "futex_abstimed_wait64",
    "futex_abstimed_wait_cancelable64",
    "futex_abstimed_wait_common",
    "futex_abstimed_wait_common64",
    "futex_wait",
    "internal_syscall_cancel",
    "nanosleep",
    "pause",
    "pthread_cond_timedwait",
    "pthread_cond_wait",
    "pthread_join",
    "sem_wait",
    "sigsuspend",
    "sigtimedwait",
    "sigwait",
    "sigwaitinfo",
    "sleep",
    "syscall",
    "syscall_cancel",
    "syscall_cancel_arch",
    "syscall_cp",
    "timedwait",
    "timedwait_cp",
    "usleep",
    "wait4",
    "waitid",
    "waitpid",
];

/// Other functions of compiled programs that wait for their caller: beginnings of their names.
const WAITS: [&str; 11] = [
    "std::condition_variable",
    "std::sync::",
    "<std::sync::",
    "std::sys::",
    "std::sys_common::thread_parking",
    "parking_lot_core::",
    "parking_lot::condvar",
    "crossbeam_utils::sync::parker",
    "mio::",
    "tokio::runtime::",
    "uv_cond_",
];

/// Those that begin like what starts threads.
const THREAD_WAITS: [&str; 6] = [
    "std::thread::join",
    "std::thread::park",
    "std::thread::JoinHandle",
    "std::thread::JoinInner",
    "std::sys::pal::unix::thread::Thread::join",
    "std::sys::thread::unix::Thread::join",
];

/// Loops of pools and event loops of compiled programs: beginnings of their names.
const LOOPS: [&str; 22] = [
    // Rust
    "tokio::runtime::scheduler::multi_thread::worker",
    "tokio::runtime::blocking::pool",
    "rayon_core::",
    "<rayon_core::",
    "crossbeam_channel::",
    "async_io::",
    "async_executor::",
    "futures_executor::",
    "threadpool::",
    "actix_rt::",
    // libuv, libevent, libev, GLib
    "uv__io_poll",
    "uv_run",
    "event_base_loop",
    "epoll_dispatch",
    "ev_run",
    "g_main_loop_run",
    "g_main_context_iterate",
    // C++
    "boost::asio::detail::scheduler::",
    "folly::ThreadPoolExecutor",
    // nginx, Redis
    "ngx_epoll_process_events",
    "ngx_master_process_cycle",
    "aeApiPoll",
];

/// Functions of the C library that start threads and programs: names without leading underscores.
const LIBRARY_STARTS: [&str; 8] = [
    "clone",
    "clone3",
    "execute_native_thread_routine",
    "libc_start_call_main",
    "libc_start_main",
    "libc_start_main_impl",
    "start",
    "start_thread",
];

/// What starts threads and programs in other languages: beginnings of names.
const STARTS: [&str; 10] = [
    "std::rt::",
    "std::thread::",
    "std::panic",
    "std::sys::backtrace::__rust_begin_short_backtrace",
    "std::sys::pal::unix::thread::",
    "std::sys_common::backtrace::__rust_begin_short_backtrace",
    "core::ops::function::",
    "<alloc::boxed::Box<",
    "std::__invoke",
    "std::invoke",
];

/// Of tasks of asyncio: function, and the end of its file in the standard library. Not `Lock.acquire`.
const ASYNCIO_WAITS: [(&str, &str); 12] = [
    ("get", "/asyncio/queues.py"),
    ("join", "/asyncio/queues.py"),
    ("sleep", "/asyncio/tasks.py"),
    ("wait", "/asyncio/tasks.py"),
    ("_wait", "/asyncio/tasks.py"),
    ("wait_for", "/asyncio/tasks.py"),
    ("wait", "/asyncio/locks.py"),
    ("wait_for", "/asyncio/locks.py"),
    ("_block", "/asyncio/locks.py"),
    ("_wait", "/asyncio/locks.py"),
    ("__aexit__", "/asyncio/taskgroups.py"),
    ("_aexit", "/asyncio/taskgroups.py"),
];

/// Of Python: function, and the end of its file in the standard library.
const PYTHON_WAITS: [(&str, &str); 11] = [
    ("wait", "/threading.py"),
    ("wait_for", "/threading.py"),
    ("join", "/threading.py"),
    ("_wait_for_tstate_lock", "/threading.py"),
    ("_shutdown", "/threading.py"),
    ("select", "/selectors.py"),
    ("wait", "/multiprocessing/connection.py"),
    ("_poll", "/multiprocessing/connection.py"),
    ("_recv", "/multiprocessing/connection.py"),
    ("_recv_bytes", "/multiprocessing/connection.py"),
    ("recv_bytes", "/multiprocessing/connection.py"),
];

/// Loops of Python: function, and the end of its file in the standard library or among installed packages.
const PYTHON_LOOPS: [(&str, &str); 19] = [
    ("get", "/queue.py"),
    ("_worker", "/concurrent/futures/thread.py"),
    ("_process_worker", "/concurrent/futures/process.py"),
    ("wait_result_broken_or_wakeup", "/concurrent/futures/process.py"),
    ("worker", "/multiprocessing/pool.py"),
    ("get", "/multiprocessing/queues.py"),
    ("_handle_results", "/multiprocessing/pool.py"),
    ("_wait_for_updates", "/multiprocessing/pool.py"),
    ("_run_once", "/asyncio/base_events.py"),
    ("run", "/asyncio/runners.py"),
    ("serve_forever", "/asyncio/base_events.py"),
    ("main_loop", "/uvicorn/server.py"),
    ("start", "/aiohttp/web_protocol.py"),
    ("serve_forever", "/socketserver.py"),
    ("accept", "/socket.py"),
    ("wait", "/gunicorn/workers/sync.py"),
    ("run", "/gunicorn/workers/gthread.py"),
    ("sleep", "/gunicorn/arbiter.py"),
    ("run", "/gevent/hub.py"),
];

/// What starts threads and programs in Python.
const PYTHON_STARTS: [(&str, &str); 3] =
    [("_bootstrap", "/threading.py"), ("_bootstrap_inner", "/threading.py"), ("run", "/threading.py")];

/// What the agent calls the threads of a Python process that run no Python code: pools of libraries.
const NO_PYTHON: &str = "[threads without Python code]";

/// The frame at the root of each task of asyncio; a name of the task stands before the last character.
pub const ASYNCIO_TASK: &str = "[asyncio task]";

/// What a thread waits for, and whether the kernel told so.
pub(super) fn waits(waits_for: &str) -> (Waits, bool) {
    let why = match waits_for {
        "sleep" => Waits::ForTime,
        work if FOR_WORK.contains(&work) => Waits::ForWork,
        _ => Waits::Otherwise,
    };
    (why, !NOT_BY_KERNEL.contains(&waits_for))
}

/// The role of a function in a source file, in a mapped file. Texts are empty where unknown.
pub(super) fn role(function: &str, file: &str, library: &str) -> Role {
    if let Some(role) = of_ruby(function, file).or_else(|| of_php(function)) {
        return role;
    }
    match () {
        () if function == NO_PYTHON => Role::Loop,
        () if function.starts_with(ASYNCIO_TASK.trim_end_matches(']')) => Role::Start,
        () if file.ends_with(".go") => of_go(function),
        () if is_java(function, file) => of_java(function),
        () if file.ends_with(".py") || file.starts_with("<frozen ") => of_python(function, file),
        () if file.is_empty() => of_dotnet(function).unwrap_or_else(|| of_machine_code(function, library)),
        () => of_machine_code(function, library),
    }
}

/// Since 3.11 functions are called by their class as well: `Queue.get`.
fn of_python(function: &str, file: &str) -> Role {
    let is_installed = file.contains("/python3");
    let bare = function.rsplit('.').next().unwrap_or(function);
    let is_in = |table: &[(&str, &str)]| {
        is_installed && table.iter().any(|(name, end)| *name == bare && file.ends_with(end))
    };
    match () {
        () if is_in(&PYTHON_LOOPS) => Role::Loop,
        () if is_in(&PYTHON_WAITS) || is_in(&ASYNCIO_WAITS) => Role::Wait,
        () if is_in(&PYTHON_STARTS) || file.contains("runpy") => Role::Start,
        () => Role::Code,
    }
}

fn of_machine_code(function: &str, library: &str) -> Role {
    let base = library.rsplit('/').next().unwrap_or_default();
    let is_system = SYSTEM_LIBRARIES.iter().any(|prefix| base.starts_with(prefix));
    let begins = |table: &[&str]| table.iter().any(|prefix| function.starts_with(prefix));
    let bare = function.trim_start_matches('_');
    match () {
        () if is_lock(bare) => Role::Lock,
        () if begins(&LOOPS) => Role::Loop,
        () if LIBRARY_STARTS.contains(&bare) => Role::Start,
        () if is_system || LIBRARY_WAITS.contains(&plain(bare)) => Role::Wait,
        () if begins(&THREAD_WAITS) => Role::Wait,
        () if begins(&STARTS) => Role::Start,
        () if begins(&WAITS) => Role::Wait,
        () if function == "main" => Role::Main,
        () => Role::Code,
    }
}

/// The name that a function of the C library has for programs: glibc has more than one for its own use, such
/// as `__GI___nanosleep` and `__libc_pause`.
fn plain(bare: &str) -> &str {
    let bare = bare.strip_prefix("GI_").map_or(bare, |rest| rest.trim_start_matches('_'));
    bare.strip_prefix("libc_").unwrap_or(bare)
}

/// Whether a function waits for a mutex or the like. Words in brackets are only what it is given.
fn is_lock(bare: &str) -> bool {
    let head = bare.trim_start_matches('<');
    let head = head.split(['(', '<']).next().unwrap_or_default().to_ascii_lowercase();
    ["mutex", "rwlock", "lll_lock", "spinlock"].iter().any(|word| head.contains(word))
}
