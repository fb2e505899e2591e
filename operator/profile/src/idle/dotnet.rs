//! What does a method tell of why its .NET thread waits? Names hold namespace and class; there is no file.

use super::rules::Role;

/// Methods that wait for their caller: beginnings of their names.
const WAITS: [&str; 12] = [
    "Interop+Sys.WaitForSocketEvents",
    "System.Threading.LowLevelLifoSemaphore.",
    "System.Threading.LowLevelLock.",
    "System.Threading.LowLevelMonitor.",
    "System.Threading.ManualResetEventSlim.Wait",
    "System.Threading.Monitor.ObjWait",
    "System.Threading.Monitor.Wait",
    "System.Threading.Thread.Join",
    "System.Threading.Thread.Sleep",
    "System.Threading.Thread.UninterruptibleSleep0",
    "System.Threading.WaitHandle.",
    "System.Threading.WaitSubsystem",
];

/// Loops of pools and event loops, and what takes from a queue: beginnings of their names.
const LOOPS: [&str; 8] = [
    "Microsoft.Extensions.Hosting.HostingAbstractionsHostExtensions.Run",
    "System.Collections.Concurrent.BlockingCollection",
    "System.IO.FileSystemWatcher",
    "System.Net.Sockets.SocketAsyncEngine.EventLoop",
    "System.Threading.PortableThreadPool+GateThread.",
    "System.Threading.PortableThreadPool+WaitThread.",
    "System.Threading.PortableThreadPool+WorkerThread.",
    "System.Threading.TimerQueue.",
];

/// What starts threads: beginnings of names.
const STARTS: [&str; 3] = [
    "System.Threading.ExecutionContext.RunInternal",
    "System.Threading.Thread+StartHelper.",
    "System.Threading.Thread.StartCallback",
];

/// Methods that wait for a lock: beginnings of their names.
const LOCKS: [&str; 4] = [
    "System.Threading.Lock.",
    "System.Threading.Monitor.Enter",
    "System.Threading.Monitor.ReliableEnter",
    "System.Threading.Monitor.TryEnter",
];

/// The role of a method of the runtime's library; `None` for other functions.
pub(super) fn of_dotnet(function: &str) -> Option<Role> {
    let begins = |table: &[&str]| table.iter().any(|prefix| function.starts_with(prefix));
    match () {
        () if begins(&LOCKS) => Some(Role::Lock),
        () if begins(&LOOPS) => Some(Role::Loop),
        () if begins(&WAITS) => Some(Role::Wait),
        () if begins(&STARTS) => Some(Role::Start),
        () => None,
    }
}
