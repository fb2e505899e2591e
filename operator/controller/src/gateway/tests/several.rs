//! Is the port enough for several gateways? Two of them, each for the agents of its own nodes, are one
//! [`Agents`] to the controllers; they share nothing but what goes through it.

use std::collections::HashSet;
use std::sync::Arc;

use fleetprof_core::capture::CaptureScope;
use fleetprof_core::hash::hash;
use fleetprof_core::pod::PodFacts;
use fleetprof_crds::wire::{CaptureState, Order, Watch};
use jiff::Timestamp;
use serde_json::json;
use tokio::sync::broadcast;

use super::rig::{START, beat, order, pod, report, scope};
use crate::agents::{AgentView, Agents, CaptureView, Change, Changes};
use crate::gateway::Fleet;

#[derive(Debug)]
struct Several {
    gateways: Vec<Fleet>,
    changes: broadcast::Sender<Change>,
}

impl Several {
    fn of(gateways: &[Fleet]) -> Self {
        let (changes, _) = broadcast::channel(64);
        for gateway in gateways {
            let (mut from, to) = (gateway.subscribe(), changes.clone());
            tokio::spawn(async move {
                while let Some(change) = from.next().await {
                    let _ = to.send(change);
                }
            });
        }
        Self { gateways: gateways.to_vec(), changes }
    }

    /// The gateway of a node: the one with the highest hash, so that a gateway more moves only its share.
    fn at(&self, node: &str) -> &Fleet {
        let weight = |number: &usize| hash(&[node, &number.to_string()]);
        let number = (0..self.gateways.len()).max_by_key(weight).unwrap();
        &self.gateways[number]
    }
}

impl Agents for Several {
    fn order(&self, scope: CaptureScope, order: Order) {
        self.at(&scope.node).open(scope, order);
    }

    fn close(&self, capture: &str) {
        self.gateways.iter().for_each(|gateway| gateway.close(capture));
    }

    fn known(&self, capture: &str) -> Option<CaptureView> {
        self.gateways.iter().find_map(|gateway| gateway.known(capture))
    }

    fn open(&self) -> Vec<Arc<CaptureScope>> {
        self.gateways.iter().flat_map(Agents::open).collect()
    }

    fn serving(&self, pod_uid: &str) -> Vec<Arc<AgentView>> {
        self.gateways.iter().flat_map(|gateway| gateway.serving(pod_uid)).collect()
    }

    fn answering(&self, nodes: &mut dyn Iterator<Item = &str>) -> HashSet<String> {
        nodes.flat_map(|node| self.at(node).answering(&mut std::iter::once(node))).collect()
    }

    fn watch(&self, lines: Vec<(String, Watch)>, until: Timestamp) {
        self.gateways.iter().for_each(|gateway| gateway.watch(lines.clone(), until));
    }

    fn keep(&self, pods: Vec<String>, until: Timestamp) {
        self.gateways.iter().for_each(|gateway| gateway.keep(pods.clone(), until));
    }

    fn changes(&self) -> Changes {
        self.changes.subscribe().into()
    }

    fn settled(&self, pods: &[Arc<PodFacts>], now: Timestamp) -> bool {
        pods.iter().all(|pod| self.at(&pod.node).settled_in(now))
    }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(START + seconds).unwrap()
}

/// Names of nodes, one for each of the two gateways.
fn nodes(several: &Several) -> [String; 2] {
    let of = |gateway: &Fleet| {
        let mut names = (0..).map(|n| format!("node-{n}"));
        names.find(|name| std::ptr::eq(several.at(name), gateway)).unwrap()
    };
    [of(&several.gateways[0]), of(&several.gateways[1])]
}

fn on(node: &str) -> Arc<PodFacts> {
    let pod = serde_json::from_value(json!({
        "metadata": {"name": "a", "namespace": "shop", "uid": "u"},
        "spec": {"nodeName": node, "containers": [{"name": "app"}]},
    }));
    Arc::new(PodFacts::of(&pod.unwrap()).unwrap())
}

#[tokio::test]
async fn controllers_do_not_notice_that_there_are_two_gateways() {
    let gateways = [Fleet::new(), Fleet::new()];
    gateways.iter().for_each(|gateway| gateway.set_synced(true, at(0)));
    let several = Several::of(&gateways);
    let agents: &dyn Agents = &several;
    let mut changes = agents.changes();
    let nodes = nodes(&several);
    for (node, (capture, name)) in nodes.iter().zip([("c", "a"), ("d", "b")]) {
        agents.order(CaptureScope { node: node.clone(), ..scope(capture, name) }, order(capture));
    }
    for (gateway, (capture, name)) in gateways.iter().zip([("c", "a"), ("d", "b")]) {
        let orders = gateway.orders_now(&pod(name).uid).orders;
        assert_eq!(orders.iter().map(|o| o.capture.as_str()).collect::<Vec<_>>(), [capture], "no other's");
        gateway
            .heartbeat(&pod(name).into(), beat(vec![report(capture, CaptureState::Running)]), at(1))
            .unwrap();
        assert_eq!(agents.serving(&pod(name).uid)[0].agent.pod, pod(name));
        let known = agents.known(capture).unwrap();
        assert_eq!(
            (known.report.unwrap().capture, known.scope.pod_uid.clone()),
            (capture.into(), pod(name).uid)
        );
    }
    let session = Change::Session { namespace: "shop".into(), name: "session".into() };
    let mut told = Vec::new();
    while told.iter().filter(|change| **change == session).count() < 2 {
        told.push(changes.next().await.unwrap());
    }
    assert!(told.contains(&Change::Agent(pod("a"))) && told.contains(&Change::Agent(pod("b"))));

    agents.close("c");
    let open: Vec<String> = agents.open().iter().map(|scope| scope.capture.clone()).collect();
    assert_eq!((open, agents.known("c").is_none()), (vec!["d".into()], true));
    assert_eq!(agents.known("d").unwrap().report.unwrap().state, CaptureState::Running);
}

#[tokio::test]
async fn a_new_gateway_is_waited_for_where_its_own_nodes_are_concerned() {
    let gateways = [Fleet::new(), Fleet::new()];
    let several = Several::of(&gateways);
    let [old, new] = nodes(&several);
    gateways[0].set_synced(true, at(0));
    gateways[1].set_synced(true, at(100));
    let settled = |pods: &[Arc<PodFacts>]| several.settled(pods, at(120));
    assert!(settled(&[on(&old)]) && settled(&[]));
    assert!(!settled(&[on(&new)]) && !settled(&[on(&old), on(&new)]));
}
