//! What is answered to the creation of a pod? What the injection report says, as a patch.

use fleetprof_core::inject::{AdmissionFacts, Outcome, inject, read};
use fleetprof_crds::Reason;
use serde_json::Value;

use super::metrics::Answer;
use super::review::{Reply, Request};
use super::router::WebhookState;

const PODS: &str = "pods";

/// Answers one request.
pub(super) fn review<'a>(state: &WebhookState, request: &'a Request<'_>) -> (Reply<'a>, Answer) {
    let answer = |outcome, reason| Answer { webhook: PODS, outcome, reason };
    let outcome =
        read(request.object.map_or("null", |o| o.get())).map(|pod| decide(state, &request.namespace, &pod));
    match outcome {
        Ok(Outcome::Injected { patch, .. }) => {
            let outcome = if patch.is_empty() { "present" } else { "injected" };
            (Reply::patched(&request.uid, &patch), answer(outcome, ""))
        }
        Ok(Outcome::Skipped { reason: Reason::MalformedPod, message }) => malformed(request, &message),
        Ok(Outcome::Skipped { reason, message }) => {
            tracing::debug!(
                k8s.namespace.name = %request.namespace,
                reason = reason.as_str(),
                cause = message,
                "pod skipped"
            );
            (Reply::patched(&request.uid, &[]), answer("skipped", reason.as_str()))
        }
        Ok(Outcome::Refused { patch, .. }) => {
            (Reply::patched(&request.uid, &patch), answer("skipped", Reason::InjectionRefused.as_str()))
        }
        Ok(Outcome::NotSelected) => (Reply::patched(&request.uid, &[]), answer("not_selected", "")),
        // Deeper than any pod is, so no object of the API server's.
        Err(error) => malformed(request, &format!("failed to parse pod: {error}")),
    }
}

fn decide(state: &WebhookState, namespace: &str, pod: &Value) -> Outcome {
    let policies = state.index.policies(namespace);
    let labels = state.index.labels(namespace);
    let facts = AdmissionFacts {
        namespace,
        namespace_labels: labels.as_ref(),
        resources: &state.index.resources(namespace),
        cluster: &state.rules,
    };
    let agent = state.agent.borrow().clone();
    inject(pod, &facts, policies.iter(), &agent, |policy, image| {
        state.refusals.attempt((pod, namespace), (policy, image))
    })
    .outcome
}

fn malformed<'a>(request: &'a Request<'_>, message: &str) -> (Reply<'a>, Answer) {
    tracing::warn!(k8s.namespace.name = %request.namespace, cause = message, "failed to parse pod; it starts \
                                                                              without an agent");
    (
        Reply::warned(&request.uid, message),
        Answer { webhook: PODS, outcome: "malformed", reason: Reason::MalformedPod.as_str() },
    )
}
