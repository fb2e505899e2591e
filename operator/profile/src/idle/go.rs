//! What does a function of a Go program tell of why its goroutine waits? Names hold the path of the package, so that
//! no function of the program can be taken for one of a library.

use super::rules::Role;

/// Functions that wait for their caller, beside those of Go's runtime: beginnings of their names.
const WAITS: [&str; 23] = [
    "bufio.(*Reader).",
    "bytes.(*Buffer).ReadFrom",
    "crypto/tls.(*Conn).Read",
    "crypto/tls.(*Conn).read",
    "crypto/tls.(*atLeastReader).Read",
    "internal/poll.",
    "internal/sync.",
    "io.ReadAtLeast",
    "io.ReadFull",
    "net.(*TCPListener).",
    "net.(*UnixListener).",
    "net.(*conn).Read",
    "net.(*netFD).",
    "net/http.(*conn).readRequest",
    "net/http.(*connReader).Read",
    "net/http.(*persistConn).Read",
    "net/http.readRequest",
    "net/textproto.",
    "os/signal.signal_recv",
    "sync.(*Cond).Wait",
    "sync.(*WaitGroup).Wait",
    "sync.runtime_",
    "syscall.",
];

/// Loops that get work and do it, and such as serve a connection: beginnings of their names.
const LOOPS: [&str; 28] = [
    "database/sql.(*DB).connectionCleaner",
    "database/sql.(*DB).connectionOpener",
    "github.com/jackc/pgx/v5/pgxpool.(*Pool).backgroundHealthCheck",
    "golang.org/x/net/http2.(*clientConnReadLoop).run",
    "golang.org/x/net/http2.(*Framer).ReadFrame",
    "golang.org/x/net/http2.(*serverConn).readFrames",
    "golang.org/x/net/http2.(*serverConn).serve",
    "google.golang.org/grpc.(*Server).Serve",
    "google.golang.org/grpc.(*Server).serverWorker",
    "google.golang.org/grpc/internal/grpcsync.(*CallbackSerializer).run",
    "google.golang.org/grpc/internal/transport.(*controlBuffer).get",
    "google.golang.org/grpc/internal/transport.(*http2Client).keepalive",
    "google.golang.org/grpc/internal/transport.(*http2Client).reader",
    "google.golang.org/grpc/internal/transport.(*http2Server).HandleStreams",
    "google.golang.org/grpc/internal/transport.(*http2Server).keepalive",
    "google.golang.org/grpc/internal/transport.(*loopyWriter).run",
    "k8s.io/client-go/util/workqueue.",
    "net/http.(*Server).Serve",
    "net/http.(*conn).serve",
    // It looks whether the client of a handler is still there.
    "net/http.(*connReader).backgroundRead",
    "net/http.(*http2ClientConn).readLoop",
    "net/http.(*http2Framer).ReadFrame",
    "net/http.(*http2clientConnReadLoop).run",
    "net/http.(*http2serverConn).readFrames",
    "net/http.(*http2serverConn).serve",
    // Who asked waits for the answer elsewhere.
    "net/http.(*persistConn).readLoop",
    "net/http.(*persistConn).writeLoop",
    "os/signal.loop",
];

/// What starts goroutines and the program.
const STARTS: [&str; 4] =
    ["golang.org/x/sync/errgroup.(*Group).Go.", "runtime.goexit", "runtime.main", "sync.(*WaitGroup).Go."];

/// The role of a function.
pub(super) fn of_go(function: &str) -> Role {
    let begins = |table: &[&str]| table.iter().any(|prefix| function.starts_with(prefix));
    match () {
        // Who cannot send is waited for by nobody, but waits for somebody.
        () if function.starts_with("runtime.chansend") => Role::Lock,
        () if is_lock(function) => Role::Lock,
        () if begins(&STARTS) || is_wrapper(function) => Role::Start,
        () if begins(&LOOPS) => Role::Loop,
        () if function.starts_with("runtime.") || begins(&WAITS) => Role::Wait,
        () => Role::Code,
    }
}

fn is_lock(function: &str) -> bool {
    let is_own = function.starts_with("sync.") || function.starts_with("internal/sync.");
    is_own && (function.contains("Mutex") || function.contains("Once"))
}

/// Whether the compiler made a function to start a goroutine with arguments: `main.main.gowrap1`.
fn is_wrapper(function: &str) -> bool {
    let last = function.rsplit('.').next().unwrap_or_default();
    last.strip_prefix("gowrap").is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
}
