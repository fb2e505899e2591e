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

/// What the rules look at, parsed once for all replicas: they share their text.
#[derive(Default)]
struct Parsed {
    known: HashMap<Arc<str>, Arc<Value>>,
    clean_at: usize,
}

impl Parsed {
    fn get(&mut self, text: &Arc<str>) -> Option<Arc<Value>> {
        if let Some(value) = self.known.get(text) {
            return Some(value.clone());
        }
        if self.known.len() >= self.clean_at {
            // Texts that no pod has any more.
            self.known.retain(|text, _| Arc::strong_count(text) > 1);
            self.clean_at = (self.known.len() * 2).max(256);
        }
        let value = Arc::new(serde_json::from_str(text).ok()?);
        self.known.insert(text.clone(), Arc::clone(&value));
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_parsed_once_and_forgotten_with_its_last_pod() {
        let mut parsed = Parsed::default();
        let kept: Arc<str> = "[1]".into();
        let first = parsed.get(&kept).unwrap();
        assert!(Arc::ptr_eq(&first, &parsed.get(&kept).unwrap()));
        for n in 0..300 {
            parsed.get(&format!("[{n}, 2]").into()).unwrap();
        }
        assert!(parsed.known.len() <= 256, "{}", parsed.known.len());
        assert!(Arc::ptr_eq(&first, &parsed.get(&kept).unwrap()));
        assert_eq!(parsed.get(&"[".into()), None);
    }
}
