//! How many bytes are kept of a pod? Whoever may create pods decides how many labels and containers they have.

use std::mem::size_of;

use super::{AgentContainer, AgentContainerState, ContainerFacts, PodFacts};

impl PodFacts {
    /// The bytes that are kept of it, as if it shared nothing with other pods.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let own = [&self.name, &self.uid].map(|text| text.len());
        let shared = [&self.namespace, &self.node].map(|text| text.len());
        let optional = [self.default_container.as_deref(), self.uninjected.as_deref()];
        let owner = self.owner.iter().flat_map(|o| [&o.api_version, &o.kind, &o.name, &o.uid]);
        let workload = [&self.workload.kind, &self.workload.name].into_iter();
        let labels = self.labels.iter().flat_map(|(key, value)| [key, value]);
        let texts = owner.chain(workload).chain(labels).map(String::len);
        let lists = self.containers.iter().map(container).chain(self.attached.iter().map(attached));
        let states = self.sidecar.iter().map(state);
        let optional = optional.into_iter().flatten().map(str::len);
        own.into_iter().chain(shared).chain(optional).chain(texts).chain(lists).chain(states).sum()
    }
}

fn container(facts: &ContainerFacts) -> usize {
    [size_of::<ContainerFacts>(), facts.name.len(), facts.id.len()].into_iter().sum()
}

fn attached(agent: &AgentContainer) -> usize {
    [size_of::<AgentContainer>(), agent.name.len(), agent.target.len(), state(&agent.state)].into_iter().sum()
}

fn state(state: &AgentContainerState) -> usize {
    match state {
        AgentContainerState::Unknown | AgentContainerState::Running => 0,
        AgentContainerState::Waiting(reason, message) => reason.len().saturating_add(message.len()),
        AgentContainerState::Ended(reason) => reason.len(),
    }
}
