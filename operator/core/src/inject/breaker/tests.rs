//! When pods of a workload start without an agent, and when they get one again.

use fleetprof_crds::ProfilingPolicy;
use proptest::prelude::*;

use super::*;

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
        "metadata": {"labels": labels, "ownerReferences": [owner]},
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
    let policy = policy(generation);
    Attempt::of((pod, "shop"), (&PolicyView::from(&policy), "agent:1"), at(0)).unwrap()
}

#[test]
fn pods_that_were_refused_start_without_an_agent_until_workload_or_policy_change() {
    for (now, later) in [(web("1"), web("2")), (db("1"), db("2"))] {
        let mut breaker = Breaker::default();
        let first = attempt(&now, 1);
        assert_eq!(breaker.attempt(first.clone(), at(0)), None);
        assert_eq!(breaker.refused(("shop", &first.owner), "no\n\u{1b}[1m", at(1)), Some(first.of.clone()));
        assert_eq!(breaker.refused(("shop", &first.owner), "again", at(2)), None, "nothing was tried since");
        assert_eq!(said(breaker.attempt(first.clone(), at(2))).as_deref(), Some("no [1m"));
        assert_eq!(said(breaker.attempt(first.clone(), at(24 * 3600))).as_deref(), Some("no [1m"));
        assert_eq!(breaker.attempt(attempt(&later, 1), at(3)), None, "the workload changed");
        assert_eq!(breaker.attempt(first.clone(), at(3)), None, "and changed back");
        assert!(breaker.refused(("shop", &first.owner), "no", at(4)).is_some());
        assert_eq!(breaker.attempt(attempt(&now, 2), at(5)), None, "the policy changed");
        assert!(breaker.refused(("shop", &first.owner), "no", at(6)).is_some());
        assert_eq!(breaker.attempt(attempt(&now, 2), at(6 + 24 * 3600)), None, "after a day");
    }
}

/// Whatever refuses pods may not like the annotation either.
#[test]
fn pods_that_are_refused_for_the_words_on_them_are_not_changed_at_all() {
    let mut breaker = Breaker::default();
    let web = attempt(&web("1"), 1);
    let is_told = |held: Option<Held>| held.map(|held| held.is_told);
    let fails = |breaker: &mut Breaker, now| breaker.refused(("shop", &web.owner), "no", at(now));
    breaker.attempt(web.clone(), at(0));
    assert!(fails(&mut breaker, 1).is_some());
    assert_eq!(is_told(breaker.attempt(web.clone(), at(2))), Some(true));
    assert_eq!(breaker.refused(("evil", &web.owner), "no", at(3)), None);
    assert_eq!(is_told(breaker.attempt(web.clone(), at(3))), Some(true), "an event of another namespace");
    assert_eq!(fails(&mut breaker, 4), None, "it gets no agent already");
    for now in [5, 24 * 3600] {
        assert_eq!(breaker.attempt(web.clone(), at(now)), Some(Held { words: "no".into(), is_told: false }));
    }
    assert_eq!(breaker.attempt(attempt(&super::tests::web("2"), 1), at(6)), None, "the workload changed");
    breaker.not_started("shop", "Failed to pull image \"agent:1\"", at(10));
    assert_eq!(is_told(breaker.attempt(web.clone(), at(10))), Some(true));
    fails(&mut breaker, 11);
    assert_eq!(is_told(breaker.attempt(web, at(12))), Some(false), "nor for those of a kubelet");
}

#[test]
fn a_failure_without_an_attempt_is_not_ours() {
    let mut breaker = Breaker::default();
    let web = attempt(&web("1"), 1);
    assert_eq!(breaker.refused(("shop", &web.owner), "exceeded quota", at(0)), None);
    assert_eq!(breaker.attempt(web.clone(), at(1)), None);
    assert_eq!(breaker.refused(("shop", &web.owner), "exceeded quota", at(121)), None, "long after it");
    assert_eq!(breaker.attempt(web, at(122)), None);
}

#[test]
fn what_was_refused_before_the_start_is_left_alone_as_well() {
    let mut breaker = Breaker::default();
    let web = attempt(&web("1"), 1);
    breaker.was_refused(("evil", &web.owner), "forged", at(0));
    breaker.was_refused(("shop", &web.owner), "no", at(0));
    assert_eq!(said(breaker.attempt(web.clone(), at(1))).as_deref(), Some("no"));
    assert_eq!(breaker.attempt(attempt(&super::tests::web("1"), 2), at(2)), None, "the policy changed");
}

#[test]
fn runs_of_a_cron_job_are_one_workload_and_pods_without_an_owner_none() {
    let minute = at(0).as_second() / 60;
    let run = |n: i64| owned("Job", &format!("tick-{}", minute + n), json!({}));
    let mut breaker = Breaker::default();
    assert_eq!(breaker.attempt(attempt(&run(0), 1), at(0)), None);
    let of = breaker.refused(("shop", &format!("tick-{minute}")), "no", at(1)).unwrap();
    assert_eq!(of.1.to_string(), "CronJob/tick");
    assert!(breaker.attempt(attempt(&run(1), 1), at(60)).is_some());
    let mut larger = run(2);
    larger["spec"]["containers"][0]["resources"] = json!({"limits": {"cpu": "1"}});
    assert_eq!(breaker.attempt(attempt(&larger, 1), at(120)), None, "its template changed");
    let policy = policy(1);
    let bare = json!({"metadata": {"name": "a"}, "spec": {}});
    assert_eq!(Attempt::of((&bare, "shop"), (&PolicyView::from(&policy), "agent:1"), at(0)), None);
}

#[test]
fn an_image_that_cannot_be_pulled_is_left_out_until_nobody_complains() {
    let mut breaker = Breaker::default();
    let web = attempt(&web("1"), 1);
    let words = "Failed to pull image \"agent:1\": not found";
    for unknown in ["Failed to pull image \"agent:2\": not found", "Error: ErrImagePull", "say \"agent:1\""] {
        breaker.not_started("shop", unknown, at(0));
        assert_eq!(breaker.attempt(web.clone(), at(0)), None, "{unknown}");
    }
    assert!(breaker.not_started("evil", words, at(0)).is_some());
    assert_eq!(breaker.attempt(web.clone(), at(0)), None, "an event of another namespace");
    assert_eq!(breaker.not_started("shop", words, at(0)).as_deref(), Some("agent:1"));
    assert_eq!(breaker.not_started("shop", words, at(300)), None, "it is left out already");
    assert_eq!(said(breaker.attempt(web.clone(), at(899))).as_deref(), Some(words));
    assert_eq!(breaker.attempt(web, at(900)), None);
    assert!(breaker.not_started("shop", words, at(1000)).is_some());
}

#[test]
fn an_event_of_another_namespace_ends_nothing() {
    let mut breaker = Breaker::default();
    let web = attempt(&web("1"), 1);
    assert_eq!(breaker.attempt(web.clone(), at(0)), None);
    assert_eq!(breaker.refused(("evil", &web.owner), "forged", at(1)), None);
    assert_eq!(breaker.attempt(web.clone(), at(2)), None);
    assert!(breaker.refused(("shop", &web.owner), "no", at(3)).is_some(), "and hides nothing");
}

#[test]
fn what_is_remembered_is_bounded() {
    let mut breaker = Breaker::default();
    let name = |n: usize| format!("web-{n}");
    for n in 0..MOST + 10 {
        let now = at(n as i64 / 100);
        breaker.was_refused(("shop", &name(n)), "no", now);
        breaker.not_started(&name(n), "image \"a\"", now);
        let pod = owned("ReplicaSet", &name(n), json!({}));
        breaker.attempt(attempt(&pod, 1), now);
        breaker.attempt(attempt(&owned("ReplicaSet", &format!("x{n}"), json!({})), 1), now);
        breaker.refused(("shop", &format!("x{n}")), "no", now);
        breaker.attempt(attempt(&owned("ReplicaSet", &format!("x{n}"), json!({})), 1), now);
        breaker.refused(("shop", &format!("x{n}")), "no", now);
        breaker.attempt(attempt(&owned("ReplicaSet", &format!("y{n}"), json!({})), 1), now);
    }
    let held = [
        breaker.attempts.len(),
        breaker.refused.len(),
        breaker.before.len(),
        breaker.images.len(),
        breaker.untold.len(),
    ];
    assert!(held.into_iter().all(|n| n <= MOST), "{held:?}");
}

proptest! {
    /// However attempts and refusals follow one another: after a refusal no pod of the same revision and policy
    /// gets an agent within the hour, and a workload that was never refused always gets one.
    #[test]
    fn a_refusal_ends_the_injection_of_its_workload_alone(
        steps in proptest::collection::vec((0usize..3, 0i64..2, any::<bool>()), 1..60),
    ) {
        let mut breaker = Breaker::default();
        let mut tried: [Option<Terms>; 3] = Default::default();
        let mut refused: [Option<Terms>; 3] = Default::default();
        for (second, (who, generation, fails)) in steps.into_iter().enumerate() {
            let attempt = attempt(&owned("ReplicaSet", &format!("web{who}"), json!({})), generation);
            let now = at(second as i64);
            if fails {
                let known = breaker.refused(("shop", &attempt.owner), "no", now).is_some();
                prop_assert_eq!(known, tried[who].is_some());
                if let Some(terms) = tried[who].take() {
                    refused[who] = Some(terms);
                }
                continue;
            }
            let held = refused[who].as_ref() == Some(&attempt.terms);
            prop_assert_eq!(breaker.attempt(attempt.clone(), now).is_some(), held);
            if !held {
                (tried[who], refused[who]) = (Some(attempt.terms), None);
            }
        }
    }
}
