//! What most tests begin with: a pod, and the images of agents.
#![allow(dead_code)]

use std::sync::{Arc, LazyLock};

use fleetprof_core::image::AgentImages;
use fleetprof_core::pod::{AgentContainerState, ContainerFacts, PodFacts, User, Workload};
use jiff::Timestamp;

/// The images that agents may have.
pub fn images() -> &'static AgentImages {
    static IMAGES: LazyLock<AgentImages> = LazyLock::new(|| AgentImages {
        default: "agent:1".into(),
        allowed: vec!["mirror.example/agent:*".into()],
    });
    &IMAGES
}

/// A ready pod of the Deployment `app` with one container, `app`, and an injected agent that runs.
pub fn pod(namespace: &str, name: &str, app: &str, created: i64) -> PodFacts {
    PodFacts {
        namespace: namespace.into(),
        name: name.into(),
        uid: format!("uid-{name}"),
        node: "n1".into(),
        labels: Arc::new([("app".to_owned(), app.to_owned())].into()),
        workload: Arc::new(Workload { kind: "Deployment".into(), name: app.into() }),
        owner: None,
        created: Timestamp::from_second(created).ok(),
        running: true,
        ready: true,
        ready_since: None,
        ending: false,
        ips: Box::default(),
        default_container: None,
        containers: Box::new([ContainerFacts {
            name: "app".into(),
            id: format!("{name}-c"),
            running: true,
            since: None,
            user: User::default(),
            cpu_limit: None,
        }]),
        sidecar: Some(AgentContainerState::Running),
        attached: vec![],
        host_network: false,
        storage_limit: None,
        uninjected: None,
    }
}
