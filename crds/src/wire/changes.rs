//! How does an agent tell only what changed since a heartbeat that the gateway holds?
//!
//! ```text
//! POST /v1/heartbeat          number 7            ─► holds 7
//! POST /v1/heartbeat/changes  since 7, number 8   ─► holds 8
//!      the same, of a leader that is new          ─► holds nothing: the agent tells everything at once
//!      the same, of a gateway of an earlier version ─► 404: the same
//! ```
//! What a container can give changes seldom, and has a kilobyte; how busy it is changes often, and has some
//! bytes. Captures are reported each time: there are few, and they are levels.

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};

use super::{ContainerReport, Heartbeat, Signals};

/// A heartbeat, as what changed of its containers since an earlier one of the same instance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HeartbeatChanges {
    /// The number of that earlier one, which the gateway has said that it holds.
    pub since: u64,
    /// The heartbeat; of its containers those that are new, or that changed in more than their figures.
    pub heartbeat: Heartbeat,
    /// Figures of other containers that changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub uses: Vec<Use>,
    /// Containers that are not there any more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gone: Vec<String>,
}

/// How busy a container is, as in [`ContainerReport`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Use {
    /// The container.
    pub id: String,
    /// CPU use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_percent: Option<i32>,
    /// Memory use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_percent: Option<i32>,
    /// Other figures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signals: Option<Signals>,
}

impl HeartbeatChanges {
    /// What changed between the containers of heartbeat `since` and those of this one.
    #[must_use]
    pub fn between(since: u64, before: &[ContainerReport], heartbeat: Heartbeat) -> Self {
        let known: HashMap<&str, &ContainerReport> =
            before.iter().map(|row| (row.id.as_str(), row)).collect();
        let there: HashSet<&str> = heartbeat.containers.iter().map(|row| row.id.as_str()).collect();
        let gone = before.iter().filter(|row| !there.contains(row.id.as_str()));
        let gone: Vec<String> = gone.map(|row| row.id.clone()).collect();
        let (mut containers, mut uses) = (Vec::new(), Vec::new());
        for row in heartbeat.containers {
            match known.get(row.id.as_str()) {
                Some(before) if **before == row => {}
                Some(before) if looks_the_same(before, &row) => uses.push(Use::of(row)),
                _ => containers.push(row),
            }
        }
        Self { since, heartbeat: Heartbeat { containers, ..heartbeat }, uses, gone }
    }

    /// The whole heartbeat, made of the containers of heartbeat `since` and what changed. Figures of
    /// containers that are not among them are left out.
    #[must_use]
    pub fn applied_to(self, before: Vec<ContainerReport>) -> Heartbeat {
        let Self { since: _, heartbeat, uses, gone } = self;
        let mut containers = before;
        let mut places: HashMap<String, usize> =
            containers.iter().enumerate().map(|(at, row)| (row.id.clone(), at)).collect();
        for Use { id, cpu_percent, memory_percent, signals } in uses {
            if let Some(row) = places.get(&id).and_then(|at| containers.get_mut(*at)) {
                (row.cpu_percent, row.memory_percent, row.signals) = (cpu_percent, memory_percent, signals);
            }
        }
        for row in heartbeat.containers {
            match places.get(&row.id).and_then(|at| containers.get_mut(*at)) {
                Some(known) => *known = row,
                None => {
                    places.insert(row.id.clone(), containers.len());
                    containers.push(row);
                }
            }
        }
        let gone: HashSet<String> = gone.into_iter().collect();
        containers.retain(|row| !gone.contains(&row.id));
        Heartbeat { containers, ..heartbeat }
    }
}

impl Use {
    fn of(row: ContainerReport) -> Self {
        Self {
            id: row.id,
            cpu_percent: row.cpu_percent,
            memory_percent: row.memory_percent,
            signals: row.signals,
        }
    }
}

/// Whether two reports of a container differ in their figures alone.
#[must_use]
pub fn looks_the_same(a: &ContainerReport, b: &ContainerReport) -> bool {
    // Without `..`: a new field cannot be forgotten.
    let ContainerReport {
        id,
        runtime,
        cpu_percent: _,
        memory_percent: _,
        signals: _,
        cpu_of_node,
        memory_of_node,
        problem,
        offers,
    } = a;
    (id, runtime, problem, offers) == (&b.id, &b.runtime, &b.problem, &b.offers)
        && (*cpu_of_node, *memory_of_node) == (b.cpu_of_node, b.memory_of_node)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::wire::{AgentMode, Offer, PROTOCOL};
    use crate::{ProfileKind, Reason, wire::Problem};

    fn row(id: &str, cpu: i32) -> ContainerReport {
        ContainerReport {
            id: id.into(),
            runtime: "Native".into(),
            cpu_percent: Some(cpu),
            memory_percent: None,
            cpu_of_node: false,
            signals: None,
            memory_of_node: true,
            problem: None,
            offers: vec![Offer::good(ProfileKind::Cpu, "native")],
        }
    }

    fn beat(containers: Vec<ContainerReport>) -> Heartbeat {
        Heartbeat {
            version: "1".into(),
            protocol: PROTOCOL,
            mode: AgentMode::Node,
            instance: "i".into(),
            containers,
            captures: Vec::new(),
            sent_at_ms: None,
            leaving: false,
            number: Some(8),
        }
    }

    #[test]
    fn what_is_as_before_is_not_told_and_figures_are_told_without_the_rest() {
        let problem = Problem { reason: Reason::PermissionDenied, message: "no".into() };
        let refused = ContainerReport { problem: Some(problem), ..row("d", 1) };
        let before = [row("a", 1), row("b", 1), row("c", 1), row("d", 1)];
        let now = beat(vec![row("e", 7), row("a", 1), row("b", 5), refused.clone()]);
        let changes = HeartbeatChanges::between(7, &before, now.clone());
        assert_eq!(changes.heartbeat.containers, [row("e", 7), refused]);
        assert_eq!((changes.since, changes.gone.as_slice()), (7, ["c".to_owned()].as_slice()));
        let text = serde_json::to_value(&changes.uses).unwrap();
        assert_eq!(text, json!([{"id": "b", "cpuPercent": 5}]));
        let mut whole = changes.applied_to(before.to_vec());
        whole.containers.sort_by(|a, b| a.id.cmp(&b.id));
        let mut wanted = now;
        wanted.containers.sort_by(|a, b| a.id.cmp(&b.id));
        assert_eq!(whole, wanted);
    }

    #[test]
    fn other_figures_are_told_with_the_use_of_a_container_and_only_when_they_change() {
        let pressed = |io| Signals { io_pressure_percent: Some(io), ..Signals::default() };
        let of = |io| ContainerReport { signals: Some(pressed(io)), ..row("a", 1) };
        let same = HeartbeatChanges::between(7, &[of(20)], beat(vec![of(20)]));
        assert!(same.uses.is_empty() && same.heartbeat.containers.is_empty());
        let changes = HeartbeatChanges::between(7, &[of(20)], beat(vec![of(25)]));
        let text = serde_json::to_value(&changes.uses).unwrap();
        assert_eq!(text, json!([{"id": "a", "cpuPercent": 1, "signals": {"ioPressurePercent": 25}}]));
        assert_eq!(changes.applied_to(vec![of(20)]).containers, [of(25)]);
    }

    /// A Go program that does not serve its profiles, or a Java program.
    fn usual(n: usize, cpu: i32) -> ContainerReport {
        use ProfileKind::{Alloc, Block, Cpu, Goroutine, Heap, Lock, Wall};
        let message = "the process serves no profiles: import net/http/pprof and listen, as by \
                       http.ListenAndServe(\"localhost:6060\", nil)";
        let problem = Problem { reason: Reason::UnsupportedRuntime, message: message.into() };
        let refused = |kind| Offer::refused(kind, "go-pprof", problem.clone());
        let offers = match n % 2 {
            0 => [Cpu, Wall, Alloc, Lock].map(|kind| Offer::good(kind, "jfr")).to_vec(),
            _ => [Wall, Alloc, Heap, Lock, Block, Goroutine].map(refused).to_vec(),
        };
        ContainerReport { offers, ..row(&format!("{n:064x}"), cpu) }
    }

    #[test]
    fn at_rest_a_container_takes_no_byte() {
        let rows = |n: usize, cpu| (0..n).map(|n| usual(n, cpu)).collect::<Vec<_>>();
        let whole = |n| serde_json::to_vec(&beat(rows(n, 0))).unwrap().len();
        let changes = |n, cpu| {
            let changes = HeartbeatChanges::between(7, &rows(n, 0), beat(rows(n, cpu)));
            serde_json::to_vec(&changes).unwrap().len()
        };
        for n in [1, 110, 220] {
            let (whole, rest, busy) = (whole(n), changes(n, 0), changes(n, 41));
            println!("{n} containers: {whole} bytes, {rest} at rest, {busy} where all figures changed");
            assert!(rest == changes(0, 0) && rest < 200 && busy < whole / 5 + 200);
        }
    }

    #[test]
    fn a_hostile_change_makes_nothing_of_what_is_not_there() {
        let use_of =
            |id: &str| Use { id: id.into(), cpu_percent: Some(9), memory_percent: None, signals: None };
        let twice = beat(vec![row("a", 1), row("a", 2)]);
        let changes = HeartbeatChanges {
            since: 1,
            heartbeat: twice,
            uses: vec![use_of("b"), use_of("")],
            gone: vec!["c".into(), "c".into()],
        };
        assert_eq!(changes.applied_to(vec![]).containers, [row("a", 2)]);
    }
}
