//! What a patch contains, and what it leaves alone.

use super::*;

fn injected(pod: &Value) -> Value {
    applied(pod, &outcome(pod, &[], &[all()]))
}

fn sidecar(pod: &Value) -> Value {
    pod["spec"]["initContainers"].as_array().unwrap().last().unwrap().clone()
}

#[test]
fn the_smallest_pod_gets_everything_that_the_agent_needs() {
    let pod = json!({"metadata": {}, "spec": {"containers": [{"name": "app"}]}});
    let patch = match outcome(&pod, &[], &[all()]) {
        Outcome::Injected { patch, .. } => serde_json::to_value(patch).unwrap(),
        other => panic!("{other:?}"),
    };
    let expected = json!([
        {"op": "add", "path": "/metadata/annotations", "value": {
            "fleetprof.dev/injected": "{\"container\":\"app\",\"image\":\"fleetprof-agent:0.1.0\",\"policy\":\"all\",\"user\":\"root\"}"}},
        {"op": "add", "path": "/spec/shareProcessNamespace", "value": true},
        {"op": "add", "path": "/spec/volumes", "value": [
            {"name": "fleetprof-token", "projected": {"sources": [{"serviceAccountToken": {"audience": "fleetprof.dev/gateway", "expirationSeconds": 3600, "path": "token"}}]}}]},
        {"op": "add", "path": "/spec/initContainers", "value": [{
            "name": "fleetprof-agent",
            "image": "fleetprof-agent:0.1.0",
            "imagePullPolicy": "IfNotPresent",
            "args": ["sidecar"],
            "restartPolicy": "Always",
            "env": [
                {"name": "FLEETPROF_GATEWAY", "value": "https://fleetprof-leader.fleetprof.svc:8443"},
                {"name": "FLEETPROF_CA", "value": "-----BEGIN CERTIFICATE-----\nMIIB\n-----END \
                    CERTIFICATE-----\n"},
                {"name": "FLEETPROF_TOKEN_FILE", "value": "/var/run/secrets/fleetprof.dev/token"},
                {"name": "FLEETPROF_SPOOL", "value": "/dev/shm/fleetprof-sidecar"}],
            "resources": {"requests": {"cpu": "5m", "memory": "16Mi"}, "limits": {"memory": "256Mi"}},
            "securityContext": {
                "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "seccompProfile": {"type": "RuntimeDefault"},
                "runAsUser": 0, "runAsGroup": 0, "runAsNonRoot": false},
            "terminationMessagePolicy": "FallbackToLogsOnError",
            "volumeMounts": [
                {"name": "fleetprof-token", "mountPath": "/var/run/secrets/fleetprof.dev", "readOnly": true}]}]},
    ]);
    assert_eq!(patch, expected);
}

/// The agent's variable in `pod`.
fn told(pod: &Value, name: &str) -> Option<String> {
    let agent = sidecar(&injected(pod));
    let variable = agent["env"].as_array().unwrap().iter().find(|v| v["name"] == name)?;
    Some(variable["value"].as_str().unwrap().to_owned())
}

#[test]
fn an_agent_is_told_where_its_pod_has_the_network_of_the_node() {
    for (value, wanted) in [(json!(true), Some("true")), (json!(false), None), (json!(null), None)] {
        let pod = pod_with("/spec/hostNetwork", value.clone());
        assert_eq!(told(&pod, "FLEETPROF_HOST_NETWORK").as_deref(), wanted, "{value}");
    }
}

/// The kubelet kills what has not left, and a Job's podFailurePolicy sees the exit code of every container.
#[test]
fn an_agent_leaves_before_its_pod_has_to_be_gone() {
    for (grace, wanted) in [
        (json!(null), None),
        (json!(30), None),
        (json!(6), None),
        (json!(5), Some("4")),
        (json!(2), Some("1")),
        (json!(0), Some("1")),
        (json!(-1), Some("1")),
    ] {
        let pod = pod_with("/spec/terminationGracePeriodSeconds", grace.clone());
        assert_eq!(told(&pod, "FLEETPROF_SHUTDOWN_GRACE").as_deref(), wanted, "{grace}");
    }
}

#[test]
fn slices_do_not_wait_in_memory_that_all_pods_of_the_node_share() {
    let small = json!({"limits": {"ephemeral-storage": "20M"}});
    for (ipc, resources, spool, limit, is_read_only) in [
        (json!(null), json!({}), "/dev/shm/fleetprof-sidecar", None, true),
        (json!(false), json!({}), "/dev/shm/fleetprof-sidecar", None, true),
        (json!(true), json!({}), "/tmp/fleetprof-sidecar", Some("8388608"), false),
        (json!(true), small, "/tmp/fleetprof-sidecar", Some("2000000"), false),
    ] {
        let pod = edit(pod_with("/spec/hostIPC", ipc.clone()), "/spec/containers/0/resources", resources);
        assert_eq!(told(&pod, "FLEETPROF_SPOOL").as_deref(), Some(spool), "{ipc}");
        assert_eq!(told(&pod, "FLEETPROF_SPOOL_LIMIT").as_deref(), limit, "{ipc}");
        let context = &sidecar(&injected(&pod))["securityContext"];
        assert_eq!(context["readOnlyRootFilesystem"], is_read_only, "{ipc}");
    }
}

#[test]
fn lists_that_are_there_are_appended_to() {
    let pod = edit(
        pod_with("/spec/volumes", json!([{"name": "data"}])),
        "/spec/initContainers",
        json!([{"name": "migrate"}]),
    );
    let pod = edit(pod, "/metadata/annotations", json!({"a/b~c": "1"}));
    let Outcome::Injected { patch, .. } = outcome(&pod, &[], &[all()]) else { panic!("not injected") };
    let paths: Vec<&str> = patch.iter().map(PatchOp::path).collect();
    assert_eq!(
        paths,
        [
            "/metadata/annotations/fleetprof.dev~1injected",
            "/spec/shareProcessNamespace",
            "/spec/volumes/-",
            "/spec/initContainers/-"
        ]
    );
    let after = injected(&pod);
    let names = |list: &str| {
        after["spec"][list]
            .as_array()
            .unwrap()
            .iter()
            .map(|c| c["name"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        names("initContainers"),
        ["migrate", "fleetprof-agent"],
        "the sidecar delays no other init container"
    );
    assert_eq!(names("volumes"), ["data", "fleetprof-token"]);
    assert_eq!(after["metadata"]["annotations"]["a/b~c"], "1");
    assert!(sidecar(&after).get("startupProbe").is_none(), "nothing delays the app");
}

#[test]
fn a_process_namespace_that_is_shared_already_is_not_written_again() {
    let Outcome::Injected { patch, .. } =
        outcome(&pod_with("/spec/shareProcessNamespace", json!(true)), &[], &[all()])
    else {
        panic!("not injected")
    };
    assert!(patch.iter().all(|op| !op.path().contains("shareProcessNamespace")));
}

#[test]
fn fields_that_this_build_does_not_know_survive() {
    let mut pod = pod_with(
        "/spec/brandNewField",
        json!({"deep": [1, {"of": null}], "big": 18_446_744_073_709_551_615_u64}),
    );
    pod = edit(pod, "/spec/containers/0/resizePolicyNext", json!([{"x": 1.5}]));
    pod = edit(pod, "/metadata/somethingElse", json!("kept"));
    pod["unheardOf"] = json!({"at": "the top"});
    let mut after = injected(&pod);
    let spec = after["spec"].as_object_mut().unwrap();
    for ours in ["initContainers", "volumes", "shareProcessNamespace"] {
        assert!(spec.remove(ours).is_some(), "{ours}");
    }
    after["metadata"].as_object_mut().unwrap().remove("annotations").unwrap();
    assert_eq!(after, pod, "apart from ours, nothing changed");
}

#[test]
fn the_agent_runs_as_the_target_does() {
    let of = |container: Value, pod_context: Value| {
        let pod = edit(
            pod_with("/spec/containers/0/securityContext", container),
            "/spec/securityContext",
            pod_context,
        );
        let context = sidecar(&injected(&pod))["securityContext"].clone();
        (
            context["runAsUser"].as_i64(),
            context["runAsGroup"].as_i64(),
            context["runAsNonRoot"] == true,
            context["capabilities"]["drop"] == json!(["ALL"]),
        )
    };
    assert_eq!(
        of(json!({"runAsUser": 5, "runAsGroup": 6}), json!({"runAsUser": 7, "runAsGroup": 8})),
        (Some(5), Some(6), true, true),
        "the container wins"
    );
    assert_eq!(of(json!({}), json!({"runAsUser": 7, "runAsGroup": 8})), (Some(7), Some(8), true, true));
    assert_eq!(
        of(json!({"runAsUser": 5}), json!({"runAsGroup": 8})),
        (Some(5), Some(8), true, true),
        "each from where it is known"
    );
    assert_eq!(of(json!({"runAsUser": 5}), json!(null)), (Some(5), None, true, true));
    assert_eq!(
        of(json!({"runAsUser": 0}), json!({"runAsUser": 7})),
        (Some(0), Some(0), false, false),
        "a root target needs the capabilities that it has itself"
    );
    assert_eq!(of(json!(null), json!(null)), (Some(0), Some(0), false, false));
}

/// `kubectl drain` and the cluster autoscaler leave a node alone that has a pod with an emptyDir or a hostPath.
#[test]
fn a_pod_without_a_volume_of_the_node_gets_none() {
    let pod = injected(&pod());
    let volumes = pod["spec"]["volumes"].as_array().unwrap();
    assert!(volumes.iter().all(|volume| volume.get("projected").is_some()), "{volumes:?}");
}

/// The checks of Pod Security `restricted` that speak of a container, as its documentation lists them.
#[test]
fn beside_a_known_user_the_agent_passes_restricted() {
    let container = sidecar(&injected(&pod()));
    let context = &container["securityContext"];
    assert_eq!(context["allowPrivilegeEscalation"], false);
    assert_eq!(context["runAsNonRoot"], true);
    assert_ne!(context["runAsUser"], 0);
    assert_eq!(context["capabilities"], json!({"drop": ["ALL"]}));
    assert_eq!(context["seccompProfile"]["type"], "RuntimeDefault");
    assert_eq!(context["readOnlyRootFilesystem"], true);
    assert!(container.get("ports").is_none() && context.get("privileged").is_none());
}

#[test]
fn injecting_twice_changes_nothing() {
    let after = injected(&pod());
    let expected = Outcome::Injected { policy: "all".into(), container: "orders".into(), patch: Vec::new() };
    assert_eq!(outcome(&after, &[], &[all()]), expected);
    assert_eq!(
        outcome(&after, &[("fleetprof.dev/profiling", "disabled")], &[]),
        expected,
        "whatever the policies have become"
    );
    let spoilt = edit(after, "/metadata/annotations/fleetprof.dev~1injected", json!("no JSON"));
    assert!(matches!(outcome(&spoilt, &[], &[all()]), Outcome::Injected { patch, .. } if patch.is_empty()));
}

#[test]
fn pointers_are_escaped() {
    assert_eq!(PatchOp::add(&["a/b", "m~n", "~/"], Value::Null).path(), "/a~1b/m~0n/~0~1");
}

#[test]
fn a_refused_workload_gets_a_note_instead_of_an_agent() {
    let (labels, cluster, all) = (labels(&[]), cluster(), all());
    let facts = AdmissionFacts {
        namespace: "shop",
        namespace_labels: Some(&labels),
        resources: &ResourceRules::default(),
        cluster: &cluster,
    };
    let held =
        |is_told| move |_: &PolicyView<'_>, _: &str| Some(Held { words: "\"no\"".to_owned(), is_told });
    let silent = inject(&pod(), &facts, [all.view("shop")], &settings(), held(false));
    assert_eq!(silent.outcome, Outcome::Refused { message: "\"no\"".into(), patch: vec![] });
    for annotations in [json!(null), json!({"a": "b"})] {
        let pod =
            edit(pod_with("/spec/hostNetwork", json!(true)), "/metadata/annotations", annotations.clone());
        let refused = held(true);
        let report = inject(&pod, &facts, [all.view("shop")], &settings(), refused);
        let Outcome::Refused { message, patch } = report.outcome else { panic!("{report:?}") };
        assert_eq!(message, "\"no\"");
        let patch: json_patch::Patch = serde_json::from_value(json!(patch)).unwrap();
        let mut noted = pod.clone();
        json_patch::patch(&mut noted, &patch).unwrap();
        let mut expected = pod.clone();
        let mut all_annotations = annotations.as_object().cloned().unwrap_or_default();
        all_annotations.insert("fleetprof.dev/injection-refused".into(), json!("\"no\""));
        expected["metadata"]["annotations"] = json!(all_annotations);
        assert_eq!(noted, expected, "nothing else is changed");
        // The leader reads why from the pod.
        let Verdict::Skip(skip) = judge(&noted, &facts, [all.view("shop")]) else { panic!("not left out") };
        assert_eq!(skip.reason, Reason::InjectionRefused);
        assert_eq!(skip.cause, "pods with the agent are not created or not started: \"no\"");
    }
}
