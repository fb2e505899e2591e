//! What does the agent of a node say of the pods there? Its heartbeat is taken apart by pod. Which container is of
//! which pod is the API server's word, never the agent's.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use fleetprof_core::agent::{PodAgent, ServedNamespaces};
use fleetprof_core::pod::PodFacts;
use fleetprof_crds::wire::{AgentMode, ContainerReport, Heartbeat, MAX_NODE_ROWS};
use jiff::Timestamp;

use super::{PodId, clean};

/// Most containers of no pod that are held of a node, whose pods' statuses are on their way. With more, its
/// agent tells everything each time.
const MAX_UNKNOWN: usize = 64;

/// The heartbeat of a node's agent, cleaned and taken apart.
#[derive(Debug)]
pub(super) struct Parts {
    /// What is said of each pod: its containers, without captures.
    pub pods: Vec<(PodAgent, Heartbeat)>,
    /// The rest: captures, whosever they are, and no container.
    pub rest: Heartbeat,
    /// Containers of which the API server has not said yet whose they are.
    pub left_out: Vec<ContainerReport>,
    /// Rows that were dropped: without a possible id, or in a state of a newer version.
    pub dropped: usize,
}

/// Takes a heartbeat apart. Of `pods`, those of the node, the agent serves those in these namespaces that do
/// not end; containers of others do not count.
pub(super) fn parts(
    mut beat: Heartbeat,
    pods: &[Arc<PodFacts>],
    namespaces: &ServedNamespaces,
    now: Timestamp,
) -> Parts {
    beat.mode = AgentMode::Node;
    beat.captures.truncate(MAX_NODE_ROWS);
    let mut containers = std::mem::take(&mut beat.containers);
    beat.number = beat.number.filter(|_| containers.len() <= MAX_NODE_ROWS);
    containers.truncate(MAX_NODE_ROWS);
    let (mut rest, mut dropped) = clean::node_heartbeat(beat, now);
    let (rows, unknown) = by_pod(containers, pods, namespaces);
    let mut parts = Vec::new();
    for (pod, rows) in rows {
        let beat = Heartbeat { containers: rows, captures: Vec::new(), ..rest.clone() };
        let (beat, more) = clean::heartbeat(beat, now);
        rest.number = rest.number.filter(|_| beat.number.is_some());
        dropped += more;
        parts.push((PodAgent::from(id(pod)), beat));
    }
    let left_out = left_out(unknown, &mut rest);
    Parts { pods: parts, rest, left_out, dropped }
}

/// What is held of containers that are of no pod, while there are few.
fn left_out(rows: Vec<ContainerReport>, rest: &mut Heartbeat) -> Vec<ContainerReport> {
    rest.number =
        rest.number.filter(|_| rows.len() <= MAX_UNKNOWN && rows.iter().all(|row| clean::is_id(&row.id)));
    match rest.number {
        Some(_) => rows.into_iter().map(clean::container).collect(),
        None => Vec::new(),
    }
}

/// The rows of each pod that is served, and those of no pod.
type ByPod<'p> = (Vec<(&'p PodFacts, Vec<ContainerReport>)>, Vec<ContainerReport>);

fn by_pod<'p>(
    rows: Vec<ContainerReport>,
    pods: &'p [Arc<PodFacts>],
    namespaces: &ServedNamespaces,
) -> ByPod<'p> {
    let owners: HashMap<&str, &PodFacts> = pods
        .iter()
        .flat_map(|pod| pod.containers.iter().map(|container| (container.id.as_str(), &**pod)))
        .filter(|(id, _)| !id.is_empty())
        .collect();
    let mut by_uid: BTreeMap<&str, (&PodFacts, Vec<ContainerReport>)> = BTreeMap::new();
    let mut unknown = Vec::new();
    for row in rows {
        match owners.get(row.id.as_str()) {
            Some(pod) if !pod.ending && namespaces.has(&pod.namespace) => {
                by_uid.entry(&pod.uid).or_insert_with(|| (pod, Vec::new())).1.push(row);
            }
            Some(_) => {}
            None => unknown.push(row),
        }
    }
    (by_uid.into_values().collect(), unknown)
}

fn id(pod: &PodFacts) -> PodId {
    PodId { namespace: pod.namespace.to_string(), name: pod.name.clone(), uid: pod.uid.clone() }
}

#[cfg(test)]
mod tests {
    use fleetprof_crds::wire::{CaptureReport, CaptureState};
    use serde_json::json;

    use super::*;

    fn pod(namespace: &str, name: &str, containers: &[(&str, &str)]) -> Arc<PodFacts> {
        let statuses: Vec<_> = containers
            .iter()
            .map(|(name, id)| {
                json!({"name": name, "containerID": format!("containerd://{id}"), "image": "i",
                "imageID": "i", "ready": true, "restartCount": 0, "state": {"running": {}}})
            })
            .collect();
        let specs: Vec<_> = containers.iter().map(|(name, _)| json!({"name": name})).collect();
        let pod = json!({
            "metadata": {"namespace": namespace, "name": name, "uid": format!("uid-{name}")},
            "spec": {"containers": specs, "nodeName": "n1"},
            "status": {"phase": "Running", "containerStatuses": statuses},
        });
        Arc::new(PodFacts::of(&serde_json::from_value(pod).unwrap()).unwrap())
    }

    fn row(id: &str) -> ContainerReport {
        ContainerReport {
            id: id.into(),
            runtime: "Native".into(),
            cpu_percent: None,
            memory_percent: None,
            cpu_of_node: false,
            signals: None,
            memory_of_node: false,
            problem: None,
            offers: Vec::new(),
        }
    }

    fn beat(ids: &[&str], captures: &[&str]) -> Heartbeat {
        Heartbeat {
            version: "1".into(),
            protocol: 2,
            mode: AgentMode::Sidecar,
            instance: "i".into(),
            containers: ids.iter().map(|id| row(id)).collect(),
            captures: captures.iter().map(|c| CaptureReport::new(*c, CaptureState::Running)).collect(),
            sent_at_ms: None,
            leaving: false,
            number: None,
        }
    }

    fn all_namespaces() -> ServedNamespaces {
        ServedNamespaces::new(vec![], vec![])
    }

    #[test]
    fn each_pod_gets_what_is_said_of_its_own_containers_by_the_word_of_the_api_server() {
        let pods =
            [pod("shop", "a", &[("app", "id-1"), ("proxy", "id-2")]), pod("bank", "b", &[("app", "id-3")])];
        let said = beat(&["id-3", "id-1", "stranger", "id-2", "", "../x"], &["c-1", "c 2"]);
        let Parts { pods, rest, dropped, .. } = parts(said, &pods, &all_namespaces(), Timestamp::UNIX_EPOCH);
        let of = |at: usize| {
            let (agent, beat) = &pods[at];
            let ids: Vec<&str> = beat.containers.iter().map(|row| row.id.as_str()).collect();
            (agent.pod.namespace.as_str(), agent.pod.name.as_str(), ids)
        };
        assert_eq!((of(0), of(1)), (("shop", "a", vec!["id-1", "id-2"]), ("bank", "b", vec!["id-3"])));
        assert_eq!(pods.len(), 2);
        assert!(pods.iter().all(|(_, beat)| beat.mode == AgentMode::Node && beat.captures.is_empty()));
        assert!(rest.containers.is_empty());
        assert_eq!((rest.captures.len(), dropped), (1, 1), "a capture of an impossible name is dropped");
    }

    #[test]
    fn as_many_rows_are_taken_as_the_protocol_says() {
        let ids: Vec<String> = (0..2 * MAX_NODE_ROWS).map(|n| format!("id-{n}")).collect();
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        let pods: Vec<_> = ids.iter().map(|id| pod("shop", &format!("p{id}"), &[("app", id)])).collect();
        let Parts { pods, rest, .. } =
            parts(beat(&ids, &ids), &pods, &all_namespaces(), Timestamp::UNIX_EPOCH);
        assert_eq!((pods.len(), rest.captures.len()), (MAX_NODE_ROWS, MAX_NODE_ROWS));
    }
}
