//! Which linked workloads does a set of labels speak of? Labels of an alert, or of a sample of a query.

use std::collections::{BTreeMap, BTreeSet};

use crate::link::PodLink;
use crate::pod::Workload;

/// Labels of an alert or a sample.
pub type Labels = BTreeMap<String, String>;

/// Labels that name a pod.
const POD: [&str; 3] = ["pod", "pod_name", "kubernetes_pod_name"];
/// Labels that name a workload, and its kind.
const KINDS: [(&str, &str); 5] = [
    ("deployment", "Deployment"),
    ("statefulset", "StatefulSet"),
    ("daemonset", "DaemonSet"),
    ("job", "Job"),
    ("job_name", "Job"),
];
/// Labels that name an app in some other way: a workload of that name, or pods that carry it as a label.
const APPS: [&str; 5] = ["workload", "service", "app", "app_kubernetes_io_name", "job"];
/// Labels by which pods say which app they are.
const APP_LABELS: [&str; 3] = ["app.kubernetes.io/name", "app", "k8s-app"];

/// The labels that [`places`] looks at, those that bind first before the others.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    let apps = APPS.into_iter().filter(|app| KINDS.iter().all(|(label, _)| label != app));
    ["namespace"].into_iter().chain(POD).chain(KINDS.map(|(label, _)| label)).chain(apps)
}

/// A workload, and the pods of it that the labels name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Its namespace.
    pub namespace: String,
    /// The workload.
    pub workload: Workload,
    /// Names of pods; empty for the workload as a whole.
    pub pods: Vec<String>,
}

/// The linked workloads that labels speak of, of which `label` gives the value: the pod that they name, else
/// the workload, else the app. None without the label `namespace`, for which `namespace` is the default where
/// there is one.
#[must_use]
pub fn places<'a>(
    label: impl Fn(&str) -> Option<&'a str>,
    namespace: Option<&str>,
    links: &[PodLink],
) -> BTreeSet<Place> {
    let Some(namespace) = label("namespace").or(namespace) else { return BTreeSet::new() };
    let here: Vec<&PodLink> = links.iter().filter(|l| l.linked && *l.pod.namespace == *namespace).collect();
    let pods = of_pods(&label, &here);
    if !pods.is_empty() {
        return pods;
    }
    let workloads = of(&here, |l| {
        KINDS
            .iter()
            .any(|(name, kind)| l.pod.workload.kind == *kind && label(name) == Some(&l.pod.workload.name))
    });
    if !workloads.is_empty() {
        return workloads;
    }
    let apps: Vec<&str> = APPS.iter().filter_map(|name| label(name)).collect();
    let carries =
        |l: &PodLink, app: &str| APP_LABELS.iter().any(|k| l.pod.labels.get(*k).is_some_and(|v| v == app));
    of(&here, |l| apps.iter().any(|app| l.pod.workload.name == *app || carries(l, app)))
}

fn of_pods<'a>(label: impl Fn(&str) -> Option<&'a str>, here: &[&PodLink]) -> BTreeSet<Place> {
    let named = |l: &&&PodLink| POD.iter().any(|name| label(name) == Some(&l.pod.name));
    let place = |l: &&PodLink| Place { pods: vec![l.pod.name.clone()], ..place(l) };
    here.iter().filter(named).map(place).collect()
}

fn of(here: &[&PodLink], is: impl Fn(&PodLink) -> bool) -> BTreeSet<Place> {
    here.iter().filter(|l| is(l)).map(|l| place(l)).collect()
}

fn place(link: &PodLink) -> Place {
    Place { namespace: link.pod.namespace.to_string(), workload: (*link.pod.workload).clone(), pods: vec![] }
}

/// What a person needs of labels that strangers wrote: `a=b, c=d`, without characters that a terminal would
/// obey.
#[must_use]
pub fn words(labels: &Labels) -> String {
    let printable = |text: &str| {
        text.chars().filter(|c| !c.is_control() && !is_invisible(*c)).take(100).collect::<String>()
    };
    let pairs = labels.iter().filter(|(name, _)| *name != "__name__");
    pairs
        .take(16)
        .map(|(name, value)| format!("{}={}", printable(name), printable(value)))
        .collect::<Vec<_>>()
        .join(", ")
}

/// Characters that change how others are shown.
const fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}
