//! The shop's worker: draws a preview of every invoice, on a few threads and within a CPU budget.
//!
//! ```text
//! main: next invoice ─► queue ─► preview threads: draw ─► shadow ─► shrink ─► encode
//! ```

mod invoice;
mod page;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use invoice::Invoice;

/// What the preview threads have done so far.
#[derive(Default)]
struct Done {
    previews: AtomicU64,
    bytes: AtomicU64,
}

fn main() {
    let threads = setting("THREADS", 2.0).clamp(1.0, 64.0);
    let share = setting("CPU_SHARE", 0.3).clamp(0.01, threads);
    println!("drawing on {threads} threads within {share} CPUs");
    let (queue, orders) = sync_channel(16);
    let (orders, done) = (Arc::new(Mutex::new(orders)), Arc::new(Done::default()));
    for number in 0..threads as usize {
        let (orders, done) = (Arc::clone(&orders), Arc::clone(&done));
        let spawned = thread::Builder::new().name(format!("preview-{number}")).spawn(move || work(&orders, &done, share / threads));
        if let Err(error) = spawned {
            eprintln!("thread {number} did not start: {error}");
        }
    }
    thread::spawn(move || report(&done));
    feed(&queue);
}

/// A number from the environment.
fn setting(name: &str, default: f64) -> f64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Puts one invoice after the other into the queue; waits while it is full.
fn feed(queue: &SyncSender<Invoice>) {
    for number in 1.. {
        if queue.send(Invoice::sample(number)).is_err() {
            eprintln!("no preview thread is left");
            return;
        }
    }
}

/// Draws previews and rests after each, so that the thread stays within `share` of a CPU.
fn work(orders: &Mutex<Receiver<Invoice>>, done: &Done, share: f64) {
    loop {
        let next = orders.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(invoice) = next else { return };
        let began = Instant::now();
        let preview = page::preview(&invoice);
        done.previews.fetch_add(1, Ordering::Relaxed);
        done.bytes.fetch_add(preview.len() as u64, Ordering::Relaxed);
        thread::sleep(began.elapsed().mul_f64((1.0 - share) / share));
    }
}

/// A line every ten seconds.
fn report(done: &Done) {
    loop {
        thread::sleep(Duration::from_secs(10));
        println!("{} previews, {} bytes", done.previews.load(Ordering::Relaxed), done.bytes.load(Ordering::Relaxed));
    }
}
