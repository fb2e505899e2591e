//! Which attached agents stay in their pods although they have no work at the moment?

use std::collections::HashMap;

use crate::agent::{AgentFacts, Reach};
use crate::link::PodLink;
use crate::view::PolicyView;

/// UIDs of the pods with attached agents that the policy profiles by its schedule or by triggers, also when the
/// next time is a week away: an agent that leaves can never be removed from its pod, only added to.
pub(super) fn keep(
    policy: &PolicyView,
    links: &[PodLink],
    agents: &HashMap<String, AgentFacts>,
) -> Vec<String> {
    let spec = &policy.spec;
    if spec.suspend || (spec.sampling.percent == 0 && spec.triggers.is_empty()) {
        return Vec::new();
    }
    let attached =
        |link: &&PodLink| agents.get(&link.pod.uid).is_some_and(|agents| agents.reach == Reach::Attached);
    links.iter().filter(|link| link.linked).filter(attached).map(|link| link.pod.uid.clone()).collect()
}
