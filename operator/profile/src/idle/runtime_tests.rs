//! Stacks of goroutines, and of threads of Java, .NET, PHP and Ruby.

use super::*;
use crate::builder::{Label, ProfileBuilder};
use crate::{Frame, top};

/// Whether a thread with this stack is folded.
fn is_folded(stack: Vec<Frame<'_>>, state: &str, waits_for: &str) -> bool {
    let mut builder = ProfileBuilder::new(ProfileKind::Wall, 50_000_000, 0);
    let labels = [Label::text("thread_state", state), Label::text("waits_for", waits_for)];
    builder.add(&stack, &[1, 7], &labels).expect("a sample");
    let mut profile = builder.finish(1, &[]);
    fold_idle(&mut profile);
    top(&profile, 1, 1).rows[0].name == IDLE
}

/// What it is, whether it is folded, what it waits for, and its stack.
type Case<'a> = (&'a str, bool, &'a str, Vec<&'static str>);

/// Holds the cases, whose frames have the file that `file` tells.
fn hold(cases: &[Case<'_>], file: impl Fn(&'static str) -> &'static str) {
    for (what, wanted, waits_for, stack) in cases {
        let frames = || stack.iter().map(|name| Frame::named(name, file(name), 7)).collect();
        assert_eq!(is_folded(frames(), "blocked", waits_for), *wanted, "{what}");
        assert!(!is_folded(frames(), "running", waits_for), "{what}, but running");
    }
}

#[test]
fn goroutines_without_work_are_idle_and_those_that_somebody_waits_for_are_not() {
    let net = ["runtime.netpollblock", "internal/poll.runtime_pollWait", "internal/poll.(*FD).Read"];
    let of_conn =
        |rest: &[&'static str]| [&net[..], &["net.(*netFD).Read", "net.(*conn).Read"], rest].concat();
    let served =
        ["net/http.HandlerFunc.ServeHTTP", "net/http.serverHandler.ServeHTTP", "net/http.(*conn).serve"];
    let in_handler = |rest: &[&'static str]| [rest, &["main.handler"], &served].concat();
    let receive = ["runtime.chanrecv", "runtime.chanrecv1"];
    let answer =
        ["runtime.selectgo", "net/http.(*persistConn).roundTrip", "net/http.(*Client).Get", "main.pay"];
    let peek = ["net/http.(*connReader).Read", "bufio.(*Reader).fill", "bufio.(*Reader).Peek"];
    let accepts = ["runtime.netpollblock", "net.(*netFD).accept", "net/http.(*Server).Serve"];
    let sends = ["runtime.chansend", "runtime.chansend1", "main.worker"];
    let locks = ["runtime.semacquire1", "internal/sync.(*Mutex).lockSlow", "main.worker"];
    let group = ["sync.runtime_SemacquireWaitGroup", "sync.(*WaitGroup).Wait", "main.main", "runtime.main"];
    let waits = |rest: &[&'static str]| [&receive[..], rest].concat();
    let cases = [
        ("a pool", true, "channel", waits(&["main.worker"])),
        ("a pool with arguments", true, "channel", waits(&["main.worker", "main.main.gowrap2"])),
        ("the main goroutine", true, "channel", waits(&["main.main", "runtime.main"])),
        ("a result that a handler waits for", false, "channel", in_handler(&receive)),
        ("a result", false, "channel", waits(&["main.ask", "main.worker"])),
        ("a third party's answer", false, "socket", [&answer[..], &["main.main.func1"]].concat()),
        ("who reads the answer", true, "socket", of_conn(&["net/http.(*persistConn).readLoop"])),
        ("a connection without a request", true, "socket", of_conn(&[&peek[..], &served[2..]].concat())),
        ("a request that comes slowly", false, "socket", of_conn(&in_handler(&["net/http.(*body).Read"]))),
        ("clients", true, "accept", accepts.to_vec()),
        ("a full channel", false, "channel", sends.to_vec()),
        ("a lock", false, "lock", locks.to_vec()),
        ("a sleep", false, "sleep", vec!["time.Sleep", "main.worker"]),
        ("a group", true, "condition", group.to_vec()),
        (
            "a function like a library's",
            false,
            "socket",
            of_conn(&["main.(*persistConn).readLoop", "main.pay"]),
        ),
    ];
    hold(&cases, |_| "/src/x.go");
}

#[test]
fn java_threads_without_work_are_idle_and_those_that_somebody_waits_for_are_not() {
    let park = ["jdk.internal.misc.Unsafe.park", "java.util.concurrent.locks.LockSupport.park"];
    let parked = |rest: &[&'static str]| [&park[..], rest, &["java.lang.Thread.run"]].concat();
    let taken = ["java.util.concurrent.LinkedBlockingQueue.take"];
    let (gets, runs) = (
        "java.util.concurrent.ThreadPoolExecutor.getTask",
        "java.util.concurrent.ThreadPoolExecutor.runWorker",
    );
    let future = ["java.util.concurrent.CompletableFuture.get", "com.acme.Orders.pay"];
    let lock = "java.util.concurrent.locks.ReentrantLock.lock";
    let latch = "java.util.concurrent.CountDownLatch.await";
    let lambda = ["com.acme.Orders.lambda$main$1", "com.acme.Orders$$Lambda.run"];
    let select = ["sun.nio.ch.EPoll.wait", "sun.nio.ch.SelectorImpl.select"];
    let selects = |rest: &[&'static str]| [&select[..], rest].concat();
    let cases = [
        ("a pool", true, "condition", parked(&[taken[0], gets, runs])),
        ("a consumer", true, "condition", parked(&[taken[0], "com.acme.Consumer.run"])),
        ("a result", false, "condition", parked(&future)),
        ("a lock in a pool", false, "lock", parked(&[lock, taken[0], gets, runs])),
        ("a latch that a thread waits for", true, "condition", parked(&[&[latch], &lambda[..]].concat())),
        ("the main thread", true, "condition", [&park[..], &[latch, "com.acme.Orders.main"]].concat()),
        ("an event loop", true, "epoll", selects(&["io.netty.channel.nio.NioEventLoop.run"])),
        ("one of the program", true, "epoll", selects(&["com.acme.Loop.run", "java.lang.Thread.run"])),
        ("a third party's answer", false, "socket", vec!["sun.nio.ch.Net.poll", "com.acme.Orders.pay"]),
        ("a sleep", false, "sleep", vec!["java.lang.Thread.sleep", "com.acme.Orders.run"]),
    ];
    hold(&cases, |name| name.rsplit_once('.').map_or("", |(class, _)| class));
}

#[test]
fn dotnet_threads_without_work_are_idle_and_those_that_somebody_waits_for_are_not() {
    let start = ["System.Threading.Thread+StartHelper.Run", "System.Threading.Thread.StartCallback"];
    let worker = [
        "System.Threading.LowLevelLifoSemaphore.WaitForSignal",
        "System.Threading.PortableThreadPool+WorkerThread.WorkerThreadStart",
    ];
    let sockets = ["Interop+Sys.WaitForSocketEvents", "System.Net.Sockets.SocketAsyncEngine.EventLoop"];
    let result = ["System.Threading.ManualResetEventSlim.Wait", "Shop.Pay", "Shop.Order"];
    let event = ["System.Threading.WaitHandle.WaitOne", "Shop.Parked"];
    let lock = ["System.Threading.Monitor.ReliableEnter", "Shop.Wants"];
    let in_thread = |rest: &[&'static str]| [rest, &start].concat();
    let cases = [
        ("a pool", true, "condition", in_thread(&worker)),
        ("a thread that waits for an event", true, "condition", in_thread(&event)),
        ("a result", false, "condition", in_thread(&result)),
        ("a lock", false, "lock", in_thread(&lock)),
        ("a lock without a method", false, "futex", in_thread(&["Shop.Wants"])),
        (
            "a third party's answer",
            false,
            "socket",
            in_thread(&["System.Net.Sockets.Socket.Receive", "Shop.Pay"]),
        ),
        ("sockets of others", true, "epoll", in_thread(&sockets)),
    ];
    hold(&cases, |_| "");
}

#[test]
fn tasks_of_asyncio_without_work_are_idle_and_those_that_somebody_waits_for_are_not() {
    let task = |rest: &[&'static str], root| [rest, &[root]].concat();
    let of = |rest: &[&'static str]| task(rest, "[asyncio task worker-#]");
    let cases = [
        ("a pool", true, "channel", of(&["Queue.get", "worker"])),
        ("a task without a name", true, "channel", task(&["Queue.get", "worker"], "[asyncio task]")),
        ("a value that a handler waits for", false, "channel", of(&["Queue.get", "ask", "handle"])),
        (
            "the task that waits for the others",
            true,
            "condition",
            of(&["TaskGroup._aexit", "TaskGroup.__aexit__", "main"]),
        ),
        (
            "a group that a handler waits for",
            false,
            "condition",
            of(&["TaskGroup.__aexit__", "ask", "handle"]),
        ),
        ("an answer", false, "socket", of(&["StreamReader.read", "pay"])),
        ("a future", false, "future", of(&["pay"])),
        ("a lock", false, "lock", of(&["Lock.acquire", "pay"])),
        ("a sleep", false, "sleep", of(&["sleep", "watch"])),
        ("a server", true, "accept", of(&["Server.serve_forever", "main", "run"])),
    ];
    hold(&cases, |name| match name {
        "Queue.get" => "/usr/lib/python3.14/asyncio/queues.py",
        "TaskGroup.__aexit__" | "TaskGroup._aexit" => "/usr/lib/python3.14/asyncio/taskgroups.py",
        "StreamReader.read" => "/usr/lib/python3.14/asyncio/streams.py",
        "Lock.acquire" => "/usr/lib/python3.14/asyncio/locks.py",
        "sleep" => "/usr/lib/python3.14/asyncio/tasks.py",
        "Server.serve_forever" => "/usr/lib/python3.14/asyncio/base_events.py",
        name if name.starts_with('[') => "",
        _ => "/app/shop.py",
    });
}

#[test]
fn php_without_a_request_is_idle_and_a_function_that_somebody_waits_for_is_not() {
    let pay = ["file_get_contents", "Shop::pay", "order", "{main}"];
    let queue = ["usleep", "Symfony\\Component\\Messenger\\Worker::run", "{main}"];
    let reads = ["stream_select", "React\\EventLoop\\StreamSelectLoop::waitForStreamActivity", "{main}"];
    let cases = [
        ("a worker of FPM", true, "accept", vec!["[no PHP code]"]),
        ("a client that sends slowly", true, "socket", vec!["[no PHP code]"]),
        ("threads of an extension", true, "futex", vec!["[threads without PHP code]"]),
        ("a third party's answer", false, "socket", pay.to_vec()),
        ("a script that sleeps", true, "sleep", vec!["sleep", "{main}"]),
        ("a function that sleeps", false, "sleep", vec!["usleep", "Shop::retry", "{main}"]),
        ("an empty queue", true, "sleep", queue.to_vec()),
        ("an event loop", true, "select", reads.to_vec()),
    ];
    hold(&cases, |name| match name {
        "{main}" | "order" | "Shop::pay" | "Shop::retry" => "/app/shop.php",
        _ => "",
    });
}

#[test]
fn ruby_threads_without_work_are_idle_and_those_that_somebody_waits_for_are_not() {
    let read = ["rbuf_fill", "request", "pay", "order"];
    let puma = ["block (3 levels) in spawn_thread", "block in spawn_thread"];
    let cases = [
        ("a third party's answer", false, "socket", [&read[..], &["block in <main>"]].concat()),
        ("a queue", true, "futex", vec!["block in work"]),
        ("a queue of Ruby 3.2", true, "futex", vec!["pop", "block in work"]),
        ("a pool of Puma", true, "futex", puma.to_vec()),
        ("a result", false, "futex", vec!["value", "order", "block in work"]),
        ("the lock of the interpreter", false, "lock", vec!["block in work"]),
        ("a script that sleeps", true, "sleep", vec!["<main>"]),
        ("a method that sleeps", false, "sleep", vec!["retry", "<main>"]),
        ("threads of Ruby itself", true, "poll", vec!["[threads without Ruby code]"]),
    ];
    hold(&cases, |name| match name {
        name if name.starts_with('[') => "",
        name if name.contains("spawn_thread") => "/gems/puma-6.4.2/lib/puma/thread_pool.rb",
        "pop" => "<internal:thread_sync>",
        _ => "/app/shop.rb",
    });
}
