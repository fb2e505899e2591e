//! What is answered of sessions that captured two revisions, and is one slower than the other?

use std::collections::HashMap;
use std::sync::Arc;

use fleetprof_core::session::compare::between;
use fleetprof_crds::session_status::{Phase, TargetStatus};
use fleetprof_crds::{ProfileKind, ProfileSession};
use serde_json::{Value, json};

use super::fixtures::{Table, World, session};
use crate::gateway::SliceSink;
use crate::results::tests::fixtures::{cpu, scope_of, slice};

const SHOP: &str = "/apis/data.fleetprof.dev/v1alpha1/namespaces/shop/profilesessions";

/// Stores the profile of a pod: three functions, of which `digest` has so many samples.
async fn target(world: &World, uid: &str, pod: &str, revision: &str, digest: u32) -> TargetStatus {
    let wobble = u32::from(pod.as_bytes()[pod.len() - 1] % 5);
    let body = slice(&[("parse", 2_000 + wobble), ("digest", digest + wobble), ("render", 1_500)]);
    let scope = scope_of(&format!("{uid}-{pod}"), uid, pod);
    world.api.results.put_slice(&scope, cpu(0), body.into(), [0; 32]).await.unwrap();
    let stored = world.api.results.assemble(&scope, ProfileKind::Cpu, 1).await.unwrap();
    TargetStatus {
        pod: pod.into(),
        pod_uid: format!("uid-{pod}"),
        workload: "Deployment/orders".into(),
        revision: revision.into(),
        coverage: Some(95),
        profiles: vec![stored],
        ..TargetStatus::default()
    }
}

/// The session `both` of four pods of each revision, and `alone` of four new ones.
async fn world() -> (World, ProfileSession) {
    let mut world = World::new().await;
    let mut both = session(Phase::Succeeded, &[]);
    (both.metadata.name, both.metadata.uid) = (Some("both".into()), Some("uid-both".into()));
    both.spec.compare = serde_json::from_value(json!({"revision": "r2"})).unwrap();
    let mut alone = session(Phase::Succeeded, &[]);
    (alone.metadata.name, alone.metadata.uid) = (Some("alone".into()), Some("uid-alone".into()));
    for n in 1..=4 {
        let old = target(&world, "uid-both", &format!("old-{n}"), "r1", 250).await;
        let new = target(&world, "uid-both", &format!("new-{n}"), "r2", 600).await;
        both.status.as_mut().unwrap().targets.extend([old, new]);
        let other = target(&world, "uid-alone", &format!("new-{n}"), "r2", 600).await;
        alone.status.as_mut().unwrap().targets.push(other);
    }
    let mut wall = alone.clone();
    wall.status.as_mut().unwrap().targets[0].profiles[0].kind = ProfileKind::Wall;
    let table = HashMap::from([("both", both.clone()), ("alone", alone), ("wall", wall)]);
    world.api.sessions = Arc::new(Table(table));
    (world, both)
}

async fn get(world: &World, path: &str) -> (u16, Value) {
    let answer = world.get(&format!("{SHOP}/{path}")).await;
    (answer.status.as_u16(), serde_json::from_slice(&answer.body).unwrap_or_default())
}

#[tokio::test]
async fn a_session_of_two_revisions_says_whether_the_new_one_is_slower() {
    let (world, both) = world().await;
    let (status, said) = get(&world, "both/diff?test=true").await;
    assert_eq!(status, 200, "{said:#}");
    assert_eq!((&said["kind"], &said["result"]), (&json!("ProfileVerdict"), &json!("Regressed")), "{said:#}");
    assert_eq!(said["metadata"], json!({"namespace": "shop", "name": "both", "base": "both"}));
    assert_eq!(
        (&said["baseRevision"], &said["old"]["pods"], &said["new"]["pods"]),
        (&json!("r1"), &json!(4), &json!(4))
    );
    assert_eq!(
        (&said["functions"][0]["name"], &said["functions"][0]["what"]),
        (&json!("digest"), &json!("Rose"))
    );
    assert!(said["message"].as_str().unwrap().starts_with("The new revision is slower: digest (work.py)"));
    let text = world.get(&format!("{SHOP}/both/diff?test=true&format=text")).await;
    assert_eq!(text.text().trim_end(), said["message"].as_str().unwrap());

    let ended = world.api.results.compare(between(&both, None)).await.unwrap();
    assert_eq!(ended.message(), said["message"].as_str().unwrap(), "the same when the session ends");
    let cores = ended.functions[0].old_cores.unwrap();
    let wanted = 250.0 * 0.010_101_010 / 10.0 / 0.95;
    assert!((cores - wanted).abs() < 0.01, "by the pod and what its profile covers: {cores} and {wanted}");
}

#[tokio::test]
async fn profiles_that_are_gone_are_left_out_of_a_verdict() {
    let (world, both) = world().await;
    let mut comparing = between(&both, None);
    for capture in comparing.captures.iter_mut().take(2) {
        capture.uri = "gone".into();
    }
    let verdict = world.api.results.compare(comparing).await.unwrap();
    assert_eq!((verdict.new.pods, verdict.old.pods), (2, 4));
    assert!(verdict.message().starts_with("There are too few pods"), "{}", verdict.message());
}

#[tokio::test]
async fn two_sessions_of_different_times_are_too_few_moments() {
    let (world, _) = world().await;
    let (status, said) = get(&world, "alone/diff?base=both&test=true").await;
    assert_eq!(status, 200, "{said:#}");
    assert_eq!(
        (&said["result"], &said["reason"]),
        (&json!("Inconclusive"), &json!("FewMoments")),
        "{said:#}"
    );
    assert_eq!(said["enough"]["oldMoments"], 19);
}

#[tokio::test]
async fn views_show_the_new_revision_and_its_change_from_the_old_one() {
    let (world, _) = world().await;
    let samples = |rows: &Value, name: &str| {
        let rows = rows["rows"].as_array().unwrap();
        rows.iter().find(|row| row["name"] == name).unwrap()["selfValue"].as_i64().unwrap() / 10_101_010
    };
    let (_, top) = get(&world, "both/top?format=json").await;
    assert!((2_400..2_440).contains(&samples(&top, "digest")), "{top:#}");
    let (_, old) = get(&world, "both/top?format=json&pod=old-1").await;
    assert!((250..260).contains(&samples(&old, "digest")), "{old:#}");
    let (status, diff) = get(&world, "both/diff?format=json&basis=absolute").await;
    assert_eq!((status, &diff["metadata"]["base"]), (200, &json!("both")), "{diff:#}");
    assert_eq!(diff["rows"][0]["name"], "digest", "{diff:#}");
}

#[tokio::test]
async fn what_no_verdict_is_of_is_refused_with_what_helps() {
    let (world, _) = world().await;
    let cases = [
        ("both/diff?test=true&pod=new-1", 400, "omit pod"),
        ("wall/diff?test=true&type=wall&base=both", 400, "use type=cpu"),
        ("alone/diff?test=true", 400, "base=NAME"),
        ("both/diff?test=maybe", 400, "use test=false or true"),
    ];
    for (path, code, words) in cases {
        let (status, said) = get(&world, path).await;
        assert_eq!(status, code, "{path}: {said:#}");
        assert!(said["message"].as_str().unwrap().contains(words), "{path}: {said:#}");
    }
}
