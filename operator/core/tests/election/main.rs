//! What does a replica do about the Lease, in each situation?
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

mod races;

use std::time::Duration;

use fleetprof_core::election::{Answer, Candidate, Decision, Lost, Now, Timing};
use k8s_openapi::api::coordination::v1::Lease;
use serde_json::{Value, json};

/// A replica called `me` and what it has heard so far; times are in seconds.
struct Replica(Candidate);

impl Replica {
    fn new() -> Self {
        Self(Candidate::new("l", "me", Timing::default()))
    }

    fn next(&self, at: f64) -> Decision {
        self.0.next(now(at))
    }

    /// A call that is answered without delay.
    fn hears(mut self, at: f64, answer: Answer) -> Self {
        self.0.calls(&self.next(at));
        self.0.heard(answer, seconds(at), seconds(at), 0.0);
        self
    }

    fn finds(self, at: f64, lease: Value) -> Self {
        self.hears(at, Answer::Found(serde_json::from_value::<Option<Lease>>(lease).unwrap().map(Box::new)))
    }

    /// A replica that leads by a write that was sent at `sent` and answered at `answered`.
    fn leads(sent: f64, answered: f64) -> Self {
        let mut replica = Self::new().finds(sent, json!(null));
        let decision = replica.next(sent);
        replica.0.calls(&decision);
        replica.0.heard(
            Answer::Written(Box::new(lease(json!("me"), 1))),
            seconds(sent),
            seconds(answered),
            0.0,
        );
        replica
    }
}

fn seconds(at: f64) -> Duration {
    Duration::from_secs_f64(at)
}

/// The wall clock shows another hour than the clock of whoever wrote the leases below.
fn now(at: f64) -> Now {
    let wall = "2026-01-01T12:00:00Z".parse::<jiff::Timestamp>().unwrap();
    Now { steady: seconds(at), wall: wall + seconds(at) }
}

fn wait(until: f64) -> Decision {
    Decision::Wait(seconds(until))
}

fn spec(holder: Value, version: u64) -> Value {
    let then = "2026-01-01T00:00:00.000000Z";
    json!({
        "metadata": {"name": "l", "resourceVersion": version.to_string()},
        "spec": {
            "holderIdentity": holder, "leaseDurationSeconds": 15, "leaseTransitions": 7,
            "acquireTime": then, "renewTime": then,
        },
    })
}

fn lease(holder: Value, version: u64) -> Lease {
    serde_json::from_value(spec(holder, version)).unwrap()
}

/// Holder, resourceVersion, acquireTime, leaseTransitions and renewTime of what is written.
fn written(decision: Decision) -> (Option<String>, Option<String>, String, i32, String) {
    let Decision::Write(lease) = decision else { panic!("{decision:?}") };
    let spec = lease.spec.unwrap();
    let time =
        |time: Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime>| time.unwrap().0.to_string();
    (
        spec.holder_identity,
        lease.metadata.resource_version,
        time(spec.acquire_time),
        spec.lease_transitions.unwrap(),
        time(spec.renew_time),
    )
}

#[test]
fn a_lease_that_is_free_or_ours_is_taken_without_waiting() {
    let (me, noon, then) = (Some("me".to_owned()), "2026-01-01T12:00:01Z", "2026-01-01T00:00:00Z");
    let cases = [
        ("there is none", json!(null), (None, noon, 0)),
        ("given back", spec(json!(null), 4), (Some("4"), noon, 8)),
        ("given back, as older clients write it", spec(json!(""), 4), (Some("4"), noon, 8)),
        ("ours: the container was killed and comes back", spec(json!("me"), 4), (Some("4"), then, 7)),
    ];
    for (case, found, (version, acquired, transitions)) in cases {
        let replica = Replica::new();
        assert_eq!(replica.next(1.0), Decision::Look, "{case}");
        let got = written(replica.finds(1.0, found).next(1.0));
        let wanted =
            (me.clone(), version.map(str::to_owned), acquired.to_owned(), transitions, noon.to_owned());
        assert_eq!(got, wanted, "{case}");
    }
}

#[test]
fn anothers_lease_is_taken_once_it_has_not_changed_for_its_duration() {
    let other = |version| spec(json!("other"), version);
    let replica = Replica::new().finds(1.0, other(4));
    assert_eq!(replica.next(1.0), wait(3.0), "its renewTime is 12 h old, by another's clock");
    let replica = replica.finds(3.0, other(4)).finds(15.0, other(4));
    assert_eq!(replica.next(15.0), wait(16.0), "it looks again when the lease may have ended");
    let renewed = Replica(replica.0.clone()).finds(16.0, other(5));
    assert_eq!(renewed.next(16.0), wait(18.0));
    assert_eq!(renewed.finds(30.9, other(5)).next(30.9), wait(31.0));
    let (holder, version, _, transitions, _) = written(replica.finds(16.0, other(4)).next(16.0));
    assert_eq!((holder.as_deref(), version.as_deref(), transitions), (Some("me"), Some("4"), 8));
}

#[test]
fn a_lease_lasts_as_long_as_its_holder_says() {
    let mut long = spec(json!("other"), 4);
    long["spec"]["leaseDurationSeconds"] = json!(60);
    let replica = Replica::new().finds(0.0, long.clone()).finds(59.0, long.clone());
    assert_eq!(replica.next(59.0), wait(60.0));
    assert!(matches!(replica.finds(60.0, long).next(60.0), Decision::Write(_)));
}

#[test]
fn a_lease_that_disappears_while_it_is_held_is_waited_for() {
    let replica = Replica::new().finds(0.0, spec(json!("other"), 4)).finds(5.0, json!(null));
    assert_eq!(replica.next(5.0), wait(7.0), "its holder may lead on until it notices");
    assert!(matches!(replica.finds(15.0, json!(null)).next(15.0), Decision::Write(_)));
}

#[test]
fn standbys_do_not_all_look_at_once() {
    let mut candidate = Replica::new().0;
    let found = Answer::Found(Some(Box::new(lease(json!("other"), 4))));
    candidate.heard(found, seconds(1.0), seconds(1.0), 1.0);
    assert_eq!(candidate.next(now(1.0)), wait(3.4));
}

#[test]
fn a_leader_counts_from_when_it_sent_its_renewal() {
    let leader = Replica::leads(1.0, 3.5);
    assert_eq!(leader.0.leads_until(), Some(seconds(11.0)));
    assert_eq!(leader.next(2.0), wait(3.0));
    let (holder, version, acquired, transitions, renewed) = written(leader.next(3.0));
    assert_eq!((holder.as_deref(), version.as_deref(), transitions), (Some("me"), Some("1"), 7));
    assert_eq!((acquired.as_str(), renewed.as_str()), ("2026-01-01T00:00:00Z", "2026-01-01T12:00:03Z"));
    assert_eq!(leader.next(11.0), Decision::Lost(Lost::NotRenewed));

    let late = Replica::leads(1.0, 11.0);
    assert_eq!((late.0.leads_until(), late.next(11.0)), (None, Decision::Look), "too late to lead by");
}

#[test]
fn a_leader_whose_calls_fail_tries_on_until_its_deadline() {
    let leader = Replica::leads(0.0, 0.0).hears(2.0, Answer::Failed);
    assert_eq!(leader.next(2.0), wait(4.0));
    assert_eq!(leader.next(4.0), Decision::Look, "the write may have been made");
    let again = Replica(leader.0.clone()).finds(4.0, spec(json!("me"), 2));
    assert_eq!(written(again.next(4.0)).1.as_deref(), Some("2"));
    assert_eq!(again.next(10.0), Decision::Lost(Lost::NotRenewed), "a look is not a renewal");

    let cut_off = leader.hears(4.0, Answer::Failed).hears(9.0, Answer::Failed);
    assert_eq!(cut_off.next(9.0), wait(10.0), "it wakes in time to stop");
    assert_eq!(cut_off.0.call_limit(seconds(1.0)), seconds(3.0));
    assert_eq!(cut_off.0.call_limit(seconds(9.0)), seconds(1.0));
    assert_eq!(cut_off.next(10.0), Decision::Lost(Lost::NotRenewed));
}

#[test]
fn a_leader_that_finds_anothers_name_stops_at_once() {
    let leader = Replica::leads(0.0, 0.0).hears(2.0, Answer::Conflict);
    assert_eq!(leader.next(2.0), wait(2.2));
    assert_eq!(leader.next(2.2), Decision::Look);
    let leader = leader.finds(2.2, spec(json!("other"), 9));
    assert_eq!(leader.next(2.2), Decision::Lost(Lost::Taken("other".into())));
    assert_eq!(leader.0.release(now(2.2).wall), None);
}

#[test]
fn a_leader_makes_a_lease_again_that_somebody_deleted() {
    let leader = Replica::leads(0.0, 0.0).hears(2.0, Answer::Conflict).finds(2.2, json!(null));
    assert_eq!(written(leader.next(2.2)).1, None);
}

#[test]
fn only_our_own_lease_is_given_back() {
    let wall = now(5.0).wall;
    assert_eq!(Replica::new().0.release(wall), None, "never took it");
    assert_eq!(
        Replica::new().finds(0.0, spec(json!("me"), 4)).0.release(wall),
        None,
        "an earlier process did"
    );
    let released = written(Replica::leads(0.0, 0.0).0.release(wall).unwrap());
    assert_eq!((released.0, released.1.as_deref()), (None, Some("1")));
    let unsure = Replica::leads(0.0, 0.0).hears(2.0, Answer::Failed);
    assert_eq!(unsure.0.release(wall), Some(Decision::Look));
    assert_eq!(unsure.finds(4.0, spec(json!("other"), 9)).0.release(wall), None);
}
