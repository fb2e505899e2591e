//! Which changes of a policy's workloads deserve an event? Each is reported once, when it happens.

use fleetprof_crds::policy::LinkedApp;
use fleetprof_crds::{ProfilingPolicyStatus, Reason};

use crate::link::{PodLink, is_quiet};
use crate::pod::{Owner, PodFacts, Workload};
use crate::text::advised;

/// An app came to a reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// Namespace of the app.
    pub namespace: String,
    /// The app.
    pub workload: Workload,
    /// The object that stands for the app in the cluster: the controller of its pods, or its one pod.
    pub owner: Owner,
    /// Some of its pods cannot be profiled.
    pub warning: bool,
    /// The reason of the pod that is worst off.
    pub reason: Reason,
    /// Human-readable message.
    pub note: String,
}

/// The news between two statuses, in the order of the linked apps.
#[must_use]
pub fn between(
    before: Option<&ProfilingPolicyStatus>,
    after: &ProfilingPolicyStatus,
    links: &[PodLink],
) -> Vec<News> {
    let before = before.map(|s| s.linked_apps.as_slice()).unwrap_or_default();
    let told = |app: &LinkedApp| {
        before.iter().any(|b| {
            b.namespace == app.namespace && b.kind == app.kind && b.name == app.name && b.reason == app.reason
        })
    };
    after
        .linked_apps
        .iter()
        .filter(|app| !is_quiet(app.reason) && !told(app))
        .filter_map(|app| news(app, links))
        .collect()
}

fn news(app: &LinkedApp, links: &[PodLink]) -> Option<News> {
    let here = |pod: &PodFacts| app.namespace.is_empty() || *pod.namespace == *app.namespace;
    let pod = &links
        .iter()
        .find(|l| l.pod.workload.kind == app.kind && l.pod.workload.name == app.name && here(&l.pod))?
        .pod;
    Some(News {
        namespace: pod.namespace.to_string(),
        workload: (*pod.workload).clone(),
        owner: owner(pod),
        warning: app.linked < app.pods,
        reason: app.reason,
        note: advised(
            format!(
                "{}/{}: {} of {} pods can be profiled{}{}",
                app.kind,
                app.name,
                app.linked,
                app.pods,
                if app.message.is_empty() { "" } else { "; " },
                app.message
            ),
            app.reason,
        ),
    })
}

fn owner(pod: &PodFacts) -> Owner {
    let itself = || Owner {
        api_version: "v1".into(),
        kind: "Pod".into(),
        name: pod.name.clone(),
        uid: pod.uid.clone(),
    };
    pod.owner.as_deref().cloned().unwrap_or_else(itself)
}
