//! Which linked workloads do labels refer to? Those of an alert, or of a sample of a query, in the naming
//! schemes of common exporters.
//!
//! ```text
//! Prometheus Operator, cAdvisor        namespace, pod, container
//! kube-state-metrics                   the same, and deployment, statefulset, job_name …
//!   without honor_labels               exported_namespace, exported_pod; the plain ones are the exporter's
//! mixins (kube-prometheus)             namespace, workload, workload_type
//! OpenTelemetry                        k8s_namespace_name or k8s.namespace.name, k8s_pod_name …
//! older cAdvisor, Stackdriver          namespace_name, pod_name
//! relabelled by hand, Prometheus book  kubernetes_namespace, kubernetes_pod_name
//! ```

use std::collections::{BTreeMap, BTreeSet};

use crate::link::PodLink;
use crate::pod::Workload;
use crate::text::is_unprintable;

/// Labels of an alert or a sample.
pub type Labels = BTreeMap<String, String>;

/// Labels that Prometheus moved out of the way: what the exporter said of somebody else. Where one is there,
/// the labels of [`TARGET`] speak of the exporter.
const EXPORTED: [&str; 3] = ["exported_namespace", "exported_pod", "exported_container"];
/// Labels of whom Prometheus asked.
const TARGET: [&str; 4] = ["pod", "container", "service", "job"];
/// Labels that name the namespace; the first counts.
const NAMESPACE: [&str; 9] = [
    "exported_namespace",
    "namespace",
    "kubernetes_namespace",
    "k8s_namespace_name",
    "k8s.namespace.name",
    "namespace_name",
    "pod_namespace",
    "kube_namespace",
    "destination_workload_namespace",
];
/// Labels that name a pod.
const POD: [&str; 7] = [
    "exported_pod",
    "pod",
    "pod_name",
    "kubernetes_pod_name",
    "k8s_pod_name",
    "k8s.pod.name",
    "kube_pod_name",
];
/// Labels that name a workload, or the Job or ReplicaSet of its pods, and its kind.
const KINDS: [(&str, &str); 25] = [
    ("deployment", "Deployment"),
    ("statefulset", "StatefulSet"),
    ("daemonset", "DaemonSet"),
    ("cronjob", "CronJob"),
    ("job_name", "Job"),
    ("job", "Job"),
    ("replicaset", "ReplicaSet"),
    ("rollout", "Rollout"),
    ("k8s_deployment_name", "Deployment"),
    ("k8s_statefulset_name", "StatefulSet"),
    ("k8s_daemonset_name", "DaemonSet"),
    ("k8s_cronjob_name", "CronJob"),
    ("k8s_job_name", "Job"),
    ("k8s_replicaset_name", "ReplicaSet"),
    ("k8s.deployment.name", "Deployment"),
    ("k8s.statefulset.name", "StatefulSet"),
    ("k8s.daemonset.name", "DaemonSet"),
    ("k8s.cronjob.name", "CronJob"),
    ("k8s.job.name", "Job"),
    ("k8s.replicaset.name", "ReplicaSet"),
    ("kube_deployment", "Deployment"),
    ("kube_stateful_set", "StatefulSet"),
    ("kube_daemon_set", "DaemonSet"),
    ("kube_cronjob", "CronJob"),
    ("kube_job", "Job"),
];
/// Labels that name a workload, and the label with its kind, in any case.
const TYPED: [(&str, &str); 4] = [
    ("workload", "workload_type"),
    ("owner_name", "owner_kind"),
    ("created_by_name", "created_by_kind"),
    ("scaletargetref_name", "scaletargetref_kind"),
];
/// Labels that name an app in some other way: a workload of that name, or pods that carry it as a label.
const APPS: [&str; 9] = [
    "workload",
    "destination_workload",
    "exported_service",
    "service",
    "app",
    "app_kubernetes_io_name",
    "service_name",
    "service.name",
    "job",
];
/// Labels by which pods say which app they are.
const APP_LABELS: [&str; 3] = ["app.kubernetes.io/name", "app", "k8s-app"];

/// The labels that [`places`] looks at, those that bind first before the others.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    let typed = TYPED.into_iter().flat_map(|(name, kind)| [name, kind]);
    let all = EXPORTED
        .into_iter()
        .chain(NAMESPACE)
        .chain(POD)
        .chain(KINDS.into_iter().map(|(label, _)| label))
        .chain(typed)
        .chain(APPS);
    let mut seen = BTreeSet::new();
    all.filter(move |name| seen.insert(*name))
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

/// The labels as whoever wrote them meant them.
struct Meant<F>(F);

impl<'a, F: Fn(&str) -> Option<&'a str>> Meant<F> {
    /// The value of a label that speaks of the workload; an empty one is none.
    fn get(&self, name: &str) -> Option<&'a str> {
        let is_exporters = TARGET.contains(&name) && EXPORTED.iter().any(|name| self.raw(name).is_some());
        self.raw(name).filter(|_| !is_exporters)
    }

    fn raw(&self, name: &str) -> Option<&'a str> {
        (self.0)(name).filter(|value| !value.is_empty())
    }

    fn first(&self, names: &[&str]) -> Option<&'a str> {
        names.iter().find_map(|name| self.get(name))
    }
}

/// The namespace that labels speak of, of which `label` gives the value.
#[must_use]
pub fn namespace<'a>(label: impl Fn(&str) -> Option<&'a str>) -> Option<&'a str> {
    Meant(label).first(&NAMESPACE)
}

/// The linked workloads that labels speak of, of which `label` gives the value: the pod that they name, else
/// the workload, else the app. None without a label for the namespace, for which `namespace` is the default
/// where there is one.
#[must_use]
pub fn places<'a>(
    label: impl Fn(&str) -> Option<&'a str>,
    namespace: Option<&str>,
    links: &[PodLink],
) -> BTreeSet<Place> {
    let meant = Meant(label);
    let Some(namespace) = meant.first(&NAMESPACE).or(namespace) else { return BTreeSet::new() };
    let here: Vec<&PodLink> = links.iter().filter(|l| l.linked && *l.pod.namespace == *namespace).collect();
    let pods = of_pods(&meant, &here);
    if !pods.is_empty() {
        return pods;
    }
    let typed: Vec<(&str, &str)> =
        TYPED.iter().filter_map(|(name, kind)| Some((meant.get(name)?, meant.get(kind)?))).collect();
    let kinds: Vec<(&str, &str)> =
        KINDS.iter().filter_map(|(name, kind)| Some((meant.get(name)?, *kind))).collect();
    let workloads = of(&here, |l| kinds.iter().chain(&typed).any(|(name, kind)| l.pod.is_of(kind, name)));
    if !workloads.is_empty() {
        return workloads;
    }
    // A workload whose kind is known does not stand for others of that name.
    let told = |name: &str| TYPED.iter().any(|(label, kind)| *label == name && meant.get(kind).is_some());
    let apps: Vec<&str> = APPS.iter().filter(|name| !told(name)).filter_map(|name| meant.get(name)).collect();
    let carries =
        |l: &PodLink, app: &str| APP_LABELS.iter().any(|k| l.pod.labels.get(*k).is_some_and(|v| v == app));
    of(&here, |l| apps.iter().any(|app| l.pod.workload.name == *app || carries(l, app)))
}

fn of_pods<'a, F: Fn(&str) -> Option<&'a str>>(meant: &Meant<F>, here: &[&PodLink]) -> BTreeSet<Place> {
    let names: Vec<&str> = POD.iter().filter_map(|name| meant.get(name)).collect();
    let place = |l: &&PodLink| Place { pods: vec![l.pod.name.clone()], ..place(l) };
    here.iter().filter(|l| names.contains(&l.pod.name.as_str())).map(place).collect()
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
    let printable = |text: &str| text.chars().filter(|c| !is_unprintable(*c)).take(100).collect::<String>();
    let pairs = labels.iter().filter(|(name, _)| *name != "__name__");
    pairs
        .take(16)
        .map(|(name, value)| format!("{}={}", printable(name), printable(value)))
        .collect::<Vec<_>>()
        .join(", ")
}
