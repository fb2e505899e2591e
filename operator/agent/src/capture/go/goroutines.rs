//! Where does the time of goroutines pass, whether they run or wait? The program is asked for the stacks of all of
//! them.
//!
//! Go collects the stacks while the program runs on: it is stopped twice for each answer, for some hundredths of a
//! millisecond however many goroutines there are. `?debug=2` would tell the state of each one as well, and stops
//! the program until the last of them is written: seconds, where there are many.

use std::time::{Duration, Instant};

use fleetprof_profile::read::goroutines::for_each_group;
use fleetprof_profile::{Profile, decode_valid};

use super::http::{Bounds, get};
use super::pulls::{MAX_SENT, Source, failed, limits};
use crate::capture::cpu_time::cpu_time_of;
use crate::capture::looks::{Doing, Seen, Telling};
use crate::capture::protocol::{Failure, FailureReason};

/// What is asked for.
const PATH: &str = "/debug/pprof/goroutine";

/// A program that tells what its goroutines do.
pub struct Goroutines(pub Source);

impl Telling for Goroutines {
    type Answer = Profile;

    const WHAT: &'static str = "goroutines";

    fn ask(&mut self, by: Instant, is_aborted: &dyn Fn() -> bool) -> Result<(Profile, Duration), Failure> {
        let (server, memory) = (self.0.server, self.0.memory);
        let (asked, used) = (Instant::now(), self.used());
        let bounds = Bounds { by, body: MAX_SENT, is_aborted };
        let bytes = get(server, PATH, &bounds).map_err(|error| failed(server, PATH, &error))?;
        // The program did other things meanwhile, or waited for a CPU itself.
        let cost = asked.elapsed().min(self.used().saturating_sub(used));
        let profile = decode_valid(&bytes, &limits(memory)).map_err(|e| useless(&e))?;
        Ok((profile, cost))
    }

    fn add(&mut self, answer: &Profile, seen: &mut Seen) -> Result<(), Failure> {
        let counts = for_each_group(answer, |group| {
            let doing = group.waits.map_or(Doing::Ready, Doing::Blocked);
            seen.add(&group.stack, group.count, doing);
        });
        counts.ok_or_else(|| useless(&"it does not count goroutines"))
    }

    fn used(&self) -> Duration {
        cpu_time_of(self.0.pid).unwrap_or_default()
    }
}

fn useless(why: &dyn std::fmt::Display) -> Failure {
    let text = format!("the goroutine profile of the program is of no use: {why}");
    Failure::new(FailureReason::UnsupportedRuntime, text)
}
