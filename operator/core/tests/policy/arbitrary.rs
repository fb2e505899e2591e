//! A policy whose status, sessions and pods are of any time. A step of it never breaks.

use fleetprof_core::policy::restart;
use fleetprof_core::trigger::{admit, alert, rollout};
use fleetprof_crds::ProfilingPolicyStatus;
use fleetprof_crds::restart::{RestartState, RestartStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use proptest::prelude::*;

use super::*;

/// Any time that there is, the first and the last ones among them.
fn instant() -> impl Strategy<Value = Timestamp> {
    let (first, last) = (Timestamp::MIN.as_second(), Timestamp::MAX.as_second());
    let second = |second| Timestamp::from_second(second).unwrap();
    prop_oneof![
        Just(Timestamp::MIN),
        Just(Timestamp::MAX),
        (first..first + 100).prop_map(second),
        (last - 100..=last).prop_map(second),
        (NOW - 100_000..NOW + 100_000).prop_map(second),
        (first..=last).prop_map(second),
    ]
}

fn time() -> impl Strategy<Value = Option<Time>> {
    prop::option::of(instant().prop_map(Time))
}

fn status() -> impl Strategy<Value = ProfilingPolicyStatus> {
    (
        time(),
        time(),
        time(),
        time(),
        time(),
        any::<i32>(),
        "[+-]{0,20}",
        prop::option::of((instant(), time())),
    )
        .prop_map(|(last, missed, idle, until, next, failed, outcomes, restart)| ProfilingPolicyStatus {
            last_session_time: last,
            last_missed_time: missed,
            last_idle_time: idle,
            outcomes_until: until,
            next_session_time: next,
            failed_rounds: failed,
            outcomes,
            restart: restart.map(|(at, ended)| RestartStatus {
                namespace: "shop".into(),
                kind: "Deployment".into(),
                name: "web".into(),
                agent_version: "0.1.0".into(),
                state: if ended.is_some() { RestartState::Restarted } else { RestartState::Restarting },
                start_time: Time(at),
                progress_time: Time(at),
                ready: 1,
                end_time: ended,
                failed_generation: None,
            }),
            ..ProfilingPolicyStatus::default()
        })
}

fn specs() -> impl Strategy<Value = Value> {
    let triggers = json!({
        "rollout": {"delay": "1h"}, "alerts": [{"matchers": ["alertname=\"Slow\""], "cooldown": "168h"}],
    });
    prop::sample::select(vec![
        json!({"schedule": {"every": "10m", "duration": "30s"}, "triggers": triggers}),
        json!({"schedule": {"every": "168h", "duration": "30s"}, "triggers": triggers}),
        json!({"schedule": {"preset": "Maximum", "duration": "10s"}}),
        json!({"schedule": {"cron": "*/5 * * * *", "timeZone": "Pacific/Apia"}, "triggers": triggers}),
        json!({"schedule": {"cron": "0 0 29 2 *", "timeZone": "Europe/Berlin"}}),
        json!({"schedule": {"cron": "0 0 30 2 *"}}),
    ])
}

/// A session of the policy, of any time.
fn sessions() -> impl Strategy<Value = Vec<ProfileSession>> {
    let trigger = prop::sample::select(vec!["Schedule", "Alert", "Rollout", "OnDemand"]);
    let phase = prop::sample::select(vec!["Running", "Succeeded", "Failed"]);
    let one = (trigger, phase, time(), time()).prop_map(|(trigger, phase, created, ended)| {
        let mut one = session("s", trigger, phase, NOW);
        one.metadata.creation_timestamp = created;
        one.metadata.annotations = Some(
            [("workload", "Deployment/web"), ("source", "rollout"), ("round", "7")]
                .map(|(k, v)| (format!("fleetprof.dev/{k}"), v.to_owned()))
                .into(),
        );
        let status = one.status.as_mut().unwrap();
        (status.end_time, status.start_time) = (ended.clone(), ended);
        one
    });
    prop::collection::vec(one, 0..4)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(700))]
    #[test]
    fn no_time_breaks_a_step(
        status in status(), spec in specs(), sessions in sessions(), created in time(), now in instant(),
        pods in prop::collection::vec((time(), time()), 0..3),
    ) {
        let pods = (0..).zip(pods).map(|(n, (created, ready))| {
            let mut pod = pod(&format!("web-{n}"), "web");
            (pod.created, pod.ready_since) = (created.map(|t| t.0), ready.map(|t| t.0));
            Arc::make_mut(&mut pod.labels).insert("pod-template-hash".into(), "7".into());
            pod
        });
        let mut world = World::new(pods.collect()).heard_of(&["web-0", "web-1"]);
        (world.now, world.sessions) = (now, sessions);
        let mut policy = policy_of("p", CREATED, spec);
        (policy.metadata.creation_timestamp, policy.status) = (created, Some(status));
        let step = world.step(&policy);
        prop_assert!(step.requeue >= SignedDuration::from_secs(1), "{:?}", step.requeue);
    }

    #[test]
    fn no_time_breaks_a_trigger(
        sessions in sessions(), created in time(), now in instant(), alerts in prop::collection::vec((instant(), instant()), 0..4),
        revision in instant(), spec in specs(),
    ) {
        let mut policy = policy_of("p", CREATED, spec);
        policy.metadata.creation_timestamp = created.clone();
        let view = PolicyView::from(&policy);
        let mut pod = pod("web-0", "web");
        (pod.created, pod.ready_since) = (created.clone().map(|t| t.0), created.map(|t| t.0));
        Arc::make_mut(&mut pod.labels).insert("pod-template-hash".into(), "7".into());
        let links = [fleetprof_core::link::PodLink { pod: Arc::new(pod), container: "app".into(), linked: true, reason: Reason::Linked, cause: String::new(), mode: None, has_agent: true }];
        let labels = [("alertname", "Slow"), ("namespace", "shop"), ("pod", "web-0")];
        let labels: BTreeMap<String, String> = labels.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        let told: Vec<alert::Told> = (0..).zip(alerts).map(|(n, (at, starts_at))| {
            let alert = alert::Alert { labels: labels.clone(), fingerprint: format!("{n}"), starts_at };
            alert::Told { at, alert: alert.into() }
        }).collect();
        let mut firings = alert::firings(&view, &alert::Rules::of(&view), &links, &told, now);
        let asked = rollout::questions(&view, &links, now);
        firings.extend(rollout::firings(&view, &links, &asked.into_iter().map(|r| (r, revision)).collect(), now));
        let sessions: Vec<Arc<ProfileSession>> = sessions.into_iter().map(Arc::new).collect();
        let number = firings.len();
        let admitted = admit(&view, firings, &sessions, now);
        prop_assert!(admitted.create.len() + admitted.held.len() <= number);
    }

    #[test]
    fn no_time_breaks_a_restart(status in status(), now in instant(), since in instant()) {
        let situation = restart::Situation {
            now, since, last: status.restart.as_ref(), version: "0.1.0", generation: Some(3), enabled: true,
            suspended: false, pinned: false, links: &[], agents: &HashMap::new(), changes: &HashMap::new(),
            failure: None,
        };
        let facts = restart::WorkloadFacts { restarted_for: Some("0.1.0".into()), ..restart::WorkloadFacts::default() };
        let workloads = restart::looks(&situation).into_iter().map(|key| (key, Some(facts.clone()))).collect();
        let _ = restart::decide(&situation, &restart::Seen { workloads, budgets: vec![] });
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn rounds_go_on_whatever_the_status_says_of_the_time(status in status(), created in time()) {
        let mut world = World::new(vec![pod("a", "web")]).heard_of(&["a"]);
        let mut policy = policy_of("p", CREATED, json!({"schedule": {"every": "10m", "duration": "30s"}}));
        policy.metadata.creation_timestamp = created.filter(|t| t.0 <= world.now).or(policy.metadata.creation_timestamp);
        policy.status = Some(ProfilingPolicyStatus { outcomes: String::new(), failed_rounds: 0, ..status });
        let mut rounds = 0;
        for _ in 0..100 {
            let step = world.step(&policy);
            rounds += step.create.len();
            policy.status = Some(step.status);
            world.now += SignedDuration::from_secs(15);
        }
        prop_assert!((1..=3).contains(&rounds), "{rounds} rounds in 25 min");
    }
}

#[test]
fn a_policy_whose_clock_went_back_says_so_for_an_hour() {
    let mut world = World::new(vec![pod("a", "web")]).heard_of(&["a"]);
    let mut policy = policy_of("p", CREATED, json!({}));
    let ahead = Timestamp::from_second(NOW + 86_400).unwrap();
    policy.status = Some(ProfilingPolicyStatus {
        last_session_time: Some(Time(ahead)),
        ..ProfilingPolicyStatus::default()
    });
    let shown = |step: &Step| step.status.conditions.iter().any(|c| c.type_ == "ClockWentBack");
    for (seconds, wanted) in [(0, true), (60, true), (3500, true), (3700, false), (3800, false)] {
        world.now = Timestamp::from_second(NOW + seconds).unwrap();
        let step = world.step(&policy);
        assert_eq!(shown(&step), wanted, "after {seconds} s");
        policy.status = Some(step.status);
    }
}
