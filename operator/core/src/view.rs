//! How are policies of both kinds treated alike? One view for all decisions, and one order between policies.
//!
//! A `ProfilingPolicy` covers its namespace, a `ClusterProfilingPolicy` the selected namespaces. If several
//! policies select a pod, one applies: policies in the pod's namespace before cluster policies, then the
//! oldest, then the first by name.

use std::collections::{BTreeMap, HashMap};

use fleetprof_crds::policy::{AgentMode, ExistingPods};
use fleetprof_crds::schedule::{Preset, SuspendBehavior};
use fleetprof_crds::session::{PolicyKind, PolicyRef, Trigger};
use fleetprof_crds::{
    ClusterProfilingPolicy, ProfileSession, ProfileSessionSpec, ProfilingPolicy, ProfilingPolicySpec,
    ProfilingPolicyStatus, Reason, names,
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};

use crate::pod::PodFacts;
use crate::selector;

/// Labels of a namespace.
pub type Labels = BTreeMap<String, String>;

/// A policy of either kind. Borrows, so it is cheap to create and copy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PolicyView<'a> {
    /// Its kind.
    pub kind: PolicyKind,
    /// Its namespace; `None` for a cluster policy.
    pub namespace: Option<&'a str>,
    /// Its name.
    pub name: &'a str,
    /// Its UID.
    pub uid: &'a str,
    /// When it was created.
    pub created: Option<Timestamp>,
    /// Generation of its spec.
    pub generation: Option<i64>,
    /// The part of the spec that both kinds share.
    pub spec: &'a ProfilingPolicySpec,
    /// The namespace selector; `None` for a namespaced policy.
    pub namespace_selector: Option<&'a LabelSelector>,
    /// Its current status.
    pub status: Option<&'a ProfilingPolicyStatus>,
}

impl<'a> From<&'a ProfilingPolicy> for PolicyView<'a> {
    fn from(p: &'a ProfilingPolicy) -> Self {
        Self {
            namespace: p.metadata.namespace.as_deref(),
            ..Self::of(PolicyKind::ProfilingPolicy, &p.metadata, &p.spec, p.status.as_ref())
        }
    }
}

impl<'a> From<&'a ClusterProfilingPolicy> for PolicyView<'a> {
    fn from(p: &'a ClusterProfilingPolicy) -> Self {
        Self {
            namespace_selector: Some(&p.spec.namespace_selector),
            ..Self::of(PolicyKind::ClusterProfilingPolicy, &p.metadata, &p.spec.policy, p.status.as_ref())
        }
    }
}

impl<'a> PolicyView<'a> {
    fn of(
        kind: PolicyKind,
        meta: &'a ObjectMeta,
        spec: &'a ProfilingPolicySpec,
        status: Option<&'a ProfilingPolicyStatus>,
    ) -> Self {
        Self {
            kind,
            namespace: None,
            name: meta.name.as_deref().unwrap_or_default(),
            uid: meta.uid.as_deref().unwrap_or_default(),
            created: meta.creation_timestamp.as_ref().map(|t| t.0),
            generation: meta.generation,
            spec,
            namespace_selector: None,
            status,
        }
    }

    /// Whether it is a cluster policy.
    #[must_use]
    pub fn is_cluster(&self) -> bool {
        self.kind == PolicyKind::ClusterProfilingPolicy
    }

    /// Smaller goes first. Two policies that can select the same pod never have the same key.
    #[must_use]
    pub fn precedence(&self) -> (bool, Option<Timestamp>, &'a str) {
        (self.is_cluster(), self.created, self.name)
    }

    /// The namespace as used in the status: empty for namespaced policies.
    #[must_use]
    pub fn shown<'n>(&self, namespace: &'n str) -> &'n str {
        if self.is_cluster() { namespace } else { "" }
    }

    /// Whether it covers the namespace. `labels` are the namespace's; `None` for namespaces excluded from
    /// cluster policies.
    #[must_use]
    pub fn covers(&self, namespace: &str, labels: Option<&Labels>) -> bool {
        match self.namespace_selector {
            Some(selector) => labels.is_some_and(|l| selector::selects(selector, l)),
            None => self.namespace == Some(namespace),
        }
    }

    /// Why another policy applies to a selected pod; `None` if this policy applies.
    #[must_use]
    pub fn yields(&self, pod: &PodFacts, labels: Option<&Labels>, policies: &Policies<'_>) -> Option<Reason> {
        let near = policies.near(&pod.namespace);
        let server = serving(near, &pod.namespace, labels, |key| pod.labels.get(key).map(String::as_str))?;
        if server.precedence() >= self.precedence() {
            return None;
        }
        Some(if server.kind == self.kind { Reason::Conflict } else { Reason::Overridden })
    }

    /// Whether a session refers to it.
    #[must_use]
    pub fn owns(&self, session: &ProfileSession) -> bool {
        let named =
            session.spec.policy_ref.as_ref().is_some_and(|p| p.kind == self.kind && p.name == self.name);
        named && (self.is_cluster() || session.metadata.namespace.as_deref() == self.namespace)
    }

    /// The first field of its selectors that the API server would reject, or whose value this version does not
    /// know, with the reason.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        let of_pods = selector::fault(&self.spec.selector).map(|fault| format!("spec.selector.{fault}"));
        let of_namespaces =
            || Some(format!("spec.namespaceSelector.{}", selector::fault(self.namespace_selector?)?));
        of_pods.or_else(of_namespaces).or_else(|| self.unknown())
    }

    /// The first field whose value only a newer version knows.
    fn unknown(&self) -> Option<String> {
        let spec = self.spec;
        let fields = [
            ("spec.agent.mode", spec.agent.mode == AgentMode::Unknown),
            ("spec.agent.existingPods", spec.agent.existing_pods == ExistingPods::Unknown),
            ("spec.schedule.preset", spec.schedule.preset == Some(Preset::Unknown)),
            ("spec.suspendBehavior", spec.suspend_behavior == SuspendBehavior::Unknown),
        ];
        let (field, _) = fields.into_iter().find(|(_, unknown)| *unknown)?;
        Some(format!("{field}: this version does not know the value"))
    }

    /// The reference for sessions.
    #[must_use]
    pub fn reference(&self) -> PolicyRef {
        PolicyRef { kind: self.kind, name: self.name.to_owned() }
    }

    /// The owner reference for its objects, which are deleted with it.
    #[must_use]
    pub fn owner(&self) -> OwnerReference {
        OwnerReference {
            api_version: format!("{}/{}", names::GROUP, names::VERSION),
            kind: self.kind.as_str().into(),
            name: self.name.to_owned(),
            uid: self.uid.to_owned(),
            controller: Some(true),
            block_owner_deletion: None,
        }
    }

    /// The label of its sessions, as (key, value).
    #[must_use]
    pub fn label(&self) -> (String, String) {
        let key = if self.is_cluster() { names::CLUSTER_POLICY_LABEL } else { names::POLICY_LABEL };
        (key.to_owned(), self.name.to_owned())
    }

    /// A session started by the policy, with the policy's settings, label and owner reference.
    #[must_use]
    pub fn draft(&self, namespace: &str, name: String, trigger: Trigger) -> ProfileSession {
        let spec = ProfileSessionSpec {
            policy_ref: Some(self.reference()),
            target: None,
            container: String::new(),
            duration: self.spec.schedule.duration,
            profiles: self.spec.profiles.iter().copied().filter(|kind| kind.is_known()).collect(),
            frequency_hz: self.spec.frequency_hz,
            start_deadline: self.spec.session.start_deadline,
            start_when: None,
            repeat: None,
            compare: None,
            result_timeout: self.spec.session.result_timeout,
            result_deadline: self.spec.session.result_deadline,
            ttl: self.spec.session.ttl,
            destinations: self.spec.destinations.clone(),
            labels: BTreeMap::new(),
            context: None,
            cancel: false,
            trigger,
            cause: String::new(),
            requested_by: None,
        };
        let metadata = ObjectMeta {
            name: Some(name),
            namespace: Some(namespace.to_owned()),
            labels: Some(
                [self.label(), (names::TRIGGER_LABEL.to_owned(), trigger.as_str().to_owned())].into(),
            ),
            owner_references: Some(vec![self.owner()]),
            ..ObjectMeta::default()
        };
        ProfileSession { metadata, spec, status: None }
    }
}

/// Policies, indexed by namespace.
#[derive(Clone, Debug, Default)]
pub struct Policies<'a> {
    namespaced: HashMap<&'a str, Vec<PolicyView<'a>>>,
    cluster: Vec<PolicyView<'a>>,
}

impl<'a> FromIterator<PolicyView<'a>> for Policies<'a> {
    fn from_iter<T: IntoIterator<Item = PolicyView<'a>>>(policies: T) -> Self {
        let mut all = Self::default();
        for policy in policies {
            match policy.namespace {
                Some(namespace) => all.namespaced.entry(namespace).or_default().push(policy),
                None => all.cluster.push(policy),
            }
        }
        all
    }
}

impl<'a> Policies<'a> {
    /// All policies, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = PolicyView<'a>> {
        self.namespaced.values().flatten().chain(&self.cluster).copied()
    }

    /// Policies that may select pods in the namespace.
    pub fn near(&self, namespace: &str) -> impl Iterator<Item = PolicyView<'a>> {
        self.namespaced.get(namespace).into_iter().flatten().chain(&self.cluster).copied()
    }
}

/// The policy that applies to a pod with these labels, independent of the order of `policies`.
pub fn serving<'p, 'l>(
    policies: impl IntoIterator<Item = PolicyView<'p>>,
    namespace: &str,
    namespace_labels: Option<&Labels>,
    label: impl Fn(&str) -> Option<&'l str>,
) -> Option<PolicyView<'p>> {
    policies
        .into_iter()
        .filter(|p| p.covers(namespace, namespace_labels) && selector::selects_by(&p.spec.selector, &label))
        .min_by_key(PolicyView::precedence)
}
