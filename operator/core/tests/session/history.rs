//! What people started is kept by number, in each namespace.

use std::sync::Arc;

use fleetprof_core::session::history::over;
use fleetprof_crds::ProfileSession;
use serde_json::{Value, json};

fn session(namespace: &str, name: &str, spec: Value, status: Value) -> Arc<ProfileSession> {
    Arc::new(
        serde_json::from_value(json!({
            "apiVersion": "fleetprof.dev/v1alpha1", "kind": "ProfileSession",
            "metadata": {"name": name, "namespace": namespace, "uid": name}, "spec": spec, "status": status,
        }))
        .unwrap(),
    )
}

fn ended(namespace: &str, name: &str, minute: u32) -> Arc<ProfileSession> {
    session(namespace, name, json!({}), ended_at(minute))
}

fn ended_at(minute: u32) -> Value {
    json!({"phase": "Succeeded", "endTime": format!("2027-01-01T10:{minute:02}:00Z")})
}

fn names(sessions: &[Arc<ProfileSession>], keep: usize) -> Vec<String> {
    over(sessions, keep).iter().map(|s| s.metadata.name.clone().unwrap()).collect()
}

#[test]
fn the_newest_of_each_namespace_stay() {
    let all = [
        ended("a", "a1", 1),
        ended("a", "a3", 3),
        ended("a", "a2", 2),
        ended("b", "b1", 1),
        ended("b", "b2", 2),
    ];
    assert_eq!(names(&all, 1), ["a2", "a1", "b1"]);
    assert_eq!(names(&all, 2), ["a1"]);
    assert_eq!(names(&all, 0).len(), 5);
    assert_eq!(names(&all, 5), [""; 0]);
}

#[test]
fn a_policy_makes_no_difference_and_what_policies_start_is_theirs() {
    let policy = |trigger: &str| json!({"policyRef": {"name": "p"}, "trigger": trigger});
    let all = [
        session("a", "mine", policy("OnDemand"), ended_at(1)),
        session("a", "scheduled", policy("Schedule"), ended_at(1)),
        session("a", "triggered", policy("CPU"), ended_at(1)),
    ];
    assert_eq!(names(&all, 0), ["mine"]);
}

#[test]
fn what_somebody_wants_kept_stays_and_takes_nobodys_place() {
    let mut kept = ProfileSession::clone(&ended("a", "kept", 9));
    kept.metadata.annotations = Some([("fleetprof.dev/keep".to_owned(), String::new())].into());
    let all = [Arc::new(kept), ended("a", "a1", 1), ended("a", "a2", 2)];
    assert_eq!(names(&all, 1), ["a1"]);
    assert_eq!(names(&all, 0), ["a2", "a1"]);
}

#[test]
fn the_root_of_a_session_that_somebody_wants_kept_stays_with_it() {
    let series = json!({"phase": "Succeeded", "endTime": "2027-01-01T10:01:00Z",
        "repeat": {"captures": [], "made": 2, "succeeded": 2, "failed": 0, "endTime": "2027-01-01T10:05:00Z"}});
    let root = session("a", "peak", json!({"repeat": {"interval": "1m", "count": 2}}), series);
    let mut child = ProfileSession::clone(&ended("a", "peak-2", 5));
    child.metadata.owner_references = Some(
        serde_json::from_value(json!([{"apiVersion": "fleetprof.dev/v1alpha1", "kind": "ProfileSession",
            "name": "peak", "uid": "peak", "controller": true}]))
        .unwrap(),
    );
    assert_eq!(names(&[Arc::clone(&root), Arc::new(child.clone())], 0), ["peak"]);
    child.metadata.annotations = Some([("fleetprof.dev/keep".to_owned(), String::new())].into());
    assert_eq!(names(&[root, Arc::new(child)], 0), [""; 0]);
}

#[test]
fn what_runs_or_is_repeated_stays_and_repeats_go_with_their_root() {
    let repeat = json!({"repeat": {"interval": "5m", "count": 3}});
    let series = |end: Value| {
        let mut status = ended_at(1);
        status["repeat"] = json!({"made": 1, "succeeded": 1, "failed": 0, "captures": [], "endTime": end});
        status
    };
    let mut follow_up = (*ended("a", "root-2", 2)).clone();
    follow_up.metadata.owner_references = Some(vec![
        serde_json::from_value(json!({
            "apiVersion": "fleetprof.dev/v1alpha1", "kind": "ProfileSession", "name": "root", "uid": "root", "controller": true,
        }))
        .unwrap(),
    ]);
    let all = [
        session("a", "running", json!({}), json!({"phase": "Running"})),
        session("a", "new", json!({}), json!(null)),
        session("a", "root", repeat.clone(), series(json!(null))),
        session("a", "done", repeat, series(json!("2027-01-01T11:00:00Z"))),
        Arc::new(follow_up),
    ];
    assert_eq!(names(&all, 0), ["done"]);
    let later = ended("a", "later", 30);
    assert_eq!(names(&[all[3].clone(), later], 1), ["later"], "a series ends with its last capture");
}
