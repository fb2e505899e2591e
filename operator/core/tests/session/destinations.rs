//! Where do the profiles of a session go, and what does it say of that?

use std::collections::HashSet;

use crate::world::*;
use fleetprof_core::destination::Delivery;
use fleetprof_core::session::deliver;
use fleetprof_crds::Reason;
use fleetprof_crds::session_status::{Phase, TargetPhase};
use fleetprof_crds::wire::CaptureState;
use serde_json::json;

/// A session of one pod with these destinations.
fn ready(destinations: &[&str]) -> World {
    let spec = json!({"target": {"pods": ["a"]}, "duration": "10s", "destinations": destinations});
    let mut w = World::new(spec).with_pod(pod("a")).with_agent("a");
    w.settings.destinations = ["archive", "default", "push"].map(str::to_owned).into();
    w
}

/// The same once it has captured.
fn captured(destinations: &[&str], answers: &[(&str, Delivery)]) -> World {
    let mut w = ready(destinations);
    w.deliveries = answers.iter().map(|(name, answer)| ((*name).to_owned(), answer.clone())).collect();
    w.step();
    w.report("a", CaptureState::Running, 0, None).after(10).report("a", CaptureState::Finished, 1, None);
    w
}

fn delivered(w: &World) -> Option<(String, String, String)> {
    let condition = w.status().conditions.iter().find(|c| c.type_ == deliver::DELIVERED)?;
    Some((condition.status.clone(), condition.reason.clone(), condition.message.clone()))
}

fn told(status: &str, reason: &str, message: &str) -> Option<(String, String, String)> {
    Some((status.into(), reason.into(), message.into()))
}

#[test]
fn without_a_word_profiles_stay_on_the_volume() {
    let w = captured(&["default"], &[]);
    w.is(Phase::Succeeded, Reason::Completed);
    assert_eq!(w.target("a").profiles[0].destinations, ["default"]);
    assert_eq!(delivered(&w), None);
}

#[test]
fn a_destination_that_is_not_configured_is_refused_before_anything_is_captured() {
    let mut w = ready(&["default", "nowhere"]);
    w.step();
    w.is(Phase::Failed, Reason::DestinationUnknown);
    assert!(w.status().message.contains("configured destinations: archive, default, push"));
    assert!(w.status().targets.is_empty());
}

#[test]
fn a_session_ends_once_its_first_destination_holds_the_profiles() {
    let mut w = captured(&["archive"], &[("archive", Delivery::Underway(None))]);
    w.is(Phase::Uploading, Reason::Uploading);
    assert_eq!(w.target("a").phase, TargetPhase::Uploading);
    let problem = Delivery::Underway(Some("Destination archive: no route to host".into()));
    w.deliveries.insert("archive".into(), problem);
    w.after(10).is(Phase::Uploading, Reason::DestinationFailed);
    assert_eq!(w.target("a").message, "Destination archive: no route to host");
    w.after(1800).is(Phase::Processing, Reason::DestinationFailed);
    let delayed = w.status().conditions.iter().any(|c| c.type_ == "ResultsDelayed" && c.status == "True");
    assert!(delayed, "{:?}", w.status().conditions);
    w.deliveries.clear();
    w.after(1).is(Phase::Succeeded, Reason::Completed);
    assert_eq!(w.target("a").profiles[0].destinations, ["archive"]);
    assert!(w.status().completed_late);
}

#[test]
fn an_outage_longer_than_the_deadline_fails_the_session_with_its_cause() {
    let problem = Delivery::Underway(Some("Destination archive: no route to host".into()));
    let mut w = captured(&["archive"], &[("archive", problem)]);
    w.after(25 * 3600).after(1);
    assert_eq!(w.target("a").reason, Some(Reason::DestinationFailed));
    assert_eq!(w.target("a").phase, TargetPhase::Failed);
    assert!(w.status().phase.is_terminal());
    let held = &w.target("a").profiles[0];
    assert!(held.samples == 42 && held.destinations.is_empty(), "it can be read from the volume: {held:?}");
}

#[test]
fn a_refused_profile_is_a_failure_and_stays_readable_on_the_volume() {
    let refused = Delivery::Failed(Reason::UploadRejected, "Destination push: 400: too old".into());
    let w = captured(&["push"], &[("push", refused)]);
    let target = w.target("a");
    assert_eq!((target.phase, target.reason), (TargetPhase::Failed, Some(Reason::UploadRejected)));
    assert_eq!(target.message, "Destination push: 400: too old");
    assert!(target.profiles[0].destinations.is_empty() && target.profiles[0].samples == 42);
}

#[test]
fn the_others_follow_after_the_end_and_hold_up_nothing() {
    let mut w = captured(&["archive", "push"], &[("push", Delivery::Underway(None))]);
    w.is(Phase::Succeeded, Reason::Completed);
    w.after(1);
    assert_eq!(delivered(&w), told("Unknown", "Delivering", "0 of 1 profiles are in all destinations."));
    assert!(w.requeue.unwrap().as_secs() <= 10, "it is asked again soon");
    w.deliveries.insert("push".into(), Delivery::Underway(Some("429: later".into())));
    w.after(10);
    assert_eq!(delivered(&w), told("False", "DestinationFailed", "push: 429: later"));
    let before = w.status().clone();
    assert_eq!(w.after(10).status(), &before, "nothing new is not a write");
    w.deliveries.clear();
    w.after(10);
    assert_eq!(w.target("a").profiles[0].destinations, ["archive", "push"]);
    assert_eq!(delivered(&w), told("True", "Delivered", "1 profile in archive, push."));
    w.after(10);
    assert!(w.asked_to(|a| format!("{a:?}").starts_with("Deliver").then_some(())).is_empty());
    assert!(w.requeue.unwrap().as_secs() > 10);
}

#[test]
fn one_that_is_given_up_is_told_once_and_not_sent_again() {
    let refused = Delivery::Failed(Reason::BacklogFull, "too many".into());
    let mut w = captured(&["archive", "push"], &[("push", refused)]);
    w.after(1);
    assert_eq!(delivered(&w), told("False", "BacklogFull", "push: too many"));
    assert_eq!(w.target("a").profiles[0].failed, ["push"]);
    w.deliveries.clear();
    w.after(10);
    assert_eq!(w.target("a").profiles[0].destinations, ["archive"]);
    assert_eq!(delivered(&w), told("False", "BacklogFull", "push: too many"));
}

#[test]
fn what_did_not_arrive_is_told_once_nothing_is_on_its_way() {
    let mut w = captured(&["archive", "push"], &[("push", Delivery::Underway(Some("no route".into())))]);
    w.after(10);
    assert_eq!(delivered(&w), told("False", "DestinationFailed", "push: no route"));
    let target = &mut w.session.status.as_mut().unwrap().targets[0];
    target.profiles[0].failed = vec!["push".into()];
    w.after(10);
    let (status, reason, message) = delivered(&w).unwrap();
    assert_eq!((status.as_str(), reason.as_str()), ("False", "UploadRejected"));
    assert!(message.starts_with("1 of 1 profiles are not in push"), "{message}");
}

#[test]
fn the_volume_holds_mere_copies_where_an_archive_has_everything() {
    let archives: HashSet<String> = ["archive".to_owned()].into();
    let elsewhere = |w: &World| deliver::is_elsewhere(&w.session, &archives);
    assert!(elsewhere(&captured(&["archive"], &[])));
    assert!(!elsewhere(&captured(&["default"], &[])));
    assert!(!elsewhere(&captured(&["archive", "default"], &[])), "the volume is a destination, too");
    assert!(!elsewhere(&captured(&["push"], &[])), "nothing can be read there");
    assert!(!elsewhere(&captured(&["archive"], &[("archive", Delivery::Underway(None))])));
    let archives: HashSet<String> = ["archive".to_owned(), "push".to_owned()].into();
    let one_waits = captured(&["archive", "push"], &[("push", Delivery::Underway(None))]);
    assert!(!deliver::is_elsewhere(&one_waits.session, &archives), "the second one is sent from the volume");
}
