//! May who asked for a session profile? Asked of the API server before anything starts, beside the admission
//! policy.

use fleetprof_core::session::Permission;
use fleetprof_crds::ProfileSession;
use fleetprof_crds::names::GROUP;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::{Api, Client, api::PostParams};

/// Asks whether `session.spec.requestedBy` has the right that the session needs.
///
/// # Errors
/// When the API server cannot be asked; nothing starts then.
pub async fn review(client: &Client, session: &ProfileSession) -> kube::Result<Permission> {
    let Some(user) = session.spec.requested_by.clone().filter(|u| !u.username.is_empty()) else {
        return Ok(Permission::Denied(
            "spec.requestedBy is not set, so permissions cannot be checked. It is set by the fleetprof \
             webhook: check that the webhook is running, then recreate the session."
                .into(),
        ));
    };
    let attributes = attributes(session);
    let missing = describe(&attributes);
    let role = if session.spec.policy_ref.is_some() { "fleetprof-runner" } else { "fleetprof-attacher" };
    let namespace = attributes.namespace.clone().unwrap_or_default();
    let review = SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: Some(user.username.clone()),
            groups: Some(user.groups),
            resource_attributes: Some(attributes),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    };
    let answer =
        Api::<SubjectAccessReview>::all(client.clone()).create(&PostParams::default(), &review).await?;
    if answer.status.is_some_and(|s| s.allowed) {
        return Ok(Permission::Allowed);
    }
    Ok(Permission::Denied(format!(
        "User {:?} may not {missing} in namespace {namespace:?}; bind the ClusterRole {role} to the user in \
         that namespace.",
        user.username
    )))
}

/// With a policy: the verb `profile` on it, asked for in the session's namespace also where the policy is one
/// of the cluster, so that a RoleBinding there is enough. Without: what attaching by hand needs.
fn attributes(session: &ProfileSession) -> ResourceAttributes {
    let namespace = session.metadata.namespace.clone();
    let text = |s: &str| Some(s.to_owned());
    match &session.spec.policy_ref {
        Some(policy) => ResourceAttributes {
            group: text(GROUP),
            resource: text(policy.kind.resource()),
            name: Some(policy.name.clone()),
            verb: text("profile"),
            namespace,
            ..ResourceAttributes::default()
        },
        None => ResourceAttributes {
            resource: text("pods"),
            subresource: text("ephemeralcontainers"),
            verb: text("patch"),
            namespace,
            ..ResourceAttributes::default()
        },
    }
}

fn describe(a: &ResourceAttributes) -> String {
    let resource = a.resource.clone().unwrap_or_default();
    let verb = a.verb.clone().unwrap_or_default();
    match (&a.subresource, &a.name) {
        (Some(sub), _) => format!("{verb} {resource}/{sub}"),
        (None, Some(name)) => format!("{verb} {resource}/{name}"),
        (None, None) => format!("{verb} {resource}"),
    }
}
