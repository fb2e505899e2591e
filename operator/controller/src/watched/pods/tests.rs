use serde_json::json;
use tokio::sync::mpsc::unbounded_channel;

use super::*;

fn pod(uid: &str, start: &str) -> Guarded<Pod> {
    let meta = json!({"namespace": "shop", "name": uid, "uid": uid});
    let status = json!({"phase": "Running", "startTime": start});
    serde_json::from_value(json!({"metadata": meta, "spec": {"containers": []}, "status": status})).unwrap()
}

fn uids(pods: &Pods) -> HashSet<String> {
    pods.namespace("shop").iter().map(|p| p.uid.clone()).collect()
}

const GOOD: &str = "2026-01-01T00:00:00Z";
const BAD: &str = "9999-12-31T23:59:59Z";

#[test]
fn a_pod_that_cannot_be_read_is_kept_as_it_was_known_last() {
    let (changes, mut told) = unbounded_channel();
    let pods = Pods::default();
    let mut writer = Writer::new(pods.clone(), changes, WatchMetrics::default());
    let list = |writer: &mut Writer, listed: [Guarded<Pod>; 2]| {
        writer.take(Event::Init);
        listed.into_iter().for_each(|pod| writer.take(Event::InitApply(pod)));
        writer.take(Event::InitDone);
    };
    let set = |uids: &[&str]| uids.iter().map(|u| (*u).to_owned()).collect::<HashSet<_>>();
    list(&mut writer, [pod("good", GOOD), pod("bad", BAD)]);
    assert_eq!((uids(&pods), &writer.unreadable), (set(&["good"]), &set(&["bad"])));

    writer.take(Event::Apply(pod("good", BAD)));
    list(&mut writer, [pod("good", BAD), pod("bad", GOOD)]);
    assert_eq!((uids(&pods), &writer.unreadable), (set(&["good", "bad"]), &set(&["good"])));
    assert!(told.try_recv().is_err(), "nothing of it has changed");

    writer.take(Event::Delete(pod("good", BAD)));
    assert_eq!((uids(&pods), writer.unreadable.len()), (set(&["bad"]), 0));
    assert_eq!(told.try_recv().unwrap().uid, "good");
}

#[test]
fn nothing_is_kept_of_a_namespace_whose_pods_are_gone() {
    let (changes, _told) = unbounded_channel();
    let pods = Pods::default();
    let mut writer = Writer::new(pods.clone(), changes, WatchMetrics::default());
    let built = |n: usize| -> Guarded<Pod> {
        let meta = json!({"namespace": format!("ci-{n}"), "name": "build", "uid": format!("u{n}")});
        serde_json::from_value(json!({"metadata": meta, "spec": {"containers": []}})).unwrap()
    };
    writer.take(Event::Apply(pod("stays", GOOD)));
    for n in 0..1000 {
        writer.take(Event::Apply(built(n)));
        writer.take(Event::Delete(built(n)));
    }
    let namespaces = pods.read(|all| all.keys().cloned().collect::<Vec<_>>());
    assert_eq!(namespaces, ["shop"]);
}

fn of_job(uid: &str) -> Guarded<Pod> {
    let owner =
        json!({"apiVersion": "batch/v1", "kind": "Job", "name": "manual", "uid": "j", "controller": true});
    let meta = json!({"namespace": "shop", "name": uid, "uid": uid, "ownerReferences": [owner]});
    serde_json::from_value(json!({"metadata": meta, "spec": {"containers": []}})).unwrap()
}

#[test]
fn the_owner_of_a_job_is_the_workload_of_its_pods_whichever_is_seen_first() {
    let (changes, _told) = unbounded_channel();
    let pods = Pods::default();
    let mut writer = Writer::new(pods.clone(), changes, WatchMetrics::default());
    let workload = |uid: &str| pods.get("shop", uid).unwrap().workload.to_string();
    writer.take(Event::Apply(of_job("before")));
    writer.take(Event::Apply(pod("other", GOOD)));
    assert_eq!(workload("before"), "Job/manual");
    pods.set_above_job("shop", "j", Workload { kind: "CronJob".into(), name: "tick".into() });
    writer.take(Event::Apply(of_job("after")));
    let all = |of: [&str; 3]| of.map(workload);
    assert_eq!(all(["before", "after", "other"]), ["CronJob/tick", "CronJob/tick", "Pod/other"]);

    writer.take(Event::Init);
    writer.take(Event::InitApply(of_job("listed")));
    writer.take(Event::InitDone);
    assert_eq!(workload("listed"), "CronJob/tick");

    pods.forget_job("j");
    assert!(pods.0.read().unwrap().above_jobs.is_empty(), "nothing is kept of a Job that is gone");
}
