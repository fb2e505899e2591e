//! Which processes are of other containers, so that they need not be read again? Each look for new processes of a
//! container goes over all that the agent sees. On a node those are thousands, and reading each of them every second
//! would cost more than the capture.

use std::collections::HashMap;
use std::time::Duration;

use crate::proc::{Process, of_ticks};

/// How long it holds that a process is of another container. Its pid may be given to another process, though not soon:
/// the kernel goes through all others first.
const HOLDS: Duration = Duration::from_secs(10);
/// A younger process may still be on its way to its container: who starts it moves it there.
const SETTLES: Duration = Duration::from_secs(5);
/// So that not all are read again at once, some are a second later than others.
const SPREAD: i32 = 8;

/// Processes of other containers. All times are since the machine's start.
#[derive(Debug, Default)]
pub struct Elsewhere {
    /// By pid, until when it holds.
    until: HashMap<i32, Duration>,
}

impl Elsewhere {
    /// The processes among `pids` that are of the container, by pid; `read` tells what one of them is.
    pub fn inside(
        &mut self,
        container: &str,
        pids: &[i32],
        read: impl Fn(i32) -> Option<Process>,
        now: Duration,
    ) -> Vec<Process> {
        let before = std::mem::take(&mut self.until);
        let mut inside = Vec::new();
        for &pid in pids {
            if let Some(until) = before.get(&pid).filter(|until| now < **until) {
                self.until.insert(pid, *until);
                continue;
            }
            let Some(process) = read(pid) else { continue };
            if process.container.as_deref() == Some(container) {
                inside.push(process);
            } else if now.saturating_sub(of_ticks(process.start_ticks)) >= SETTLES {
                let later = Duration::from_secs(u64::try_from(pid % SPREAD).unwrap_or(0));
                self.until.insert(pid, now + HOLDS + later);
            }
        }
        inside.sort_unstable_by_key(|process| process.pid);
        inside
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    /// When the machine of these tests had been up for so long, the old processes started.
    const START: Duration = Duration::from_secs(1000);

    fn process(pid: i32, container: &str, started: Duration) -> Process {
        let start_ticks = u64::try_from(started.as_millis() / 10).unwrap();
        let container = Some(container.to_owned()).filter(|id| !id.is_empty());
        Process { pid, parent: 0, command: "app".into(), state: b'S', cpu_ticks: 0, start_ticks, container }
    }

    /// The pids inside of container `a`, and those that were read.
    fn look(elsewhere: &mut Elsewhere, seconds: u64, all: &[Process]) -> (Vec<i32>, Vec<i32>) {
        let pids: Vec<i32> = all.iter().map(|process| process.pid).collect();
        let reads = RefCell::new(Vec::new());
        let read = |pid: i32| {
            reads.borrow_mut().push(pid);
            all.iter().find(|process| process.pid == pid).cloned()
        };
        let inside = elsewhere.inside("a", &pids, read, START + Duration::from_secs(seconds));
        (inside.iter().map(|process| process.pid).collect(), reads.into_inner())
    }

    #[test]
    fn others_are_read_once_in_a_while() {
        let mut elsewhere = Elsewhere::default();
        let mut all = vec![process(8, "a", START), process(16, "b", START), process(24, "", START)];
        assert_eq!(look(&mut elsewhere, 60, &all), (vec![8], vec![8, 16, 24]));
        assert_eq!(look(&mut elsewhere, 61, &all), (vec![8], vec![8]));
        all.push(process(32, "a", START + Duration::from_secs(62)));
        assert_eq!(look(&mut elsewhere, 62, &all), (vec![8, 32], vec![8, 32]), "a new one");
        assert_eq!(look(&mut elsewhere, 70, &all), (vec![8, 32], vec![8, 16, 24, 32]), "all again");
    }

    #[test]
    fn a_process_that_moves_to_the_container_after_its_start_is_found() {
        let mut elsewhere = Elsewhere::default();
        let started = START + Duration::from_secs(60);
        assert!(look(&mut elsewhere, 60, &[process(8, "shim", started)]).0.is_empty());
        assert_eq!(look(&mut elsewhere, 61, &[process(8, "a", started)]).0, [8]);
    }

    #[test]
    fn a_pid_that_another_process_has_now_is_read_again_and_what_is_gone_is_forgotten() {
        let mut elsewhere = Elsewhere::default();
        assert!(look(&mut elsewhere, 60, &[process(8, "b", START), process(9, "b", START)]).0.is_empty());
        let reused = process(8, "a", START + Duration::from_secs(61));
        assert!(look(&mut elsewhere, 61, std::slice::from_ref(&reused)).0.is_empty(), "not at once");
        assert_eq!(elsewhere.until.len(), 1);
        assert_eq!(look(&mut elsewhere, 70, &[reused]).0, [8]);
    }
}
