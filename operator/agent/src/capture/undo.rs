//! What is undone in a target when the watchdog ends the worker? The watchdog cannot reach the captures,
//! which belong to a thread that hangs; so what has to be undone is on a list that it can reach.
//!
//! A worker that is killed outright undoes nothing: whatever is done to a target must also end by itself.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Something to undo.
type Step = Box<dyn FnOnce() + Send>;

static STEPS: Mutex<Vec<(u64, Step)>> = Mutex::new(Vec::new());
static NEXT: AtomicU64 = AtomicU64::new(0);
/// How often the watchdog looks whether the steps are done.
const LOOK: Duration = Duration::from_millis(10);

/// Keeps a step on the list; dropped, the step is forgotten and not done.
#[must_use]
pub struct Undo(u64);

/// Has a step done where the watchdog ends the worker. It runs in a thread of its own, beside whatever hangs.
pub fn on_timeout(step: impl FnOnce() + Send + 'static) -> Undo {
    let id = NEXT.fetch_add(1, Ordering::Relaxed);
    STEPS.lock().unwrap_or_else(PoisonError::into_inner).push((id, Box::new(step)));
    Undo(id)
}

impl Drop for Undo {
    fn drop(&mut self) {
        STEPS.lock().unwrap_or_else(PoisonError::into_inner).retain(|(id, _)| *id != self.0);
    }
}

/// Does every step, all at the same time, and waits for them no longer than `most`.
pub fn all(most: Duration) {
    let steps = std::mem::take(&mut *STEPS.lock().unwrap_or_else(PoisonError::into_inner));
    let start = Instant::now();
    let threads: Vec<_> = steps
        .into_iter()
        .filter_map(|(_, step)| std::thread::Builder::new().name("undo".into()).spawn(step).ok())
        .collect();
    while threads.iter().any(|thread| !thread.is_finished()) && start.elapsed() < most {
        std::thread::sleep(LOOK);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn steps_are_done_once_unless_they_are_forgotten_and_one_that_hangs_delays_no_other() {
        let done = Arc::new(AtomicU32::new(0));
        let step = |worth: u32| {
            let done = Arc::clone(&done);
            move || {
                done.fetch_add(worth, Ordering::SeqCst);
            }
        };
        let hangs = on_timeout(|| std::thread::sleep(Duration::from_secs(30)));
        let forgotten = on_timeout(step(100));
        let kept = on_timeout(step(1));
        let other = on_timeout(step(10));
        drop(forgotten);
        let start = Instant::now();
        all(Duration::from_millis(200));
        assert!(start.elapsed() < Duration::from_secs(10));
        all(Duration::from_millis(200));
        assert_eq!(done.load(Ordering::SeqCst), 11);
        drop((hangs, kept, other));
    }
}
