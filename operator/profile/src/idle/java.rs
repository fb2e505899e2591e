//! What does a method tell of why its Java thread waits? Names hold package and class, so that no method of the
//! program can be taken for one of a library.

use super::rules::Role;

/// Methods that wait for their caller: beginnings of their names.
const WAITS: [&str; 30] = [
    "io.netty.channel.epoll.Native.",
    "io.netty.channel.nio.SelectedSelectionKeySetSelector.",
    "java.lang.Object.wait",
    "java.lang.Thread.join",
    "java.lang.Thread.sleep",
    "java.lang.ref.Reference.waitFor",
    "java.lang.ref.ReferenceQueue",
    "java.net.PlainSocketImpl.socketAccept",
    "java.net.ServerSocket.",
    "java.util.concurrent.ArrayBlockingQueue.poll",
    "java.util.concurrent.CountDownLatch.await",
    "java.util.concurrent.ForkJoinPool.managedBlock",
    "java.util.concurrent.ForkJoinPool.unmanagedBlock",
    "java.util.concurrent.LinkedBlockingDeque.poll",
    "java.util.concurrent.LinkedBlockingQueue.poll",
    "java.util.concurrent.LinkedTransferQueue.",
    "java.util.concurrent.ScheduledThreadPoolExecutor$DelayedWorkQueue.",
    "java.util.concurrent.SynchronousQueue",
    "java.util.concurrent.TimeUnit.",
    "java.util.concurrent.locks.AbstractQueuedLongSynchronizer",
    "java.util.concurrent.locks.AbstractQueuedSynchronizer",
    "java.util.concurrent.locks.LockSupport.",
    "jdk.internal.misc.Blocker.",
    "jdk.internal.misc.Unsafe.park",
    "jdk.internal.vm.",
    "org.apache.tomcat.util.threads.TaskQueue.",
    "org.eclipse.jetty.util.BlockingArrayQueue.",
    "sun.misc.Unsafe.park",
    "sun.nio.ch.",
    "sun.nio.fs.",
];

/// Loops of pools and event loops, and what takes from a queue: beginnings of their names.
const LOOPS: [&str; 41] = [
    "akka.actor.LightArrayRevolverScheduler",
    "akka.dispatch.",
    "com.mysql.cj.jdbc.AbandonedConnectionCleanupThread.",
    "io.netty.channel.epoll.EpollEventLoop.",
    "io.netty.channel.epoll.EpollIoHandler.",
    "io.netty.channel.nio.NioEventLoop.",
    "io.netty.channel.nio.NioIoHandler.",
    "io.netty.util.HashedWheelTimer$Worker.",
    "io.netty.util.concurrent.GlobalEventExecutor.",
    "io.netty.util.concurrent.SingleThreadEventExecutor.",
    "java.lang.ProcessHandleImpl$1.run",
    "java.lang.ref.Finalizer$FinalizerThread.run",
    "java.lang.ref.Reference.processPendingReferences",
    "java.util.TimerThread.mainLoop",
    "java.util.concurrent.ArrayBlockingQueue.take",
    "java.util.concurrent.DelayQueue.take",
    "java.util.concurrent.ForkJoinPool.awaitWork",
    "java.util.concurrent.ForkJoinPool.runWorker",
    "java.util.concurrent.LinkedBlockingDeque.take",
    "java.util.concurrent.LinkedBlockingQueue.take",
    "java.util.concurrent.PriorityBlockingQueue.take",
    "java.util.concurrent.ThreadPoolExecutor.getTask",
    "jdk.internal.net.http.HttpClientImpl$SelectorManager.run",
    "jdk.internal.ref.CleanerImpl.run",
    "kotlinx.coroutines.scheduling.CoroutineScheduler",
    "okhttp3.internal.concurrent.TaskRunner",
    "okio.AsyncTimeout",
    "org.apache.catalina.core.StandardServer.await",
    "org.apache.tomcat.util.net.Acceptor.",
    "org.apache.tomcat.util.net.NioEndpoint",
    "org.apache.tomcat.util.threads.ThreadPoolExecutor.getTask",
    "org.eclipse.jetty.io.ManagedSelector",
    "org.eclipse.jetty.util.thread.QueuedThreadPool",
    "org.eclipse.jetty.util.thread.strategy.",
    "org.jboss.threads.EnhancedQueueExecutor",
    "org.postgresql.util.LazyCleaner",
    "org.springframework.boot.web.embedded.",
    "org.xnio.nio.WorkerThread.",
    "sun.net.httpserver.ServerImpl$Dispatcher.",
    "sun.net.www.http.KeepAliveCache.run",
    "sun.nio.ch.Poller",
];

/// What starts threads and programs: beginnings of names.
const STARTS: [&str; 6] = [
    "java.lang.Thread.run",
    "java.lang.VirtualThread.",
    "java.lang.reflect.",
    "jdk.internal.misc.InnocuousThread.run",
    "jdk.internal.reflect.",
    "org.springframework.boot.loader.",
];

/// Locks of `java.util.concurrent`.
const LOCKS: [&str; 4] = [
    "java.util.concurrent.Semaphore",
    "java.util.concurrent.locks.ReentrantLock",
    "java.util.concurrent.locks.ReentrantReadWriteLock",
    "java.util.concurrent.locks.StampedLock",
];

/// Whether a function is a method of Java: its file is its class.
pub(super) fn is_java(function: &str, file: &str) -> bool {
    !file.is_empty() && function.strip_prefix(file).is_some_and(|rest| rest.starts_with('.'))
}

/// The role of a method.
pub(super) fn of_java(function: &str) -> Role {
    let begins = |table: &[&str]| table.iter().any(|prefix| function.starts_with(prefix));
    match () {
        () if begins(&LOCKS) => Role::Lock,
        () if begins(&LOOPS) => Role::Loop,
        () if begins(&WAITS) => Role::Wait,
        // Lambdas, of which the one that starts a thread calls its body.
        () if begins(&STARTS) || function.contains("$$Lambda.") => Role::Start,
        () => Role::Code,
    }
}
