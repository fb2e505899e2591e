//! What do controllers ask of the gateway in their own process?

use std::collections::HashSet;
use std::sync::Arc;

use fleetprof_core::capture::CaptureScope;
use fleetprof_core::pod::PodFacts;
use fleetprof_crds::wire::{Order, Watch};
use jiff::Timestamp;

use super::Fleet;
use crate::agents::{AgentView, Agents, CaptureView, Changes};

impl Agents for Fleet {
    fn order(&self, scope: CaptureScope, order: Order) {
        self.open(scope, order);
    }

    fn close(&self, capture: &str) {
        self.close(capture);
    }

    fn known(&self, capture: &str) -> Option<CaptureView> {
        self.capture(capture)
    }

    fn open(&self) -> Vec<Arc<CaptureScope>> {
        self.state().scopes()
    }

    fn serving(&self, pod_uid: &str) -> Vec<Arc<AgentView>> {
        self.agents_of(pod_uid)
    }

    fn answering(&self, nodes: &mut dyn Iterator<Item = &str>) -> HashSet<String> {
        let state = self.state();
        nodes.filter(|node| state.nodes.answers(node)).map(str::to_owned).collect()
    }

    fn watch(&self, lines: Vec<(String, Watch)>, until: Timestamp) {
        self.watch(lines, until);
    }

    fn keep(&self, pods: Vec<String>, until: Timestamp) {
        self.keep(pods, until);
    }

    fn changes(&self) -> Changes {
        self.subscribe()
    }

    fn settled(&self, _: &[Arc<PodFacts>], now: Timestamp) -> bool {
        self.settled_in(now)
    }
}
