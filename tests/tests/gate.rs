//! Who may profile? The gate of the chart on a real API server, asked by people with different roles, while
//! neither the operator nor the webhook runs.
#![allow(missing_docs, clippy::unwrap_used)]

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use fleetprof_tests::people::{accepts, create, object, rejects};
use fleetprof_tests::{admin, api_server, chart, person, wait_for};
use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use kube::Api;
use kube::api::PostParams;
use serde_json::{Value, json};

const NAMESPACE: &str = "gate";
const OPERATOR: &str = "system:serviceaccount:fleetprof:fleetprof-operator";

/// The gate with two policies, and these people: `nobody` without rights, `creator` who may create sessions
/// and nothing else, `narrow` who may besides profile under the policy `one`, `runner` and `attacher` with
/// the roles of those names.
async fn gate() -> Result<std::path::PathBuf> {
    let kubeconfig = api_server()?;
    chart::crds(&kubeconfig)?;
    chart::apply(&kubeconfig, &["templates/access/"], &[])?;
    apply(&kubeconfig, &setup())?;
    let client = person(&kubeconfig, Some("creator"), &["system:authenticated"]).await?;
    wait_for("the gate is in force", Duration::from_secs(30), || {
        let client = client.clone();
        async move { Ok(rejects(&client, &session("creator", "one"), "may not profile under").await.ok()) }
    })
    .await?;
    Ok(kubeconfig)
}

fn apply(kubeconfig: &Path, objects: &[Value]) -> Result<()> {
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    chart::kubectl(
        kubeconfig,
        &["apply", "--server-side", "--force-conflicts", "-f", "-"],
        Some(&list.to_string()),
    )
    .map(drop)
}

fn setup() -> Vec<Value> {
    let role = |name: &str, rules: Value| json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": name, "namespace": NAMESPACE}, "rules": rules});
    let bind = |user: &str, kind: &str, role: &str| {
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": format!("{user}-{role}"), "namespace": NAMESPACE},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role}, "subjects": [{"kind": "User", "name": user, "apiGroup": "rbac.authorization.k8s.io"}]})
    };
    let policy = |name: &str| object("ProfilingPolicy", NAMESPACE, name, &json!({"selector": {}}));
    vec![
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}),
        policy("one"),
        policy("two"),
        role("create", json!([{"apiGroups": ["fleetprof.dev"], "resources": ["profilesessions"], "verbs": ["create"]}])),
        role(
            "profile-one",
            json!([{"apiGroups": ["fleetprof.dev"], "resources": ["profilingpolicies"], "resourceNames": ["one"], "verbs": ["profile"]}]),
        ),
        role(
            "profile-cluster",
            json!([{"apiGroups": ["fleetprof.dev"], "resources": ["clusterprofilingpolicies"], "resourceNames": ["one"], "verbs": ["profile"]}]),
        ),
        bind("creator", "Role", "create"),
        bind("guest", "Role", "create"),
        bind("guest", "Role", "profile-cluster"),
        bind("narrow", "Role", "create"),
        bind("narrow", "Role", "profile-one"),
        bind("runner", "ClusterRole", "fleetprof-runner"),
        bind("keeper", "ClusterRole", "fleetprof-runner"),
        bind("keeper", "ClusterRole", "fleetprof-keeper"),
        bind("attacher", "ClusterRole", "fleetprof-runner"),
        bind("attacher", "ClusterRole", "fleetprof-attacher"),
        bind(OPERATOR, "Role", "create"),
    ]
    .into_iter()
    .map(|mut o| {
        // A user name with colons is not an object name.
        let name = o["metadata"]["name"].as_str().unwrap_or_default().replace(':', ".");
        o["metadata"]["name"] = json!(name);
        o
    })
    .collect()
}

/// A session as the webhook would stamp it; without a policy where `policy` is empty.
fn session(user: &str, policy: &str) -> Value {
    let mut spec = json!({"target": {"pods": ["a"]}, "requestedBy": {"username": user, "groups": ["system:authenticated"]}});
    if !policy.is_empty() {
        spec["policyRef"] = json!({"name": policy});
    }
    object("ProfileSession", NAMESPACE, "now", &spec)
}

#[tokio::test]
async fn people_may_what_their_roles_say_and_are_told_what_is_missing() -> Result<()> {
    let kubeconfig = gate().await?;
    let profile = "the verb profile on profilingpolicies.fleetprof.dev/";
    let attach = "the verb patch on pods/ephemeralcontainers is missing in namespace gate";
    let cases = [
        ("nobody", "one", Err("cannot create resource \"profilesessions\"")),
        ("creator", "one", Err(profile)),
        ("creator", "", Err(attach)),
        ("narrow", "one", Ok(())),
        ("narrow", "two", Err("profilingpolicies.fleetprof.dev/two is missing in namespace gate")),
        ("narrow", "", Err(attach)),
        ("runner", "one", Ok(())),
        ("runner", "two", Ok(())),
        ("runner", "", Err(attach)),
        ("attacher", "", Ok(())),
    ];
    for (user, policy, expected) in cases {
        let client = person(&kubeconfig, Some(user), &["system:authenticated"]).await?;
        match expected {
            Ok(()) => drop(accepts(&client, &session(user, policy)).await?),
            Err(words) => assert_eq!(
                rejects(&client, &session(user, policy), words).await?,
                403,
                "{user} under {policy:?}"
            ),
        }
    }
    let client = person(&kubeconfig, Some("creator"), &["system:authenticated"]).await?;
    rejects(&client, &session("creator", "one"), "The ClusterRole fleetprof-runner grants it").await?;
    Ok(())
}

/// The verb on a policy of the cluster is granted in the namespace of the session, and is another one than
/// that on a policy of the namespace with the same name.
#[tokio::test]
async fn a_role_binding_is_enough_to_profile_under_a_policy_of_the_cluster() -> Result<()> {
    let kubeconfig = gate().await?;
    let under = |user: &str, name: &str, namespace: &str| {
        let mut session = session(user, name);
        session["spec"]["policyRef"]["kind"] = json!("ClusterProfilingPolicy");
        session["metadata"]["namespace"] = json!(namespace);
        session
    };
    let missing = |name: &str| {
        format!(
            "the verb profile on clusterprofilingpolicies.fleetprof.dev/{name} is missing in namespace gate"
        )
    };
    let cases = [
        ("guest", "one", None),
        ("guest", "two", Some(missing("two"))),
        ("narrow", "one", Some(missing("one"))),
        ("creator", "one", Some(missing("one"))),
        ("runner", "one", None),
        ("runner", "two", None),
    ];
    for (user, name, refusal) in cases {
        let client = person(&kubeconfig, Some(user), &["system:authenticated"]).await?;
        match refusal {
            None => drop(accepts(&client, &under(user, name, NAMESPACE)).await?),
            Some(words) => assert_eq!(
                rejects(&client, &under(user, name, NAMESPACE), &words).await?,
                403,
                "{user} under {name}"
            ),
        }
    }
    let guest = person(&kubeconfig, Some("guest"), &["system:authenticated"]).await?;
    rejects(&guest, &session("guest", "one"), "the verb profile on profilingpolicies.fleetprof.dev/one")
        .await?;
    let elsewhere =
        rejects(&guest, &under("guest", "one", "default"), "cannot create resource \"profilesessions\"")
            .await?;
    assert_eq!(elsewhere, 403, "in another namespace nothing was granted");
    Ok(())
}

#[tokio::test]
async fn nobody_asks_in_anothers_name_or_passes_for_a_schedule() -> Result<()> {
    let kubeconfig = gate().await?;
    let runner = person(&kubeconfig, Some("runner"), &["system:authenticated"]).await?;
    rejects(
        &runner,
        &session("somebody-else", "one"),
        "spec.requestedBy.username is somebody-else, but you are runner",
    )
    .await?;
    let mut forged = session("runner", "one");
    forged["spec"]["requestedBy"]["groups"] = json!(["system:masters"]);
    rejects(&runner, &forged, "a group that user runner is not in").await?;
    let mut unstamped = session("runner", "one");
    unstamped["spec"]["requestedBy"] = Value::Null;
    rejects(&runner, &unstamped, "The fleetprof webhook sets it but did not respond").await?;
    let mut scheduled = session("runner", "one");
    scheduled["spec"]["trigger"] = json!("Schedule");
    rejects(&runner, &scheduled, "may not set spec.trigger to Schedule").await?;
    let mut excused = session("runner", "one");
    excused["spec"]["cause"] = json!("CPU was 93 %");
    rejects(&runner, &excused, "may not set spec.cause").await?;
    let operator = person(&kubeconfig, Some(OPERATOR), &["system:serviceaccounts"]).await?;
    scheduled["spec"]["requestedBy"] = Value::Null;
    accepts(&operator, &scheduled).await?;
    excused["spec"]["trigger"] = json!("CPU");
    excused["spec"]["requestedBy"] = Value::Null;
    accepts(&operator, &excused).await?;
    Ok(())
}

/// Whether `user` may `verb` the resource, as `group/resource` or `group/resource/subresource`, in the
/// namespace.
async fn can(client: &kube::Client, user: &str, verb: &str, resource: &str) -> Result<bool> {
    let parts: Vec<&str> = resource.split('/').collect();
    let review: SubjectAccessReview = serde_json::from_value(
        json!({"metadata": {}, "spec": {"user": user, "resourceAttributes": {
        "namespace": NAMESPACE, "verb": verb, "group": parts[0], "resource": parts[1], "subresource": parts.get(2)}}}),
    )?;
    let answer =
        Api::<SubjectAccessReview>::all(client.clone()).create(&PostParams::default(), &review).await?;
    Ok(answer.status.is_some_and(|s| s.allowed))
}

#[tokio::test]
async fn the_roles_reach_view_edit_and_admin() -> Result<()> {
    let kubeconfig = gate().await?;
    let bind = |role: &str| {
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": format!("has-{role}"), "namespace": NAMESPACE},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role}, "subjects": [{"kind": "User", "name": format!("has-{role}"), "apiGroup": "rbac.authorization.k8s.io"}]})
    };
    apply(&kubeconfig, &["view", "edit", "admin"].map(bind))?;
    let client = admin(&kubeconfig).await?;
    let table = [
        ("has-view", "get", "fleetprof.dev/profilesessions", true),
        ("has-view", "get", "data.fleetprof.dev/profilesessions/profile", true),
        ("has-view", "create", "fleetprof.dev/profilesessions", false),
        ("has-view", "profile", "fleetprof.dev/profilingpolicies", false),
        ("has-edit", "create", "fleetprof.dev/profilesessions", true),
        ("has-edit", "profile", "fleetprof.dev/profilingpolicies", true),
        ("has-edit", "create", "fleetprof.dev/profilingpolicies", false),
        ("has-view", "list", "fleetprof.dev/clusterprofilingpolicies", true),
        ("has-edit", "profile", "fleetprof.dev/clusterprofilingpolicies", true),
        ("has-edit", "create", "fleetprof.dev/clusterprofilingpolicies", false),
        ("has-admin", "profile", "fleetprof.dev/clusterprofilingpolicies", true),
        // Whoever writes one puts agents into pods of other namespaces.
        ("has-admin", "create", "fleetprof.dev/clusterprofilingpolicies", false),
        ("has-admin", "patch", "fleetprof.dev/clusterprofilingpolicies", false),
        ("has-admin", "create", "fleetprof.dev/profilingpolicies", true),
        ("has-admin", "patch", "fleetprof.dev/profilesessions/status", false),
    ];
    // The roles are aggregated one after another.
    for (user, verb, resource, _) in table.iter().filter(|(.., expected)| *expected) {
        wait_for(&format!("{user} may {verb} {resource}"), Duration::from_secs(30), || async {
            Ok(can(&client, user, verb, resource).await?.then_some(()))
        })
        .await?;
    }
    for (user, verb, resource, expected) in table {
        assert_eq!(can(&client, user, verb, resource).await?, expected, "{user} {verb} {resource}");
    }
    Ok(())
}

#[tokio::test]
async fn cancelling_needs_no_more_than_update() -> Result<()> {
    let kubeconfig = gate().await?;
    let runner = person(&kubeconfig, Some("runner"), &["system:authenticated"]).await?;
    let mut wanted = session("runner", "one");
    wanted["metadata"] = json!({"generateName": "cancel-", "namespace": NAMESPACE});
    let name = create(&runner, &wanted, false).await?.metadata.name.unwrap_or_default();
    chart::kubectl(
        &kubeconfig,
        &[
            "patch",
            "psess",
            &name,
            "-n",
            NAMESPACE,
            "--as",
            "runner",
            "--as-group",
            "system:authenticated",
            "--type=merge",
            "-p",
            r#"{"spec":{"cancel":true}}"#,
        ],
        None,
    )?;
    let _ = admin(&kubeconfig).await?;
    chart::kubectl(
        &kubeconfig,
        &["delete", "psess", &name, "-n", NAMESPACE, "--as", "runner", "--as-group", "system:authenticated"],
        None,
    )?;
    Ok(())
}

/// Annotates a session as `user`; `word` is as kubectl takes it.
fn annotate(kubeconfig: &Path, user: &str, session: &str, word: &str) -> Result<String> {
    let what = ["annotate", "psess", session, "-n", NAMESPACE, "--overwrite", word];
    let account = ["--as", user, "--as-group", "system:authenticated"];
    chart::kubectl(kubeconfig, &[&what[..], &account].concat(), None)
}

#[tokio::test]
async fn keeping_a_session_needs_a_verb_of_its_own_and_removing_the_annotation_does_not() -> Result<()> {
    let kubeconfig = gate().await?;
    let keeper = person(&kubeconfig, Some("keeper"), &["system:authenticated"]).await?;
    let runner = person(&kubeconfig, Some("runner"), &["system:authenticated"]).await?;
    let wanted = |user: &str, annotations: Value| {
        let mut session = session(user, "one");
        session["metadata"] =
            json!({"generateName": "keep-", "namespace": NAMESPACE, "annotations": annotations});
        session
    };
    let kept = json!({"fleetprof.dev/keep": "incident 4711"});
    let name = create(&runner, &wanted("runner", json!({"team": "a"})), false).await?.metadata.name;
    let name = name.unwrap_or_default();
    let words = "may not set the annotation fleetprof.dev/keep";
    wait_for("the rule is in force", Duration::from_secs(30), || async {
        let refused = annotate(&kubeconfig, "runner", &name, "fleetprof.dev/keep=mine").err();
        Ok(refused.filter(|error| error.to_string().contains(words)).map(drop))
    })
    .await?;
    rejects(&runner, &wanted("runner", kept.clone()), "The ClusterRole fleetprof-keeper grants it").await?;
    accepts(&keeper, &wanted("keeper", kept)).await?;
    annotate(&kubeconfig, "keeper", &name, "fleetprof.dev/keep=incident 4711")?;
    // What others change beside it is none of its business.
    annotate(&kubeconfig, "runner", &name, "team=b")?;
    let changed = annotate(&kubeconfig, "runner", &name, "fleetprof.dev/keep=mine").unwrap_err();
    assert!(changed.to_string().contains(words), "{changed}");
    annotate(&kubeconfig, "runner", &name, "fleetprof.dev/keep-")?;
    chart::kubectl(&kubeconfig, &["delete", "psess", &name, "-n", NAMESPACE], None)?;
    Ok(())
}

/// Patches the status of an object as `user`, who is in `group`, without storing it.
fn patch_status(kubeconfig: &Path, (user, group): (&str, &str), kind: &str, name: &str) -> Result<String> {
    let status = r#"{"status":{"conditions":[]}}"#;
    let patch = ["patch", kind, name, "-n", NAMESPACE, "--subresource=status", "--type=merge", "-p", status];
    let account = ["--dry-run=server", "--as", user, "--as-group", group];
    chart::kubectl(kubeconfig, &[&patch[..], &account].concat(), None)
}

#[tokio::test]
async fn only_the_operator_writes_a_status() -> Result<()> {
    let kubeconfig = gate().await?;
    let (everything, owner) = (json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]), "owner");
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": owner, "namespace": NAMESPACE}, "rules": everything});
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": owner, "namespace": NAMESPACE},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": owner}, "subjects": [{"kind": "User", "name": owner, "apiGroup": "rbac.authorization.k8s.io"}]});
    let cluster = json!({"apiVersion": "fleetprof.dev/v1alpha1", "kind": "ClusterProfilingPolicy", "metadata": {"name": "status"},
        "spec": {"selector": {}, "namespaceSelector": {"matchLabels": {"none": "here"}}}});
    apply(&kubeconfig, &[role, binding, cluster])?;
    let runner = person(&kubeconfig, Some("runner"), &["system:authenticated"]).await?;
    let mut session = session("runner", "one");
    session["metadata"] = json!({"generateName": "status-", "namespace": NAMESPACE});
    let session = create(&runner, &session, false).await?.metadata.name.unwrap_or_default();
    let all = [("psess", session.as_str()), ("ppol", "one"), ("cppol", "status")];
    let (owner, admin) = ((owner, "system:authenticated"), ("admin", "system:masters"));
    wait_for("statuses are guarded", Duration::from_secs(30), || async {
        let guarded = [admin, owner].iter().all(|who| {
            let words = "may not write the status of";
            patch_status(&kubeconfig, *who, "ppol", "one").is_err_and(|e| e.to_string().contains(words))
        });
        Ok(guarded.then_some(()))
    })
    .await?;
    for (kind, name) in all {
        for who in [owner, admin] {
            // The owner of a namespace has no rights on policies of the cluster.
            let refusal = patch_status(&kubeconfig, who, kind, name).unwrap_err().to_string();
            let words = format!("user {} may not write the status of", who.0);
            assert!(refusal.contains(&words) || (who, kind) == (owner, "cppol"), "{kind}: {refusal}");
        }
        patch_status(&kubeconfig, (OPERATOR, "system:masters"), kind, name)?;
        let words = chart::kubectl(&kubeconfig, &["label", kind, name, "-n", NAMESPACE, "seen=yes"], None)?;
        assert!(words.contains("labeled"), "everything else of it is written as before: {words}");
    }
    chart::kubectl(&kubeconfig, &["delete", "psess", &session, "-n", NAMESPACE, "--as", owner.0], None)?;
    chart::kubectl(&kubeconfig, &["delete", "cppol", "status"], None).map(drop)
}
