//! Who is told of the end of a session, and what does the session say of that?

use crate::world::*;
use fleetprof_core::destination::Delivery;
use fleetprof_core::outbox::Attempt;
use fleetprof_core::session::Action;
use fleetprof_core::session::links::templates;
use fleetprof_core::session::notify::{NOTIFIED, Receiver, answered};
use fleetprof_crds::Reason;
use fleetprof_crds::compare::{Comparison, ComparisonResult};
use fleetprof_crds::session_status::Phase;
use fleetprof_crds::wire::CaptureState;
use jiff::SignedDuration;
use serde_json::{Value, json};

fn receiver(name: &str, phases: &[&str], verdicts: &[&str]) -> Receiver {
    let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    Receiver::new(name, vec![], &owned(phases), &owned(verdicts)).unwrap()
}

/// A session of one pod that has captured, with these receivers.
fn captured(receivers: Vec<Receiver>, answers: &[(&str, Delivery)]) -> World {
    let mut w = one_pod();
    w.settings.receivers = receivers;
    w.settings.cluster = "prod".into();
    w.deliveries = answers.iter().map(|(name, answer)| ((*name).to_owned(), answer.clone())).collect();
    w.step();
    w.report("a", CaptureState::Running, 0, None).after(10).report("a", CaptureState::Finished, 1, None);
    w.is(Phase::Succeeded, Reason::Completed);
    w
}

fn told(w: &World) -> Option<(String, String, String)> {
    let condition = w.status().conditions.iter().find(|c| c.type_ == NOTIFIED)?;
    Some((condition.status.clone(), condition.reason.clone(), condition.message.clone()))
}

fn saying(status: &str, reason: &str, message: &str) -> Option<(String, String, String)> {
    Some((status.into(), reason.into(), message.into()))
}

fn events(w: &World) -> Vec<(String, Value)> {
    w.asked_to(|action| match action {
        Action::Notify { receiver, notification } => {
            let event: Value = serde_json::from_str(&notification.body).unwrap();
            assert_eq!(event["id"], notification.id.as_str());
            Some((receiver.clone(), event))
        }
        _ => None,
    })
}

#[test]
fn without_receivers_nothing_is_said_of_notifications() {
    let mut w = captured(vec![], &[]);
    w.after(1);
    assert_eq!((told(&w), events(&w)), (None, vec![]));
}

#[test]
fn receivers_are_told_once_the_end_is_on_record() {
    let mut w = captured(vec![receiver("chat", &[], &[])], &[]);
    assert_eq!(events(&w), [], "the end is not written yet");
    assert_eq!(w.status().pending_notifications, ["chat"], "but it is written who is to be told of it");
    assert_eq!(told(&w), saying("Unknown", "Notifying", "Not notified yet: chat."));
    w.after(1);
    let sent = events(&w);
    assert_eq!(sent.len(), 1);
    assert!(w.status().pending_notifications.is_empty());
    assert_eq!(told(&w), saying("True", "Notified", "All receivers were notified."));
    w.after(1);
    assert_eq!(events(&w), [], "once");
}

#[test]
fn an_event_holds_what_the_status_says_and_no_more() {
    let mut w = captured(vec![receiver("chat", &[], &[])], &[("chat", Delivery::Underway(None))]);
    w.session.spec.labels.insert("build".into(), "secret-label".into());
    w.session.spec.requested_by = Some(serde_json::from_value(json!({"username": "jane"})).unwrap());
    w.session.status.as_mut().unwrap().message = "quoted from a process".into();
    w.after(1);
    let (_, event) = events(&w).remove(0);
    let ended = w.status().end_time.as_ref().unwrap().0.to_string();
    let wanted = json!({
        "specversion": "1.0", "type": "dev.fleetprof.session.ended", "id": "s-1-ended",
        "source": "/fleetprof/clusters/prod", "subject": "namespaces/shop/profilesessions/now",
        "time": ended, "datacontenttype": "application/json",
        "data": {
            "cluster": "prod", "namespace": "shop", "session": "now", "uid": "s-1", "app": w.status().app,
            "trigger": "OnDemand", "phase": "Succeeded", "reason": "Completed",
            "startTime": w.status().start_time.as_ref().unwrap().0.to_string(), "endTime": ended,
            "counts": {"desired": 1, "started": 1, "succeeded": 1, "failed": 0, "skipped": 0},
            "samples": w.status().samples, "links": w.status().links,
        },
    });
    assert_eq!(event, wanted);
    w.after(120);
    assert_eq!(events(&w)[0].1, wanted, "the same each time");
}

#[test]
fn a_session_that_ends_before_it_captures_is_told_of_as_well() {
    let mut w = World::new(json!({"target": {"pods": ["gone"]}, "duration": "10s"}));
    w.settings.receivers = vec![receiver("pager", &["Failed"], &[]), receiver("chat", &["Succeeded"], &[])];
    w.step();
    assert_eq!(w.status().phase, Phase::Failed);
    assert_eq!(w.status().pending_notifications, ["pager"]);
    w.after(1);
    assert_eq!(events(&w)[0].1["data"]["phase"], "Failed");
}

#[test]
fn an_outage_is_told_and_tried_for_a_day() {
    let down = Delivery::Underway(Some("it answered 503".into()));
    let mut w = captured(vec![receiver("chat", &[], &[])], &[("chat", down)]);
    w.after(1);
    let (status, reason, message) = told(&w).unwrap();
    assert_eq!((status.as_str(), reason.as_str()), ("False", "NotificationFailed"));
    assert!(message.starts_with("chat: at first, it answered 503; ask an administrator"), "{message}");
    assert_eq!(w.requeue, Some(SignedDuration::from_secs(60)));
    let before = w.status().clone();
    assert_eq!(w.after(60).status(), &before, "nothing new is not a write");
    w.after(5 * 3600);
    assert_eq!(w.requeue, Some(SignedDuration::from_mins(10)), "the longer the seldomer, up to a bound");
    w.after(19 * 3600);
    assert_eq!(events(&w), []);
    assert!(w.status().pending_notifications.is_empty());
    let (_, reason, message) = told(&w).unwrap();
    assert_eq!(reason, "NotificationGivenUp");
    assert!(message.starts_with("chat: not accepted within 24 h after the end"), "{message}");
}

#[test]
fn after_an_outage_all_is_well() {
    let down = Delivery::Underway(Some("no answer".into()));
    let mut w = captured(vec![receiver("a", &[], &[]), receiver("b", &[], &[])], &[("a", down)]);
    w.after(1);
    assert_eq!(w.status().pending_notifications, ["a"], "one that is down holds up no other");
    w.deliveries.clear();
    w.after(60);
    assert_eq!(told(&w), saying("True", "Notified", "All receivers were notified."));
}

#[test]
fn one_that_refuses_is_given_up_and_stays_said() {
    let no = Delivery::Failed(Reason::NotificationGivenUp, "it answered 400".into());
    let mut w = captured(
        vec![receiver("a", &[], &[]), receiver("b", &[], &[])],
        &[("a", no), ("b", Delivery::Underway(None))],
    );
    w.after(1);
    w.deliveries.clear();
    w.after(60);
    assert!(w.status().pending_notifications.is_empty());
    let (status, reason, message) = told(&w).unwrap();
    assert_eq!((status.as_str(), reason.as_str()), ("False", "NotificationGivenUp"));
    assert!(message.starts_with("a: it answered 400"), "{message}");
}

#[test]
fn a_receiver_that_was_removed_is_given_up_and_a_new_one_is_not_told_of_old_ends() {
    let waits = ("a", Delivery::Underway(None));
    let mut w = captured(vec![receiver("a", &[], &[])], &[waits]);
    w.after(1);
    w.settings.receivers = vec![receiver("b", &[], &[])];
    w.after(60);
    assert_eq!(events(&w), []);
    let (_, reason, message) = told(&w).unwrap();
    assert_eq!(reason, "NotificationGivenUp");
    assert!(message.starts_with("a: it is not configured any more"), "{message}");
}

#[test]
fn ends_are_picked_by_phase_verdict_and_namespace() {
    let w = captured(vec![], &[]);
    let mut status = w.status().clone();
    let is_told = |receiver: &Receiver, status: &_| receiver.is_told(&w.session, status);
    let both = receiver("x", &["Failed"], &["Regressed"]);
    assert!(!is_told(&both, &status));
    let comparison = |result| Some(Comparison { result, ..Comparison::default() });
    status.comparison = comparison(ComparisonResult::Regressed);
    assert!(is_told(&both, &status), "either is enough");
    status.comparison = comparison(ComparisonResult::NotRegressed);
    assert!(!is_told(&both, &status));
    status.phase = Phase::Failed;
    assert!(is_told(&both, &status));
    let of = |globs: &[&str]| {
        let globs = globs.iter().map(|glob| (*glob).to_owned()).collect();
        Receiver::new("x", globs, &[], &[]).unwrap().is_told(&w.session, &status)
    };
    assert_eq!([of(&[]), of(&["sh*"]), of(&["team-*"])], [true, true, false]);
    let refused =
        |phases: &[String], verdicts: &[String]| Receiver::new("x", vec![], phases, verdicts).unwrap_err();
    assert_eq!(
        refused(&["Running".into()], &[]),
        "phases: no session ends in \"Running\"; write one of Succeeded, PartiallySucceeded, Failed, Cancelled, \
         Expired"
    );
    assert!(refused(&[], &["Slower".into()]).contains("Regressed, NotRegressed, Inconclusive"));
}

#[test]
fn answers_of_receivers_mean_what_http_says() {
    let after = Some(SignedDuration::from_secs(7));
    assert!([200, 202, 204].into_iter().all(|code| answered(code, None) == Attempt::Stored));
    assert_eq!(answered(429, after), Attempt::Again("it answered 429".into(), after));
    for code in [400, 410, 413, 415, 422] {
        assert!(matches!(answered(code, None), Attempt::Failed(Reason::NotificationGivenUp, _)), "{code}");
    }
    for code in [401, 403, 404, 408, 500, 503] {
        assert!(matches!(answered(code, None), Attempt::Again(..)), "{code}");
    }
    let Attempt::Again(why, _) = answered(307, None) else { panic!("it was followed") };
    assert!(why.contains("redirects are not followed"), "{why}");
}

#[test]
fn links_are_made_at_the_end_and_stay_as_they_are() {
    let view = |url: &str| templates([("view", url)].into_iter()).unwrap();
    let mut w = one_pod();
    w.settings.links = view("https://g/${namespace}/${session}");
    w.step();
    w.report("a", CaptureState::Running, 0, None);
    w.after(10).report("a", CaptureState::Finished, 1, None);
    let last = |w: &World| w.status().links.last().unwrap().url.clone();
    assert_eq!(last(&w), "https://g/shop/now");
    assert_eq!(w.status().links[0].name, "profile", "beside those to the read API");
    w.settings.links = view("https://other/${session}");
    w.after(10);
    assert_eq!(last(&w), "https://g/shop/now");
}

/// A receiver that fails now in this way and now in that would have every session that waits written again.
#[test]
fn causes_that_take_turns_write_no_status() {
    let busy = |cause: &str| Delivery::Underway(Some(cause.to_owned()));
    let both = vec![receiver("chat", &[], &[]), receiver("pager", &[], &[])];
    let mut w = captured(both, &[("chat", busy("it answered 503")), ("pager", busy("it answered 500"))]);
    w.after(1);
    let first = told(&w);
    assert!(
        first.as_ref().is_some_and(|(_, reason, message)| {
            reason == "NotificationFailed" && message.contains("503")
        })
    );
    for cause in ["no answer within 10 s", "it answered 401"] {
        w.deliveries.insert("pager".into(), busy(cause));
        w.after(60);
        assert_eq!(told(&w), first);
    }
    for name in ["chat", "pager"] {
        w.deliveries.insert(name.into(), Delivery::Stored);
    }
    w.after(60);
    assert_eq!(told(&w), saying("True", "Notified", "All receivers were notified."));
}
