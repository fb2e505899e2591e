//! Why has a pod no agent? The webhook's own rules, asked again about pods that run without one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use fleetprof_core::agent::Skip;
use fleetprof_core::inject::{AdmissionFacts, ClusterRules, Verdict, judge};
use fleetprof_core::pod::PodFacts;
use fleetprof_core::view::Policies;
use serde_json::Value;

use crate::watched::{Namespaces, ResourceCaches};

/// Explains pods without an agent.
#[derive(Clone)]
pub struct Refusals {
    /// The namespaces of the cluster.
    pub namespaces: Namespaces,
    /// What holds in the whole cluster.
    pub rules: Arc<ClusterRules>,
    resources: ResourceCaches,
    parsed: Arc<Mutex<Parsed>>,
}

impl Refusals {
    /// By the rules of the cluster.
    #[must_use]
    pub fn new(namespaces: Namespaces, rules: Arc<ClusterRules>, resources: ResourceCaches) -> Self {
        Self { namespaces, rules, resources, parsed: Arc::default() }
    }

    /// Why the webhook leaves `pod` out under these policies; `None` where it would inject
    /// it.
    #[must_use]
    pub fn refusal(&self, pod: &PodFacts, policies: &Policies<'_>) -> Option<Skip> {
        let view = self.parsed(pod.uninjected.as_ref()?)?;
        let labels = self.namespaces.known(&pod.namespace);
        let facts = AdmissionFacts {
            namespace: &pod.namespace,
            namespace_labels: labels.as_ref(),
            resources: &self.resources.of(&pod.namespace),
            cluster: &self.rules,
        };
        match judge(&view, &facts, policies.near(&pod.namespace)) {
            Verdict::Skip(skip) => Some(skip),
            Verdict::Inject { .. } | Verdict::Present | Verdict::NotSelected => None,
        }
    }

    fn parsed(&self, text: &Arc<str>) -> Option<Arc<Value>> {
        self.parsed.lock().unwrap_or_else(PoisonError::into_inner).get(text)
    }
}

/// Most texts that are kept parsed in each half of the cache. Parsed, one takes about 8 KiB, which replicas share;
/// of all of a fleet that would be 1 KiB for each pod. To parse one takes about 10 µs.
const MOST: usize = 128;

/// What the rules look at, parsed: replicas share their text, and are looked at together.
#[derive(Default)]
struct Parsed {
    recent: HashMap<Arc<str>, Arc<Value>>,
    /// What was recent before, and is dropped unless it is asked for.
    earlier: HashMap<Arc<str>, Arc<Value>>,
}

impl Parsed {
    fn get(&mut self, text: &Arc<str>) -> Option<Arc<Value>> {
        if let Some(value) = self.recent.get(text) {
            return Some(value.clone());
        }
        let value = match self.earlier.remove(text) {
            Some(value) => value,
            None => Arc::new(serde_json::from_str(text).ok()?),
        };
        if self.recent.len() >= MOST {
            self.earlier = std::mem::take(&mut self.recent);
        }
        self.recent.insert(text.clone(), value.clone());
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_is_in_use_is_parsed_once_and_few_others_are_kept() {
        let mut parsed = Parsed::default();
        let used: Arc<str> = "[1]".into();
        let gone: Arc<str> = "[0]".into();
        let first = parsed.get(&used).unwrap();
        parsed.get(&gone).unwrap();
        for n in 0..10 * MOST {
            parsed.get(&format!("[{n}, 2]").into()).unwrap();
            assert!(Arc::ptr_eq(&first, &parsed.get(&used).unwrap()));
            assert!(parsed.recent.len() <= MOST && parsed.earlier.len() <= MOST);
        }
        assert_eq!(Arc::strong_count(&gone), 1, "nothing is kept of pods that are gone");
        assert_eq!(parsed.get(&"[".into()), None);
    }
}
