//! What are the types of fleetprof's APIs? The custom resources, their reasons, and the protocol between
//! agents and the gateway.
//!
//! This crate only contains types: no I/O, no clock, no decisions.

// False positive: each `printcolumn` of the derive repeats the keys of the previous one.
#![allow(clippy::duplicated_attributes)]

pub mod agent_mode;
pub mod agent_resources;
pub mod budget;
pub mod cluster_policy;
pub mod compare;
mod defaults;
pub mod duration;
pub mod growth;
pub mod load;
pub mod names;
pub mod percent;
pub mod phase;
pub mod policy;
pub mod policy_status;
pub mod quantity;
pub mod reason;
pub mod restart;
pub mod sampling;
pub mod schedule;
mod selector;
pub mod session;
pub mod session_rules;
pub mod session_status;
pub mod trigger;
pub mod triggers;
pub mod wire;

pub use cluster_policy::{ClusterProfilingPolicy, ClusterProfilingPolicySpec};
pub use defaults::DEFAULT_DESTINATION;
pub use duration::Duration;
pub use fleetprof_profile::kind::{ProfileKind, Rate, UnknownKind};
pub use percent::Percent;
pub use policy::{ProfilingPolicy, ProfilingPolicySpec};
pub use policy_status::ProfilingPolicyStatus;
pub use reason::Reason;
pub use session::{ProfileSession, ProfileSessionSpec};
pub use session_status::ProfileSessionStatus;

use kube::CustomResourceExt;

/// The CRDs in installation order, as (file stem, definition).
#[must_use]
pub fn all_crds() -> Vec<(
    &'static str,
    k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
)> {
    vec![
        ("profilingpolicies", ProfilingPolicy::crd()),
        ("clusterprofilingpolicies", ClusterProfilingPolicy::crd()),
        ("profilesessions", ProfileSession::crd()),
    ]
}
