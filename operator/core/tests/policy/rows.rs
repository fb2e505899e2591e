//! Which workloads have a row in `linkedApps`, and how large is a status?

use fleetprof_core::pod::PodFacts;
use fleetprof_crds::Reason;
use fleetprof_crds::policy::LinkState;
use serde_json::json;

use super::{CREATED, NOW, World, pod, policy_of, session};

#[test]
fn apps_are_counted_by_workload_and_the_list_is_cut_openly() {
    let mut pods: Vec<PodFacts> = (0..150).map(|n| pod(&format!("p{n}"), &format!("app{n:03}"))).collect();
    pods.push(pod("p0b", "app000"));
    let names: Vec<String> = pods.iter().skip(1).map(|p| p.name.clone()).collect();
    let world = World::new(pods).heard_of(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let step = world.step(&policy_of("p", CREATED, json!({})));
    let s = &step.status;
    assert_eq!((s.linked_app_count, s.linked_pod_count, s.linked_apps_truncated), (150, 150, true));
    assert!((60..=100).contains(&s.linked_apps.len()), "{} rows", s.linked_apps.len());
    let first = &s.linked_apps[0];
    assert_eq!(
        (first.name.as_str(), first.pods, first.linked, first.state, first.runtime.as_deref()),
        ("app000", 2, 1, LinkState::PartiallyLinked, Some("Python 3.11"))
    );
    assert!(serde_json::to_vec(s).unwrap().len() < 20 * 1024 * 2, "the list of 100 apps alone");
}

#[test]
fn ten_thousand_linked_workloads_fit_in_20_kilobytes() {
    let pods: Vec<PodFacts> = (0..10_000)
        .map(|n| {
            let name = format!("a-workload-with-a-name-that-people-do-give-{n:05}");
            pod(&name, &name)
        })
        .collect();
    let names: Vec<String> = pods.iter().map(|p| p.name.clone()).collect();
    let mut world = World::new(pods).heard_of(&names.iter().map(String::as_str).collect::<Vec<_>>());
    world.sessions = (0..30)
        .map(|n| {
            session(
                &format!("a-policy-with-a-long-name-{n}"),
                "Schedule",
                if n < 15 { "Succeeded" } else { "Running" },
                NOW - n,
            )
        })
        .collect();
    let status = world.step(&policy_of("p", CREATED, json!({}))).status;
    assert_eq!(
        (status.linked_app_count, status.linked_pod_count, status.linked_apps_truncated),
        (10_000, 10_000, true)
    );
    let bytes = serde_json::to_string(&status).unwrap().len();
    assert!(
        status.linked_apps.len() >= 40 && bytes < 20_000,
        "{} rows, {bytes} bytes",
        status.linked_apps.len()
    );
}

#[test]
fn of_more_apps_than_rows_those_with_a_trouble_have_one() {
    let names: Vec<String> = (0..250).map(|n| format!("app-{n:03}")).collect();
    let pods = names.iter().map(|name| pod(name, name)).collect();
    let heard: Vec<&str> =
        names.iter().map(String::as_str).filter(|name| *name != "app-200" && *name != "app-240").collect();
    let step = World::new(pods).heard_of(&heard).step(&policy_of("p", CREATED, json!({})));
    let rows = &step.status.linked_apps;
    assert_eq!((step.status.linked_app_count, step.status.linked_apps_truncated), (248, true));
    assert!((50..=100).contains(&rows.len()), "as many as there is room for: {}", rows.len());
    let lost: Vec<&str> =
        rows.iter().filter(|a| a.reason == Reason::AgentLost).map(|a| a.name.as_str()).collect();
    assert_eq!(lost, ["app-200", "app-240"]);
    assert!(rows.is_sorted_by_key(|a| a.name.as_str()), "rows are still found by name");
    assert_eq!(step.news.len(), 2, "and are told of");
}
