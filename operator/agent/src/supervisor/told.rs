//! What was the gateway told last of the containers, and does the next heartbeat tell all of them, or what
//! changed? No I/O, no clock.

use std::time::{Duration, Instant};

use fleetprof_crds::wire::{ContainerReport, Heartbeat, HeartbeatChanges, looks_the_same};

/// How long changes build on each other before everything is told once more.
const WHOLE_AGAIN: Duration = Duration::from_secs(3600);

/// A heartbeat, as it is sent.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// All of it.
    Whole(Heartbeat),
    /// What changed since one that the gateway holds.
    Changes(HeartbeatChanges),
}

/// The last heartbeat that was answered, and whether the gateway holds it.
#[derive(Debug, Default)]
pub struct Told {
    containers: Vec<ContainerReport>,
    /// Heartbeats so far.
    count: u64,
    /// The number of the one that the gateway holds, and when all was told last.
    held: Option<(u64, Instant)>,
}

impl Told {
    /// How a heartbeat is sent at `now`.
    pub fn message(&mut self, heartbeat: Heartbeat, now: Instant) -> Message {
        self.count += 1;
        let heartbeat = Heartbeat { number: Some(self.count), ..heartbeat };
        match self.held.filter(|(_, whole)| now.saturating_duration_since(*whole) < WHOLE_AGAIN) {
            Some((since, _)) => {
                Message::Changes(HeartbeatChanges::between(since, &self.containers, heartbeat))
            }
            None => {
                self.held = None;
                Message::Whole(heartbeat)
            }
        }
    }

    /// The heartbeat that was sent last, with these containers, was answered at `now`: the gateway holds the
    /// one of this number, if any.
    pub fn answered(&mut self, containers: Vec<ContainerReport>, holds: Option<u64>, now: Instant) {
        self.containers = containers;
        let whole = self.held.map_or(now, |(_, whole)| whole);
        self.held = holds.filter(|number| *number == self.count).map(|number| (number, whole));
    }

    /// Nobody knows what the gateway holds: it is another one, or an answer was lost.
    pub const fn forget(&mut self) {
        self.held = None;
    }

    /// Whether the containers look different now, beside how busy they are: others are there, or something
    /// else can be captured of one.
    #[must_use]
    pub fn differs_from(&self, now: &[ContainerReport]) -> bool {
        let is_told = |row: &ContainerReport| self.containers.iter().any(|told| looks_the_same(told, row));
        now.len() != self.containers.len() || !now.iter().all(is_told)
    }
}

#[cfg(test)]
mod tests {
    use fleetprof_crds::ProfileKind;
    use fleetprof_crds::wire::{AgentMode, Offer, PROTOCOL};

    use super::*;

    fn row(id: &str) -> ContainerReport {
        ContainerReport {
            id: id.into(),
            runtime: "Native".into(),
            cpu_percent: Some(1),
            memory_percent: None,
            cpu_of_node: false,
            signals: None,
            memory_of_node: false,
            problem: None,
            offers: vec![Offer::good(ProfileKind::Cpu, "native")],
        }
    }

    fn beat(ids: &[&str]) -> Heartbeat {
        Heartbeat {
            version: "1".into(),
            protocol: PROTOCOL,
            mode: AgentMode::Sidecar,
            instance: "i".into(),
            containers: ids.iter().map(|id| row(id)).collect(),
            captures: Vec::new(),
            sent_at_ms: None,
            leaving: false,
            number: None,
        }
    }

    /// Sends a heartbeat with these containers; whether it is whole, and how many containers it names.
    fn send(told: &mut Told, ids: &[&str], now: Instant) -> (bool, usize) {
        match told.message(beat(ids), now) {
            Message::Whole(beat) => (true, beat.containers.len()),
            Message::Changes(changes) => (false, changes.heartbeat.containers.len()),
        }
    }

    #[test]
    fn changes_are_told_to_a_gateway_that_holds_what_was_told_before() {
        let (mut told, now) = (Told::default(), Instant::now());
        let rows = |ids: &[&str]| beat(ids).containers;
        assert_eq!(send(&mut told, &["a", "b"], now), (true, 2));
        told.answered(rows(&["a", "b"]), Some(1), now);
        assert_eq!(send(&mut told, &["a", "b", "c"], now), (false, 1));
        told.answered(rows(&["a", "b", "c"]), Some(2), now);
        assert_eq!(send(&mut told, &["a", "b", "c"], now), (false, 0));
        told.answered(rows(&["a", "b", "c"]), None, now);
        assert_eq!(send(&mut told, &["a"], now), (true, 1), "it holds nothing");
        told.answered(rows(&["a"]), Some(3), now);
        assert_eq!(send(&mut told, &["a"], now), (true, 1), "it holds another one");
        told.answered(rows(&["a"]), Some(5), now);
        told.forget();
        assert_eq!(send(&mut told, &["a"], now), (true, 1), "an answer was lost");
    }

    #[test]
    fn a_gateway_of_an_earlier_version_is_always_told_everything() {
        let (mut told, now) = (Told::default(), Instant::now());
        for _ in 0..3 {
            assert_eq!(send(&mut told, &["a"], now), (true, 1));
            told.answered(beat(&["a"]).containers, None, now);
        }
    }

    #[test]
    fn everything_is_told_once_more_after_an_hour_of_changes() {
        let (mut told, start) = (Told::default(), Instant::now());
        let mut wholes = 0;
        for n in 1..=240 {
            let now = start + Duration::from_secs(30) * n;
            wholes += u32::from(send(&mut told, &["a"], now).0);
            told.answered(beat(&["a"]).containers, Some(n.into()), now);
        }
        assert_eq!(wholes, 2, "of two hours");
    }

    #[test]
    fn other_containers_runtimes_and_offers_are_news_and_figures_and_their_order_are_none() {
        let (mut told, now) = (Told::default(), Instant::now());
        assert!(!told.differs_from(&[]) && told.differs_from(&[row("a")]));
        told.answered(vec![row("a"), row("b")], None, now);
        assert!(!told.differs_from(&[row("b"), ContainerReport { cpu_percent: Some(9), ..row("a") }]));
        let news = [
            vec![row("a")],
            vec![row("a"), row("c")],
            vec![row("a"), row("b"), row("c")],
            vec![row("a"), ContainerReport { runtime: "Node.js".into(), ..row("b") }],
            vec![row("a"), ContainerReport { offers: vec![], ..row("b") }],
            vec![row("a"), ContainerReport { cpu_of_node: true, ..row("b") }],
        ];
        for rows in news {
            assert!(told.differs_from(&rows), "{rows:?}");
        }
    }
}
