//! When pods of a workload start without an agent, and when they get one again.

use std::collections::HashSet;

use fleetprof_crds::ProfilingPolicy;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::recent::MOST;
use super::*;
use crate::inject::read;
use crate::view::PolicyView;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_796_000_000 + second).unwrap()
}

fn policy(generation: i64) -> ProfilingPolicy {
    serde_json::from_value(json!({
        "apiVersion": "fleetprof.dev/v1alpha1", "kind": "ProfilingPolicy", "spec": {"selector": {}},
        "metadata": {"namespace": "shop", "name": "all", "uid": "p", "generation": generation},
    }))
    .unwrap()
}

fn owned(kind: &str, name: &str, labels: Value) -> Value {
    let owner = json!({"apiVersion": "v1", "kind": kind, "name": name, "uid": name, "controller": true});
    json!({
        "metadata": {"generateName": format!("{name}-"), "labels": labels, "ownerReferences": [owner]},
        "spec": {"containers": [{"name": "a"}], "volumes": [{"name": "random"}]},
    })
}

fn web(hash: &str) -> Value {
    owned("ReplicaSet", &format!("web-{hash}"), json!({"pod-template-hash": hash}))
}

fn db(hash: &str) -> Value {
    owned("StatefulSet", "db", json!({"controller-revision-hash": hash}))
}

fn said(held: Option<Held>) -> Option<String> {
    held.map(|held| held.words)
}

fn attempt(pod: &Value, generation: i64) -> Attempt {
    attempt_with(pod, generation, "agent:1").unwrap()
}

fn attempt_with(pod: &Value, generation: i64, image: &str) -> Option<Attempt> {
    let policy = policy(generation);
    // As the webhook reads it: what it passes over, no attempt may rest on.
    let pod = read(&pod.to_string()).unwrap();
    Attempt::of((&pod, "shop"), (&PolicyView::from(&policy), image), at(0))
}

/// The UID of the owner of a pod that was made here.
fn uid(pod: &Value) -> &str {
    pod["metadata"]["ownerReferences"][0]["uid"].as_str().unwrap()
}

#[test]
fn pods_that_were_refused_start_without_an_agent_until_workload_or_policy_change() {
    for (now, later) in [(web("1"), web("2")), (db("1"), db("2"))] {
        let mut breaker = Breaker::default();
        let (first, owner) = (attempt(&now, 1), ("shop", uid(&now)));
        assert_eq!(breaker.attempt(first, at(0)), None);
        assert!(breaker.refused(owner, "no\n\u{1b}[1m", at(1)));
        assert!(!breaker.refused(owner, "again", at(2)), "nothing was tried since");
        assert_eq!(said(breaker.attempt(first, at(2))).as_deref(), Some("no [1m"));
        assert_eq!(said(breaker.attempt(first, at(24 * 3600))).as_deref(), Some("no [1m"));
        assert_eq!(breaker.attempt(attempt(&later, 1), at(3)), None, "the workload changed");
        assert!(breaker.attempt(first, at(3)).is_some(), "and changed back to what was refused");
        assert_eq!(breaker.attempt(attempt(&now, 2), at(5)), None, "the policy changed");
        let other = attempt_with(&now, 1, "agent:2").unwrap();
        assert_eq!(breaker.attempt(other, at(5)), None, "the image changed");
        assert_eq!(breaker.attempt(first, at(2 + 24 * 3600)), None, "after a day");
    }
}

/// As in a canary, a paused rollout or a StatefulSet with a partition; or since somebody forges a review.
#[test]
fn pods_of_another_revision_do_not_lift_the_hold_of_the_first() {
    for [one, other] in [[web("1"), web("2")], [db("1"), db("2")]] {
        let mut breaker = Breaker::default();
        let revisions = [&one, &other];
        for (n, pod) in revisions.into_iter().enumerate() {
            assert_eq!(breaker.attempt(attempt(pod, 1), at(n as i64)), None);
            assert!(breaker.refused(("shop", uid(pod)), "no", at(n as i64)));
        }
        for second in 2..60 {
            let pod = revisions[second as usize % 2];
            assert!(breaker.attempt(attempt(pod, 1), at(second)).is_some(), "{second}");
        }
        for n in 0..1_000 {
            let forged = owned("StatefulSet", "db", json!({"controller-revision-hash": n.to_string()}));
            breaker.attempt(attempt(&forged, 1), at(60));
        }
        assert!(breaker.attempt(attempt(&one, 1), at(61)).is_some());
    }
}

#[test]
fn a_refusal_is_put_down_to_each_revision_that_was_just_tried() {
    let mut breaker = Breaker::default();
    let [one, other] = [attempt(&db("1"), 1), attempt(&db("2"), 1)];
    breaker.attempt(one, at(0));
    breaker.attempt(other, at(1));
    assert!(breaker.refused(("shop", "db"), "no", at(2)));
    assert!(breaker.attempt(one, at(3)).is_some() && breaker.attempt(other, at(3)).is_some());
}

/// Whatever refuses pods may not like the annotation either.
#[test]
fn pods_that_are_refused_for_the_words_on_them_are_not_changed_at_all() {
    let mut breaker = Breaker::default();
    let web = attempt(&web("1"), 1);
    let is_told = |held: Option<Held>| held.map(|held| held.is_told);
    let fails = |breaker: &mut Breaker, now| breaker.refused(("shop", "web-1"), "no", at(now));
    breaker.attempt(web, at(0));
    assert!(fails(&mut breaker, 1));
    assert_eq!(is_told(breaker.attempt(web, at(2))), Some(true));
    assert!(!breaker.refused(("evil", "web-1"), "no", at(3)));
    assert_eq!(is_told(breaker.attempt(web, at(3))), Some(true), "an event of another namespace");
    assert!(!fails(&mut breaker, 4), "it gets no agent already");
    for now in [5, 24 * 3600] {
        assert_eq!(breaker.attempt(web, at(now)), Some(Held { words: "no".into(), is_told: false }));
    }
    assert_eq!(breaker.attempt(attempt(&super::tests::web("2"), 1), at(6)), None, "the workload changed");
    breaker.not_started(&pulled("shop", "Failed to pull image \"agent:1\""), at(10));
    assert_eq!(is_told(breaker.attempt(web, at(10))), Some(false), "nor for those of a kubelet");
    assert_eq!(is_told(breaker.attempt(web, at(4 + 24 * 3600))), None, "after a day");
}

#[test]
fn a_failure_without_an_attempt_is_not_ours() {
    let mut breaker = Breaker::default();
    let web = attempt(&web("1"), 1);
    assert!(!breaker.refused(("shop", "web-1"), "exceeded quota", at(0)));
    assert_eq!(breaker.attempt(web, at(1)), None);
    assert!(!breaker.refused(("shop", "web-1"), "exceeded quota", at(121)), "long after it");
    assert_eq!(breaker.attempt(web, at(122)), None);
}

#[test]
fn what_was_refused_before_the_start_is_left_alone_as_well() {
    let mut breaker = Breaker::default();
    let web = attempt(&web("1"), 1);
    breaker.was_refused(("evil", "web-1"), "forged", at(0));
    breaker.was_refused(("shop", "web-1"), "no", at(0));
    assert_eq!(said(breaker.attempt(web, at(1))).as_deref(), Some("no"));
    assert_eq!(breaker.attempt(attempt(&super::tests::web("1"), 2), at(2)), None, "the policy changed");
}

#[test]
fn runs_of_a_cron_job_are_one_workload_and_pods_without_an_owner_none() {
    let minute = at(0).as_second() / 60;
    let run = |n: i64| owned("Job", &format!("tick-{}", minute + n), json!({}));
    let mut breaker = Breaker::default();
    assert_eq!(breaker.attempt(attempt(&run(0), 1), at(0)), None);
    assert!(breaker.refused(("shop", &format!("tick-{minute}")), "no", at(1)));
    assert!(breaker.attempt(attempt(&run(1), 1), at(60)).is_some());
    let mut larger = run(2);
    larger["spec"]["containers"][0]["resources"] = json!({"limits": {"cpu": "1"}});
    assert_eq!(breaker.attempt(attempt(&larger, 1), at(120)), None, "its template changed");
    let bare = json!({"metadata": {"name": "a"}, "spec": {}});
    assert_eq!(attempt_with(&bare, 1, "agent:1"), None);
}

/// What a kubelet says of the sidecar of the pod `web-1-x2x9k`.
fn pulled<'a>(namespace: &'a str, words: &'a str) -> Said<'a> {
    Said { namespace, pod: ("web-1-x2x9k", "p"), reason: "Failed", words, first: at(0) }
}

#[test]
fn an_image_that_cannot_be_pulled_is_left_out_until_nobody_complains() {
    let mut breaker = Breaker::default();
    let web = attempt(&web("1"), 1);
    let words = "Failed to pull image \"agent:1\": not found";
    for unknown in ["Failed to pull image \"agent:2\": not found", "Error: ErrImagePull"] {
        breaker.not_started(&pulled("shop", unknown), at(0));
        assert_eq!(breaker.attempt(web, at(0)), None, "{unknown}");
    }
    assert!(breaker.not_started(&pulled("evil", words), at(0)).is_some());
    assert_eq!(breaker.attempt(web, at(0)), None, "an event of another namespace");
    assert_eq!(breaker.not_started(&pulled("shop", words), at(0)), Some(LeftOut::Image("agent:1".into())));
    assert_eq!(breaker.not_started(&pulled("shop", words), at(300)), None, "it is left out already");
    assert_eq!(said(breaker.attempt(web, at(899))).as_deref(), Some(words));
    assert_eq!(breaker.attempt(web, at(900)), None);
    assert!(breaker.not_started(&pulled("shop", words), at(1000)).is_some());
}

/// The words of containerd and CRI-O, and those with which a kubelet waits before it tries again.
const NOT_STARTED: [(&str, &str); 5] = [
    (
        "Failed",
        "Error: failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create \
         failed: unable to start container process: exec: \"/fleetprof-agent\": stat /fleetprof-agent: no such file",
    ),
    ("Failed", "Error: failed to start containerd task \"fleetprof-agent\": exec format error"),
    ("Failed", "Error: container create failed: executable file not found in $PATH"),
    ("Failed", "Error: container has runAsNonRoot and image will run as root"),
    ("BackOff", "Back-off restarting failed container fleetprof-agent in pod web-1-x2x9k_shop(p)"),
];

#[test]
fn a_sidecar_that_does_not_start_is_left_out_of_its_workload_until_nobody_complains() {
    for (reason, words) in NOT_STARTED {
        let mut breaker = Breaker::default();
        let [web, other] = [attempt(&web("1"), 1), attempt(&owned("ReplicaSet", "other", json!({})), 1)];
        let event = Said { reason, ..pulled("shop", words) };
        for ignored in [
            Said { namespace: "evil", ..event },
            Said { reason: "Unhealthy", ..event },
            Said { pod: ("web-c-x2x9k", "p"), ..event },
            Said { pod: ("", ""), ..event },
        ] {
            breaker.not_started(&ignored, at(0));
            assert_eq!(breaker.attempt(web, at(0)), None, "{ignored:?}");
        }
        assert_eq!(breaker.not_started(&event, at(0)), Some(LeftOut::Workload), "{words}");
        assert_eq!(breaker.not_started(&event, at(300)), None, "it is left out already");
        assert_eq!(said(breaker.attempt(web, at(899))), Some(cause(words).to_owned()));
        assert_eq!(breaker.attempt(other, at(300)), None, "another workload");
        assert_eq!(breaker.attempt(web, at(900)), None);
        assert!(breaker.not_started(&event, at(1000)).is_some());
    }
}

#[test]
fn what_runtimes_put_before_the_cause_is_left_out() {
    let told =
        "unable to start container process: exec: \"/fleetprof-agent\": stat /fleetprof-agent: no such file";
    assert_eq!(cause(NOT_STARTED[0].1), told);
    assert_eq!(cause(NOT_STARTED[1].1), NOT_STARTED[1].1);
    assert_eq!(cause("Error: container create failed: "), "Error: container create failed: ");
}

#[test]
fn the_cause_is_told_and_not_that_the_kubelet_waits() {
    let mut breaker = Breaker::default();
    let web = attempt(&web("1"), 1);
    let back_off = Said { reason: "BackOff", ..pulled("shop", "Back-off restarting failed container") };
    for (event, told) in [
        (back_off, back_off.words),
        (pulled("shop", "Error: exec format error"), "Error: exec format error"),
        (back_off, "Error: exec format error"),
        (pulled("shop", "Error: no such file"), "Error: no such file"),
    ] {
        breaker.not_started(&event, at(0));
        assert_eq!(said(breaker.attempt(web, at(1))).as_deref(), Some(told));
    }
    breaker.not_started(&back_off, at(500));
    assert!(breaker.attempt(web, at(1_000)).is_some(), "it still waits");
}

#[test]
fn an_agent_that_crashes_after_it_has_worked_ends_no_injection() {
    let web = attempt(&web("1"), 1);
    let back_off =
        |first| Said { reason: "BackOff", first: at(first), ..pulled("shop", "Back-off restarting") };
    let started = |first| Said { reason: "Started", first: at(first), ..pulled("shop", "Started container") };
    for (ran_for, is_left_out) in [(5, true), (119, true), (120, false), (86_400, false)] {
        for is_told_late in [false, true] {
            let mut breaker = Breaker::default();
            if is_told_late {
                breaker.not_started(&back_off(ran_for), at(0));
                breaker.started(&started(0));
            } else {
                breaker.started(&started(0));
                let left_out = breaker.not_started(&back_off(ran_for), at(0));
                assert_eq!(left_out.is_some(), is_left_out, "{ran_for}");
            }
            // Each restart is told as well; the first counts.
            breaker.started(&started(ran_for + 10));
            assert_eq!(breaker.attempt(web, at(1)).is_some(), is_left_out, "{ran_for} {is_told_late}");
        }
    }
}

/// Who may not write events can do nothing about what a kubelet said.
#[test]
fn forged_reviews_do_not_hide_a_sidecar_that_does_not_start() {
    let mut breaker = Breaker::default();
    for n in 0..1_000 {
        let mut forged = web("1");
        forged["metadata"]["labels"]["x-hash"] = json!(n.to_string());
        forged["metadata"]["ownerReferences"][0]["uid"] = json!(n.to_string());
        breaker.attempt(attempt(&forged, 1), at(0));
    }
    assert!(breaker.not_started(&pulled("shop", "Error: exec format error"), at(1)).is_some());
    assert!(breaker.attempt(attempt(&web("1"), 1), at(2)).is_some());
}

#[test]
fn an_event_of_another_namespace_ends_nothing() {
    let mut breaker = Breaker::default();
    let web = attempt(&web("1"), 1);
    assert_eq!(breaker.attempt(web, at(0)), None);
    assert!(!breaker.refused(("evil", "web-1"), "forged", at(1)));
    assert_eq!(breaker.attempt(web, at(2)), None);
    assert!(breaker.refused(("shop", "web-1"), "no", at(3)), "and hides nothing");
}

#[test]
fn owners_that_cannot_be_are_not_remembered() {
    let long = "x".repeat(4 << 20);
    for field in ["uid", "kind", "name"] {
        let mut pod = web("1");
        pod["metadata"]["ownerReferences"][0][field] = json!(long);
        assert_eq!(attempt_with(&pod, 1, "agent:1"), None, "{field}");
    }
}

impl Breaker {
    /// Bytes of attempts, and of all that is remembered.
    fn bytes(&self) -> (usize, usize) {
        let words = |complaint: &Complaint| complaint.words.len() + 16;
        let attempts = self.attempts.bytes(|_| 0);
        let said =
            self.refused.bytes(words) + self.before.bytes(words) + self.images.bytes(|(_, c)| words(c));
        let of_pods =
            self.stuck.bytes(|(_, c)| words(c)) + self.started.bytes(|_| 0) + self.untold.bytes(|_| 0);
        (attempts, attempts + said + of_pods)
    }
}

#[test]
fn what_is_remembered_is_bounded_in_bytes() {
    let mut breaker = Breaker::default();
    let long = "é".repeat(100_000);
    for n in 0..2 * MOST + 10 {
        let (now, name) = (at(n as i64 / 100), format!("web-{n}-{}", "x".repeat(200)));
        let namespace = &format!("{n}");
        breaker.was_refused((namespace, &name), &long[..n % 2 * 2_000], now);
        let image = format!("image \"{name}\"");
        breaker.not_started(&pulled(namespace, &image), now);
        let event = Said { pod: (&name, &name), words: &long[..2_000], ..pulled(namespace, "") };
        breaker.not_started(&event, now);
        breaker.started(&event);
        let attempt = attempt(&owned("ReplicaSet", &name, json!({})), 1);
        for _ in 0..2 {
            breaker.attempt(attempt, now);
            breaker.refused(("shop", &name), &long[..2_000], now);
        }
        breaker.attempt(attempt, now);
    }
    let (attempts, all) = breaker.bytes();
    assert!(attempts <= 3 << 20 && all <= 18 << 20, "{attempts} {all}");
    assert!(breaker.refused.len() > MOST / 2, "it is full");
}

proptest! {
    /// However attempts and refusals follow one another: after a refusal no pod of the same revision and policy
    /// gets an agent within the hour, and a workload that was never refused always gets one.
    #[test]
    fn a_refusal_ends_the_injection_of_its_workload_alone(
        steps in proptest::collection::vec((0usize..3, 0i64..2, any::<bool>()), 1..60),
    ) {
        let mut breaker = Breaker::default();
        let mut tried: [HashSet<i64>; 3] = Default::default();
        let mut refused: [HashSet<i64>; 3] = Default::default();
        for (second, (who, generation, fails)) in steps.into_iter().enumerate() {
            let pod = owned("ReplicaSet", &format!("web{who}"), json!({}));
            let now = at(second as i64);
            if fails {
                let is_news = breaker.refused(("shop", uid(&pod)), "no", now);
                prop_assert_eq!(is_news, !tried[who].is_empty());
                refused[who].extend(tried[who].drain());
                continue;
            }
            let held = refused[who].contains(&generation);
            prop_assert_eq!(breaker.attempt(attempt(&pod, generation), now).is_some(), held);
            if !held {
                tried[who].insert(generation);
            }
        }
    }
}
