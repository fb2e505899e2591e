//! How does a page on this machine show the cluster? It asks this server, which asks the API server with the
//! caller's rights, and nothing that the caller's page does not need.
//!
//! ```text
//! browser ─► guard: is it our page (Host, Origin, token)? ─► allow: is it a request that the page needs?
//!                └► assets: three files, strict policy            └► upstream: the API server
//! ```
//! Every other program and page of the machine can connect to the port, so each request has to prove that it
//! comes from the page that was opened with the one-time code.

mod allow;
mod assets;
mod edits;
mod guard;
mod keys;
mod serve;
#[cfg(feature = "speedscope")]
mod speedscope;
#[cfg(test)]
mod tests;
mod upstream;

use std::io::IsTerminal;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::cluster::Cluster;
use crate::exit::{Exit, Failure};
use crate::flags::Flags;
use crate::output::note;
use crate::paths;
use guard::Site;
use keys::Keys;
use serve::{About, Console};

/// Without a request for this long the server ends.
const IDLE: Duration = Duration::from_hours(8);
/// How often it looks whether that is so.
const LOOK: Duration = Duration::from_mins(1);

/// What `kubectl fleetprof console` takes.
#[derive(Args, Debug)]
pub(crate) struct ConsoleArgs {
    /// The port of 127.0.0.1 to listen on; by default a free one.
    #[arg(long, default_value = "0", value_name = "PORT")]
    port: u16,
}

/// Serves the page until it is interrupted, or nobody has used it for eight hours.
///
/// # Errors
/// The namespace is not a name, or the port is taken.
pub(crate) async fn run(cluster: Cluster, flags: &Flags, args: &ConsoleArgs) -> Result<Exit, Failure> {
    let namespace = paths::namespace(cluster.namespace())?.to_owned();
    let (listener, port) = listen(args.port).await?;
    let about = About {
        namespace,
        all_namespaces: flags.namespace.is_none(),
        context: cluster.context().to_owned(),
        flags: repeated(flags, cluster.context()),
        version: env!("CARGO_PKG_VERSION"),
        speedscope: cfg!(feature = "speedscope"),
    };
    let keys = Arc::new(Keys::new().ok_or_else(no_chance)?);
    let console = Console::new(Site::new(port), Arc::clone(&keys), about, Arc::new(cluster));
    let last = console.last_request();
    let serving = tokio::spawn(axum::serve(listener, serve::router(console)).into_future());
    link(&keys, port)?;
    let mut enter = match in_background() {
        true => mpsc::channel(1).1,
        false => lines_of_stdin(),
    };
    note("Press Enter for another link, which works once and for two minutes. Ctrl-C ends the console.");
    loop {
        tokio::select! {
            () = interrupted() => break,
            Some(()) = enter.recv() => link(&keys, port)?,
            () = tokio::time::sleep(LOOK) => {
                if last.lock().map_or(Duration::ZERO, |last| Instant::now().duration_since(*last)) >= IDLE {
                    note("The console has not been used for eight hours, and ends.");
                    break;
                }
            }
        }
    }
    serving.abort();
    Ok(Exit::Data)
}

/// The flags for commands that are copied from the page: they name the context even if it is the current one,
/// which may be another one by then, and files wherever the command runs.
fn repeated(flags: &Flags, context: &str) -> Vec<String> {
    let context = Some(context.to_owned()).filter(|context| !context.is_empty());
    let whole = |file: &Option<PathBuf>| {
        file.as_ref().map(|file| std::path::absolute(file).unwrap_or_else(|_| file.clone()))
    };
    let flags = Flags {
        context,
        kubeconfig: whole(&flags.kubeconfig),
        certificate_authority: whole(&flags.certificate_authority),
        client_certificate: whole(&flags.client_certificate),
        client_key: whole(&flags.client_key),
        ..flags.clone()
    };
    flags.choosing()
}

/// Listens on the loopback address alone.
async fn listen(port: u16) -> Result<(TcpListener, u16), Failure> {
    let taken = |error| {
        Failure::error(format!(
            "the console cannot listen on port {port} of 127.0.0.1: {error}; use another --port, or none"
        ))
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.map_err(taken)?;
    let port = listener.local_addr().map_err(taken)?.port();
    Ok((listener, port))
}

/// Prints a link. The code is in the fragment, which browsers send to nobody.
fn link(keys: &Keys, port: u16) -> Result<(), Failure> {
    let code = keys.issue(Instant::now()).ok_or_else(no_chance)?;
    crate::output::print(&format!("http://127.0.0.1:{port}/#code={code}\n"))
}

fn no_chance() -> Failure {
    Failure::error("the system gives no random numbers: the console cannot protect itself without them")
}

async fn interrupted() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Whether the process is in the background of the terminal that it would read: the kernel stops one that does,
/// and it would serve nothing. Told on Linux alone.
fn in_background() -> bool {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    std::io::stdin().is_terminal() && !in_foreground(&stat).unwrap_or(true)
}

/// Whether a process is in the foreground of its terminal, by `/proc/PID/stat`: its process group is the fifth
/// field, that of the foreground the eighth. The second, its name, may have spaces and parentheses.
fn in_foreground(stat: &str) -> Option<bool> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    Some(fields.get(2)? == fields.get(5)?)
}

/// One message for each line that is typed, or comes through a pipe. The thread ends with the process.
fn lines_of_stdin() -> mpsc::Receiver<()> {
    let (told, lines) = mpsc::channel(1);
    std::thread::spawn(move || {
        for line in std::io::stdin().lines() {
            if line.is_err() || told.blocking_send(()).is_err() {
                break;
            }
        }
    });
    lines
}
