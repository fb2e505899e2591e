//! How do two samplers of one process look like one capture? Each has its turns at its own distance.

use std::time::{Duration, Instant};

use super::collector::{Capture, Tally};
use super::protocol::Failure;
use super::slices::Slices;

/// Captures of one process that begin and end together.
pub struct Together {
    captures: Vec<Box<dyn Capture>>,
    turns: u64,
}

impl Together {
    /// These captures as one; a single one stays as it is.
    #[must_use]
    pub fn of(captures: Vec<Box<dyn Capture>>) -> Box<dyn Capture> {
        match <[Box<dyn Capture>; 1]>::try_from(captures) {
            Ok([single]) => single,
            Err(captures) => Box::new(Self { captures, turns: 0 }),
        }
    }
}

/// One turn in how many is a capture's; never for a recording.
fn every(capture: &dyn Capture, turn: Duration) -> Option<u64> {
    let turns = capture.interval()?.as_nanos() / turn.as_nanos().max(1);
    Some(u64::try_from(turns).unwrap_or(u64::MAX).max(1))
}

impl Capture for Together {
    fn interval(&self) -> Option<Duration> {
        self.captures.iter().filter_map(|capture| capture.interval()).min()
    }

    fn turn(&mut self) -> Result<(), Failure> {
        let Some(turn) = self.interval() else { return Ok(()) };
        self.turns += 1;
        for capture in &mut self.captures {
            if every(capture.as_ref(), turn).is_some_and(|every| self.turns.is_multiple_of(every)) {
                capture.turn()?;
            }
        }
        Ok(())
    }

    fn drain(&mut self, into: &mut Slices<'_>) -> Result<(), Failure> {
        self.captures.iter_mut().try_for_each(|capture| capture.drain(into))
    }

    fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        self.captures.iter().for_each(|capture| tally.add(capture.tally()));
        tally
    }

    fn ending(&mut self) {
        self.captures.iter_mut().for_each(|capture| capture.ending());
    }

    fn stop(&mut self, by: Instant) {
        for capture in &mut self.captures {
            // The last turn of all is one of the fastest capture alone.
            let _last = capture.turn();
            capture.stop(by);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use super::*;

    struct Counted {
        interval: Option<Duration>,
        turns: Rc<Cell<u64>>,
    }

    impl Capture for Counted {
        fn interval(&self) -> Option<Duration> {
            self.interval
        }

        fn turn(&mut self) -> Result<(), Failure> {
            self.turns.set(self.turns.get() + 1);
            Ok(())
        }

        fn drain(&mut self, _into: &mut Slices<'_>) -> Result<(), Failure> {
            Ok(())
        }

        fn tally(&self) -> Tally {
            Tally { taken: self.turns.get(), ..Tally::default() }
        }

        fn stop(&mut self, _by: Instant) {}
    }

    fn counted(millis: u64) -> (Box<dyn Capture>, Rc<Cell<u64>>) {
        let turns = Rc::new(Cell::new(0));
        let interval = (millis > 0).then(|| Duration::from_millis(millis));
        (Box::new(Counted { interval, turns: Rc::clone(&turns) }), turns)
    }

    #[test]
    fn each_capture_has_turns_at_its_own_distance_and_a_last_one() {
        let ((fast, fast_turns), (slow, slow_turns), (records, none)) =
            (counted(10), counted(50), counted(0));
        let mut both = Together::of(vec![fast, slow, records]);
        assert_eq!(both.interval(), Some(Duration::from_millis(10)));
        for _ in 0..100 {
            both.turn().unwrap();
        }
        assert_eq!((fast_turns.get(), slow_turns.get(), none.get()), (100, 20, 0));
        assert_eq!(both.tally().taken, 120);
        both.stop(Instant::now());
        assert_eq!((fast_turns.get(), slow_turns.get()), (101, 21));
    }

    #[test]
    fn a_single_capture_stays_as_it_is() {
        let (one, turns) = counted(50);
        let mut one = Together::of(vec![one]);
        one.turn().unwrap();
        one.stop(Instant::now());
        assert_eq!(turns.get(), 1);
    }
}
