//! What do pods have in common? Replicas their labels and their controller, many more their namespace or
//! their node.

use std::collections::{BTreeMap, HashSet};
use std::hash::Hash;
use std::sync::Arc;

use super::{Owner, PodFacts, Workload};

/// What many pods have in common, such as their namespace, their node, and with other replicas their labels,
/// is kept once.
#[derive(Debug, Default)]
pub struct SharedFacts {
    labels: Pool<BTreeMap<String, String>>,
    owners: Pool<Owner>,
    workloads: Pool<Workload>,
    texts: Pool<str>,
}

impl SharedFacts {
    /// Lets the pod share with those that were seen before.
    pub fn share(&mut self, pod: &mut PodFacts) {
        self.labels.share(&mut pod.labels);
        self.workloads.share(&mut pod.workload);
        let names = pod.containers.iter_mut().map(|c| &mut c.name);
        let texts = [&mut pod.namespace, &mut pod.node].into_iter().chain(&mut pod.uninjected).chain(names);
        texts.for_each(|text| self.texts.share(text));
        if let Some(owner) = &mut pod.owner {
            self.owners.share(owner);
        }
    }
}

/// Values that are kept once, for as long as somebody has them.
#[derive(Debug)]
struct Pool<T: ?Sized> {
    known: HashSet<Arc<T>>,
    clean_at: usize,
}

impl<T: ?Sized> Default for Pool<T> {
    fn default() -> Self {
        Self { known: HashSet::new(), clean_at: 0 }
    }
}

impl<T: Eq + Hash + ?Sized> Pool<T> {
    fn share(&mut self, value: &mut Arc<T>) {
        if let Some(known) = self.known.get(value) {
            *value = known.clone();
            return;
        }
        if self.known.len() >= self.clean_at {
            self.known.retain(|value| Arc::strong_count(value) > 1);
            self.clean_at = (self.known.len() * 2).max(1024);
        }
        self.known.insert(value.clone());
    }
}
