//! How often is a change of a pod's agents told? Each one has the policies of its namespace looked at, and
//! what an agent says of itself is its pod's own word.

use std::collections::HashMap;

use jiff::Timestamp;

use super::super::PodId;
use super::super::rate::Buckets;

/// Changes of one pod that are told at once, as when its agents start, and then in a second.
const TOLD: (f64, f64) = (8.0, 1.0);

/// What is told of which pod.
#[derive(Debug)]
pub(super) struct News {
    told: Buckets<String>,
    /// Pods of which there is something to tell, by uid.
    late: HashMap<String, PodId>,
}

impl Default for News {
    fn default() -> Self {
        Self { told: Buckets::new(TOLD.0, TOLD.1), late: HashMap::new() }
    }
}

impl News {
    /// Whether to tell of a change now; else it comes with [`News::late`].
    pub(super) fn tell(&mut self, pod: &PodId, now: Timestamp) -> bool {
        let tells = self.told.take(&pod.uid, now).is_ok();
        if tells {
            self.late.remove(&pod.uid);
        } else {
            self.late.insert(pod.uid.clone(), pod.clone());
        }
        tells
    }

    /// Pods of which was not told what changed last.
    pub(super) fn late(&mut self) -> Vec<PodId> {
        self.late.drain().map(|(_, pod)| pod).collect()
    }
}
