//! Which pods do the agents of nodes serve, and which of these agents answer?

use std::collections::HashSet;

use crate::container::matches_glob;
use crate::pod::PodFacts;

/// The namespaces whose pods the agents of nodes serve, by the administrator's word.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServedNamespaces {
    named: Vec<String>,
    excluded: Vec<String>,
}

impl ServedNamespaces {
    /// Those that one of the globs in `named` matches; where there is none, all but `excluded`.
    #[must_use]
    pub fn new(named: Vec<String>, excluded: Vec<String>) -> Self {
        Self { named, excluded }
    }

    /// Whether the pods of a namespace are served.
    #[must_use]
    pub fn has(&self, namespace: &str) -> bool {
        match self.named.as_slice() {
            [] => !self.excluded.iter().any(|name| name == namespace),
            named => named.iter().any(|glob| matches_glob(glob, namespace)),
        }
    }

    /// Whether every namespace is served that is not excluded from everything.
    #[must_use]
    pub fn has_all(&self) -> bool {
        self.named.is_empty() || self.named.iter().any(|glob| glob == "*")
    }
}

/// The agents of nodes: whom they serve, and where one answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeAgents {
    /// Whom they serve; `None` where an administrator has installed none.
    pub served: Option<ServedNamespaces>,
    /// Names of the nodes whose agent answers. An agent that is replaced answers until it has been silent for
    /// three of its intervals, so that a rolling update changes nothing here.
    pub answering: HashSet<String>,
    /// Whether silence of another one means that it is not there: every one has had the time to report since this
    /// leader took over.
    pub settled: bool,
}

/// Whether a pod can be left to the agent of its node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NodeAgent {
    /// No: agents of nodes do not serve its namespace.
    #[default]
    Unserved,
    /// It could be, but no agent of its node answers.
    Silent,
    /// Yes: the agent of its node answers, or may do so soon.
    Answers,
}

impl NodeAgents {
    /// Whether a pod can be left to the agent of its node.
    #[must_use]
    pub fn of(&self, pod: &PodFacts) -> NodeAgent {
        match &self.served {
            Some(served) if served.has(&pod.namespace) => {
                if !self.settled || self.answering.contains(&*pod.node) {
                    NodeAgent::Answers
                } else {
                    NodeAgent::Silent
                }
            }
            _ => NodeAgent::Unserved,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_administrator_names_the_namespaces_that_are_served_or_those_that_are_not() {
        let all = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        let (default, named) = (
            ServedNamespaces::new(vec![], all(&["kube-system", "fleetprof"])),
            ServedNamespaces::new(all(&["team-*", "kube-system"]), all(&["kube-system", "fleetprof"])),
        );
        for (namespace, by_default, by_name) in [
            ("shop", true, false),
            ("team-a", true, true),
            ("kube-system", false, true),
            ("fleetprof", false, false),
        ] {
            assert_eq!((default.has(namespace), named.has(namespace)), (by_default, by_name), "{namespace}");
        }
        assert!(default.has_all() && !named.has_all());
        assert!(ServedNamespaces::new(all(&["team-*", "*"]), vec![]).has_all());
    }
}
