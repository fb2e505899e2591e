use super::*;
use crate::builder::{Label, MappingInfo, ProfileBuilder};
use crate::view::Symbols;
use crate::{Frame, Overlap, merge, top};

const LIBC: &str = "/usr/lib/x86_64-linux-gnu/libc.so.6";
const APP: &str = "/app/server";
const LIB: &str = "/usr/lib/python3.11";

/// A frame as function and source file or mapped file: `queue.py` files are of Python's library.
fn add(builder: &mut ProfileBuilder, stack: &[(&str, &str)], labels: &[(&str, &str)], nanos: i64) {
    let files: Vec<String> = stack
        .iter()
        .map(|(_, file)| if file.starts_with('/') { (*file).to_owned() } else { format!("{LIB}/{file}") })
        .collect();
    let mut frames = Vec::new();
    for (address, ((name, file), full)) in (0x1000..).zip(stack.iter().zip(&files)) {
        let is_mapped = [LIBC, APP].contains(file);
        frames.push(if is_mapped {
            let mapping =
                builder.mapping(&MappingInfo { memory_limit: 0x9000, file, ..MappingInfo::default() });
            Frame::named(name, "", 0).at(address, Some(mapping))
        } else {
            Frame::named(name, full, 7)
        });
    }
    let labels: Vec<Label<'_>> = labels.iter().map(|(key, value)| Label::text(key, value)).collect();
    builder.add(&frames, &[1, nanos], &labels).expect("a sample");
}

fn is_folded(stack: &[(&str, &str)], state: &str, waits_for: &str) -> bool {
    let mut builder = ProfileBuilder::new(ProfileKind::Wall, 50_000_000, 0);
    add(&mut builder, stack, &[("thread_state", state), ("waits_for", waits_for)], 7);
    let mut profile = builder.finish(1, &[]);
    fold_idle(&mut profile);
    let symbols = Symbols::new(&profile);
    let names: Vec<&str> =
        symbols.frames(&profile.sample[0]).map(|place| &*symbols.names[place.name].0).collect();
    names == [IDLE]
}

#[test]
fn threads_without_work_are_idle_and_those_that_somebody_waits_for_are_not() {
    type Case<'a> = (&'a str, bool, &'a str, &'a [(&'a str, &'a str)]);
    let thread: [(&str, &str); 3] =
        [("run", "threading.py"), ("_bootstrap_inner", "threading.py"), ("_bootstrap", "threading.py")];
    let in_thread = |top: &[(&'static str, &'static str)]| [top, &thread].concat();
    let pool = in_thread(&[("_worker", "concurrent/futures/thread.py")]);
    let consumer = in_thread(&[("wait", "threading.py"), ("get", "queue.py"), ("consume", "/app/jobs.py")]);
    let qualified =
        [("Condition.wait", "threading.py"), ("Queue.get", "queue.py"), ("App.consume", "/app/jobs.py")];
    let pay =
        in_thread(&[("readinto", "socket.py"), ("getresponse", "http/client.py"), ("pay", "/app/pay.py")]);
    let joins = in_thread(&[("join", "threading.py"), ("collect", "/app/jobs.py"), ("pay", "/app/pay.py")]);
    let event = in_thread(&[("wait", "threading.py"), ("watch", "/app/jobs.py")]);
    let cases: &[Case<'_>] = &[
        ("a pool of Python", true, "futex", &pool),
        ("a queue", true, "futex", &consumer),
        ("a queue, by qualified names", true, "futex", &qualified),
        ("a third party's answer", false, "socket", &pay),
        ("an answer with a timeout", false, "poll", &pay),
        ("work that others do meanwhile", false, "futex", &joins),
        ("a thread that waits for an event", true, "futex", &event),
        ("a sleep", false, "sleep", &in_thread(&[("watch", "/app/jobs.py")])),
        ("a lock in one function", false, "futex", &in_thread(&[("watch", "/app/jobs.py")])),
        (
            "asyncio",
            true,
            "epoll",
            &[("select", "selectors.py"), ("_run_once", "asyncio/base_events.py"), ("main", "/app/a.py")],
        ),
        (
            "select for one socket",
            false,
            "select",
            &[("select", "selectors.py"), ("pay", "/app/pay.py"), ("main", "/app/a.py")],
        ),
        (
            "the main thread waits for the others",
            true,
            "futex",
            &[("_wait_for_tstate_lock", "threading.py"), ("join", "threading.py"), ("<module>", "/app/a.py")],
        ),
        (
            "a file of the program with the name of a library's",
            false,
            "futex",
            &[("get", "/app/queue.py"), ("pay", "/app/pay.py"), ("main", "/app/a.py")],
        ),
        ("libraries' threads in Python", true, "futex", &[("[threads without Python code]", "/")]),
        (
            "a pool in C",
            true,
            "futex",
            &[("", LIBC), ("pthread_cond_wait", LIBC), ("work", APP), ("start_thread", LIBC), ("", LIBC)],
        ),
        (
            "a thread of a library",
            true,
            "epoll",
            &[("epoll_wait", LIBC), ("start_thread", LIBC), ("clone3", LIBC)],
        ),
        (
            "an event loop in main",
            true,
            "epoll",
            &[("epoll_wait", LIBC), ("main", APP), ("__libc_start_main", LIBC), ("_start", APP)],
        ),
        (
            "a function of main that waits",
            false,
            "futex",
            &[("pthread_cond_wait", LIBC), ("pay", APP), ("main", APP), ("__libc_start_main", LIBC)],
        ),
        (
            "a mutex",
            false,
            "futex",
            &[("__lll_lock_wait", LIBC), ("pthread_mutex_lock", LIBC), ("work", APP), ("start_thread", LIBC)],
        ),
        ("a socket", false, "socket", &[("recv", LIBC), ("work", APP), ("start_thread", LIBC)]),
        ("clients", true, "accept", &[("accept4", LIBC), ("serve", APP), ("start_thread", LIBC)]),
        (
            "C++",
            true,
            "futex",
            &[
                ("pthread_cond_wait", LIBC),
                ("std::condition_variable::wait(std::unique_lock<std::mutex>&)", APP),
                ("Pool::run()", APP),
                ("std::__invoke_impl<void>", APP),
                ("execute_native_thread_routine", APP),
                ("start_thread", LIBC),
            ],
        ),
        (
            "tokio",
            true,
            "epoll",
            &[
                ("epoll_wait", LIBC),
                ("mio::poll::Poll::poll", APP),
                ("tokio::runtime::io::driver::Driver::turn", APP),
                ("tokio::runtime::scheduler::multi_thread::worker::Context::park", APP),
                ("app::spawned", APP),
                ("app::deeper", APP),
            ],
        ),
        (
            "tokio's main thread",
            true,
            "futex",
            &[
                ("syscall", LIBC),
                ("tokio::runtime::park::CachedParkThread::block_on", APP),
                ("app::main", APP),
                ("std::rt::lang_start", APP),
                ("main", APP),
                ("__libc_start_main", LIBC),
            ],
        ),
        (
            "a function that waits for a future",
            false,
            "futex",
            &[
                ("syscall", LIBC),
                ("tokio::runtime::park::CachedParkThread::block_on", APP),
                ("app::pay", APP),
                ("app::main", APP),
                ("std::rt::lang_start", APP),
            ],
        ),
        (
            "Rust's main joins",
            true,
            "futex",
            &[
                ("syscall", LIBC),
                ("std::sys::pal::unix::futex::futex_wait", APP),
                ("std::thread::park", APP),
                ("app::main", APP),
                ("std::rt::lang_start", APP),
                ("main", APP),
                ("__libc_start_main", LIBC),
            ],
        ),
        (
            "a mutex in Rust",
            false,
            "futex",
            &[
                ("syscall", LIBC),
                ("std::sys::sync::mutex::futex::Mutex::lock_contended", APP),
                ("app::work", APP),
                ("std::thread::Builder::spawn_unchecked_", APP),
                ("start_thread", LIBC),
            ],
        ),
        (
            "libuv",
            true,
            "epoll",
            &[("epoll_pwait", LIBC), ("uv__io_poll", APP), ("uv_run", APP), ("serve", APP), ("main", APP)],
        ),
        (
            "pause in main of a static program",
            true,
            "signal",
            &[("__libc_pause", APP), ("main", APP), ("__libc_start_call_main", APP), ("_start", APP)],
        ),
        (
            "pause in a thread of a static program",
            true,
            "signal",
            &[("pause", APP), ("park", APP), ("start_thread", APP), ("__clone3", APP)],
        ),
        (
            "a way into the kernel with a name that nobody knows",
            true,
            "signal",
            &[("__odd_syscall_stub", APP), ("main", APP), ("__libc_start_main", APP), ("_start", APP)],
        ),
        (
            "a function below main that pauses",
            false,
            "signal",
            &[("__odd_syscall_stub", APP), ("pay", APP), ("main", APP), ("_start", APP)],
        ),
        ("code alone, whose callers are not known", false, "signal", &[("pay", APP)]),
        (
            "a main that sleeps",
            true,
            "sleep",
            &[
                ("__GI___clock_nanosleep", APP),
                ("__nanosleep", APP),
                ("sleep", APP),
                ("main", APP),
                ("__libc_start_call_main", APP),
                ("_start", APP),
            ],
        ),
        (
            "a main that sleeps, by the C library",
            true,
            "sleep",
            &[("clock_nanosleep", LIBC), ("main", APP), ("__libc_start_main", LIBC), ("_start", APP)],
        ),
        (
            "a function below main that sleeps",
            false,
            "sleep",
            &[("clock_nanosleep", APP), ("retry", APP), ("main", APP), ("__libc_start_main", APP)],
        ),
        (
            "a thread that sleeps between two tries",
            false,
            "sleep",
            &[("clock_nanosleep", APP), ("watch", APP), ("start_thread", APP), ("clone3", APP)],
        ),
        (
            "a pool in a static program",
            true,
            "futex",
            &[
                ("__futex_abstimed_wait_common64", APP),
                ("pthread_cond_wait", APP),
                ("work", APP),
                ("start_thread", APP),
            ],
        ),
        (
            "a mutex in a static program",
            false,
            "futex",
            &[("__lll_lock_wait", APP), ("pthread_mutex_lock", APP), ("work", APP), ("start_thread", APP)],
        ),
        (
            "a socket in a static program",
            false,
            "socket",
            &[("__libc_recv", APP), ("work", APP), ("start_thread", APP)],
        ),
        ("a language's own wait in its own code", false, "condition", &[("pay", APP), ("main", APP)]),
        ("no stack at all", false, "futex", &[]),
    ];
    for (what, wanted, waits_for, stack) in cases {
        assert_eq!(is_folded(stack, "blocked", waits_for), *wanted, "{what}");
        for state in ["running", "runnable", ""] {
            assert!(!is_folded(stack, state, waits_for), "{what}, but {state}");
        }
    }
}

#[test]
fn time_is_kept_and_equal_stacks_become_one_in_a_merge() {
    let mut builder = ProfileBuilder::new(ProfileKind::Wall, 50_000_000, 0);
    let parked: &[(&str, &str)] = &[("pthread_cond_wait", LIBC), ("start_thread", LIBC)];
    let labels = &[("thread_state", "blocked"), ("waits_for", "futex")];
    add(&mut builder, parked, labels, 900);
    add(&mut builder, &[&[("epoll_wait", LIBC)], parked].concat(), labels, 90);
    add(&mut builder, &[("recv", LIBC), ("pay", APP)], &[("thread_state", "blocked")], 10);
    let mut profile = builder.finish(1, &[]);
    fold_idle(&mut profile);
    crate::validate(&profile).expect("it is still a valid profile");
    assert_eq!(crate::total(&profile, 1), 1000);
    let merged = merge([&profile], Overlap::Parallel).expect("it merges");
    assert_eq!(merged.sample.len(), 2);
    let top = top(&merged, 1, 1);
    assert_eq!(top.rows.iter().map(|row| row.name.as_str()).collect::<Vec<_>>(), ["recv", IDLE]);
    assert_eq!(top.rows[1].self_value, 990);
    let before = profile.clone();
    fold_idle(&mut profile);
    assert_eq!(profile, before, "once is enough");
}

#[test]
fn other_kinds_and_strange_profiles_stay_as_they_are() {
    let mut builder = ProfileBuilder::new(ProfileKind::Cpu, 1, 0);
    add(&mut builder, &[("epoll_wait", LIBC)], &[("thread_state", "blocked"), ("waits_for", "epoll")], 7);
    let mut cpu = builder.finish(1, &[]);
    let before = cpu.clone();
    fold_idle(&mut cpu);
    assert_eq!(cpu, before);

    let mut builder = ProfileBuilder::new(ProfileKind::Wall, 1, 0);
    add(&mut builder, &[("epoll_wait", LIBC)], &[("thread_state", "blocked"), ("waits_for", "epoll")], 7);
    let mut wall = builder.finish(1, &[]);
    wall.location[0].id = u64::MAX;
    wall.sample[0].location_id = vec![u64::MAX];
    let before = wall.clone();
    fold_idle(&mut wall);
    assert_eq!(wall, before, "no id is left");
    fold_idle(&mut Profile::default());
}
