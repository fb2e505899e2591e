//! Who is injected, and why the others are not.

use super::*;
use fleetprof_crds::Reason::{self, *};

const RESTRICTED: &[(&str, &str)] = &[("pod-security.kubernetes.io/enforce", "restricted")];
pub(super) const BASELINE: &[(&str, &str)] = &[("pod-security.kubernetes.io/enforce", "baseline")];
pub(super) const DISABLED: &[(&str, &str)] = &[("fleetprof.dev/profiling", "disabled")];
const OVERSIZED: &[(&str, &str)] = &[("fleetprof.dev/profiling", fleetprof_crds::names::OPT_OVERSIZED)];
pub(super) const OPT: &str = "/metadata/labels/fleetprof.dev~1profiling";
pub(super) const USER: &str = "/spec/containers/0/securityContext";

/// A pod, its namespace's labels, and the reason of the "no"; none where it is injected.
type Case = (&'static str, Value, &'static [(&'static str, &'static str)], Option<Reason>);

fn opting_out() -> Vec<Case> {
    vec![
        ("a plain pod is injected", pod(), &[], None),
        ("its label keeps the agent out", pod_with(OPT, json!("disabled")), &[], Some(OptedOut)),
        ("its namespace's label too", pod(), DISABLED, Some(OptedOut)),
        ("a namespace whose labels are too large counts", pod(), OVERSIZED, Some(OptedOut)),
        ("the pod's `enabled` wins over that too", pod_with(OPT, json!("enabled")), OVERSIZED, None),
        ("the pod's `enabled` wins over its namespace", pod_with(OPT, json!("enabled")), DISABLED, None),
        (
            "the pod's `disabled` holds in an enabled namespace",
            pod_with(OPT, json!("disabled")),
            &[("fleetprof.dev/profiling", "enabled")],
            Some(OptedOut),
        ),
        ("another value leaves it to the namespace", pod_with(OPT, json!("maybe")), DISABLED, Some(OptedOut)),
        ("another value alone means nothing", pod_with(OPT, json!("maybe")), &[], None),
    ]
}

fn platform() -> Vec<Case> {
    vec![
        ("hostPID", pod_with("/spec/hostPID", json!(true)), &[], Some(HostPid)),
        ("hostPID: false is nothing", pod_with("/spec/hostPID", json!(false)), &[], None),
        (
            "shareProcessNamespace: false",
            pod_with("/spec/shareProcessNamespace", json!(false)),
            &[],
            Some(ProcessNamespaceConflict),
        ),
        (
            "shareProcessNamespace: true is welcome",
            pod_with("/spec/shareProcessNamespace", json!(true)),
            &[],
            None,
        ),
        (
            "shareProcessNamespace: null is unset",
            pod_with("/spec/shareProcessNamespace", json!(null)),
            &[],
            None,
        ),
        ("os Windows", pod_with("/spec/os", json!({"name": "windows"})), &[], Some(WindowsNode)),
        ("os Linux", pod_with("/spec/os", json!({"name": "linux"})), &[], None),
        (
            "a node selector for Windows",
            pod_with("/spec/nodeSelector", json!({"kubernetes.io/os": "windows"})),
            &[],
            Some(WindowsNode),
        ),
        (
            "the old node selector for Windows",
            pod_with("/spec/nodeSelector", json!({"beta.kubernetes.io/os": "windows"})),
            &[],
            Some(WindowsNode),
        ),
        (
            "a process of a Windows host",
            pod_with(
                "/spec/securityContext",
                json!({"windowsOptions": {"hostProcess": true, "runAsUserName": "NT AUTHORITY\\\\SYSTEM"}}),
            ),
            &[],
            Some(WindowsNode),
        ),
        (
            "a container with a user of Windows",
            pod_with(
                "/spec/containers/0/securityContext",
                json!({"runAsUser": 7, "windowsOptions": {"runAsUserName": "ContainerUser"}}),
            ),
            &[],
            Some(WindowsNode),
        ),
        (
            "options of Windows that say nothing",
            pod_with("/spec/securityContext", json!({"windowsOptions": {}})),
            &[],
            None,
        ),
        (
            "a node selector for Linux",
            pod_with("/spec/nodeSelector", json!({"kubernetes.io/os": "linux"})),
            &[],
            None,
        ),
        (
            "a mirror pod",
            pod_with("/metadata/annotations", json!({"kubernetes.io/config.mirror": "abc"})),
            &[],
            Some(StaticPod),
        ),
        (
            "a pod of a node",
            pod_with("/metadata/ownerReferences", json!([{"kind": "Node", "name": "n"}])),
            &[],
            Some(StaticPod),
        ),
        ("the host's network", pod_with("/spec/hostNetwork", json!(true)), &[], None),
        ("the host's IPC", pod_with("/spec/hostIPC", json!(true)), &[], None),
        ("its own user namespace", pod_with("/spec/hostUsers", json!(false)), &[], None),
        ("no mounted token", pod_with("/spec/automountServiceAccountToken", json!(false)), &[], None),
        (
            "a group for volumes",
            pod_with("/spec/securityContext", json!({"fsGroup": 3000})),
            RESTRICTED,
            None,
        ),
    ]
}

fn nodes() -> Vec<Case> {
    let placed = |terms: Value| {
        pod_with(
            "/spec/affinity",
            json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}),
        )
    };
    let os = |operator: &str, values: Value| json!({"key": "kubernetes.io/os", "operator": operator, "values": values});
    let zone = || json!({"key": "topology.kubernetes.io/zone", "operator": "In", "values": ["a"]});
    let term = |expressions: Value| json!({"matchExpressions": expressions});
    let windows = || os("In", json!(["windows"]));
    let old = json!({"key": "beta.kubernetes.io/os", "operator": "In", "values": ["windows"]});
    let preferred = json!({"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "preference": term(json!([windows()]))}]}});
    vec![
        ("nodes of Windows", placed(json!([term(json!([windows()]))])), &[], Some(WindowsNode)),
        ("nodes of Windows by the old label", placed(json!([term(json!([old]))])), &[], Some(WindowsNode)),
        (
            "no node of Linux",
            placed(json!([term(json!([os("NotIn", json!(["linux"]))]))])),
            &[],
            Some(WindowsNode),
        ),
        (
            "nodes of Windows in one zone",
            placed(json!([term(json!([zone(), windows()]))])),
            &[],
            Some(WindowsNode),
        ),
        (
            "nodes of Windows, whatever the zone",
            placed(json!([term(json!([zone(), windows()])), term(json!([windows()]))])),
            &[],
            Some(WindowsNode),
        ),
        (
            "beside a term that takes no node",
            placed(json!([term(json!([windows()])), {}])),
            &[],
            Some(WindowsNode),
        ),
        (
            "nodes of Windows, or of one zone",
            placed(json!([term(json!([windows()])), term(json!([zone()]))])),
            &[],
            None,
        ),
        (
            "nodes of Windows, or one by name",
            placed(
                json!([term(json!([windows()])), {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n"]}]}]),
            ),
            &[],
            None,
        ),
        ("nodes of both", placed(json!([term(json!([os("In", json!(["windows", "linux"]))]))])), &[], None),
        ("nodes of Linux", placed(json!([term(json!([os("In", json!(["linux"]))]))])), &[], None),
        ("no node of Windows", placed(json!([term(json!([os("NotIn", json!(["windows"]))]))])), &[], None),
        ("nodes that say their system", placed(json!([term(json!([os("Exists", json!(null))]))])), &[], None),
        ("a preference for Windows is not a requirement", pod_with("/spec/affinity", preferred), &[], None),
        ("no terms", placed(json!([])), &[], None),
    ]
}

fn names_taken() -> Vec<Case> {
    let named = |name: &str| json!([{"name": name}]);
    vec![
        (
            "a container with our name",
            pod_with("/spec/containers", named("fleetprof-agent")),
            &[],
            Some(NameConflict),
        ),
        (
            "an init container with our name",
            pod_with("/spec/initContainers", named("fleetprof-agent")),
            &[],
            Some(NameConflict),
        ),
        (
            "a volume named as the token's",
            pod_with("/spec/volumes", named("fleetprof-token")),
            &[],
            Some(NameConflict),
        ),
        (
            "an annotation that was copied without the sidecar",
            pod_with("/metadata/annotations", json!({"fleetprof.dev/injected": "{}"})),
            &[],
            None,
        ),
        (
            "others in all lists",
            edit(pod_with("/spec/volumes", named("data")), "/spec/initContainers", named("migrate")),
            &[],
            None,
        ),
    ]
}

fn users() -> Vec<Case> {
    let user = |context: Value| pod_with(USER, context);
    let of_pod = |context: Value| edit(pod_with(USER, json!(null)), "/spec/securityContext", context);
    vec![
        ("a known user under restricted", pod(), RESTRICTED, None),
        ("a known user of the pod under restricted", of_pod(json!({"runAsUser": 7})), RESTRICTED, None),
        (
            "an unknown user under restricted",
            user(json!({"runAsNonRoot": true})),
            RESTRICTED,
            Some(UnknownUser),
        ),
        (
            "an unknown user under an invalid level",
            user(json!({})),
            &[("pod-security.kubernetes.io/enforce", "strict")],
            Some(UnknownUser),
        ),
        ("root under restricted", user(json!({"runAsUser": 0})), RESTRICTED, Some(UnknownUser)),
        ("an unknown user under baseline", user(json!({})), BASELINE, None),
        (
            "an unknown user that must not be root",
            user(json!({"runAsNonRoot": true})),
            &[],
            Some(UnknownUser),
        ),
        (
            "an unknown user of a pod that must not be root",
            of_pod(json!({"runAsNonRoot": true})),
            BASELINE,
            Some(UnknownUser),
        ),
        (
            "an unknown user that may be root although the pod says no",
            edit(
                user(json!({"runAsNonRoot": false})),
                "/spec/securityContext",
                json!({"runAsNonRoot": true}),
            ),
            &[],
            None,
        ),
        ("no security context at all", user(json!(null)), &[], None),
        (
            "warnings about restricted forbid nothing",
            user(json!(null)),
            &[("pod-security.kubernetes.io/warn", "restricted")],
            None,
        ),
    ]
}

fn malformed() -> Vec<Case> {
    vec![
        ("no object", json!([]), &[], Some(MalformedPod)),
        ("null", json!(null), &[], Some(MalformedPod)),
        ("no metadata", json!({"spec": {"containers": []}}), &[], Some(MalformedPod)),
        ("no spec", json!({"metadata": {}}), &[], Some(MalformedPod)),
        ("metadata of a wrong type", pod_with("/metadata", json!("x")), &[], Some(MalformedPod)),
        (
            "annotations of a wrong type",
            pod_with("/metadata/annotations", json!([])),
            &[],
            Some(MalformedPod),
        ),
        (
            "init containers of a wrong type",
            pod_with("/spec/initContainers", json!({})),
            &[],
            Some(MalformedPod),
        ),
        ("volumes of a wrong type", pod_with("/spec/volumes", json!("v")), &[], Some(MalformedPod)),
        (
            "containers of a wrong type",
            pod_with("/spec/containers", json!({"a": 1})),
            &[],
            Some(MalformedPod),
        ),
        (
            "a container without a name",
            pod_with("/spec/containers", json!([{"image": "x"}])),
            &[],
            Some(MalformedPod),
        ),
        (
            "a user that is not a number",
            pod_with(USER, json!({"runAsUser": "root"})),
            &[],
            Some(MalformedPod),
        ),
        ("a user that cannot be", pod_with(USER, json!({"runAsUser": -1})), &[], Some(MalformedPod)),
        (
            "a user beyond all users",
            pod_with(USER, json!({"runAsUser": 4_294_967_296_i64})),
            &[],
            Some(MalformedPod),
        ),
        ("hostPID of a wrong type", pod_with("/spec/hostPID", json!("yes")), &[], Some(MalformedPod)),
        (
            "terms that are no list",
            pod_with(
                "/spec/affinity",
                json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": "x"}}}),
            ),
            &[],
            Some(MalformedPod),
        ),
        ("no containers", pod_with("/spec/containers", json!([])), &[], Some(NoSelectedContainer)),
        (
            "null lists are missing lists",
            edit(pod_with("/spec/volumes", json!(null)), "/spec/initContainers", json!(null)),
            &[],
            None,
        ),
    ]
}

#[test]
fn every_pod_gets_an_agent_or_a_reason() {
    let cases = [opting_out(), platform(), nodes(), names_taken(), users(), malformed()].concat();
    assert!(cases.len() > 50);
    for (sentence, pod, namespace_labels, expected) in cases {
        match (outcome(&pod, namespace_labels, &[all()]), expected) {
            (Outcome::Injected { policy, container, patch }, None) => {
                assert_eq!((policy.as_str(), container.as_str()), ("all", "orders"), "{sentence}");
                assert!(!patch.is_empty(), "{sentence}");
            }
            (Outcome::Skipped { reason, message }, Some(expected)) => {
                assert_eq!(reason, expected, "{sentence}: {message}");
                assert!(message.len() > 30 && message.contains(reason.advice()), "{sentence}: {message}");
            }
            (other, expected) => panic!("{sentence}: {other:?} instead of {expected:?}"),
        }
    }
}

#[test]
fn no_reason_goes_untested() {
    let cases = [opting_out(), platform(), nodes(), names_taken(), users(), malformed()].concat();
    let met: std::collections::BTreeSet<Reason> = cases.iter().filter_map(|c| c.3).collect();
    let known = [
        OptedOut,
        HostPid,
        ProcessNamespaceConflict,
        UnknownUser,
        WindowsNode,
        NoSelectedContainer,
        StaticPod,
        NameConflict,
        MalformedPod,
    ];
    assert_eq!(met, known.into_iter().collect());
}
