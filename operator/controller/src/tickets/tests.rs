//! Which tickets and credentials are good?

use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use serde_json::json;

use fleetprof_core::agent::{PodAgent, PodId};
use fleetprof_core::time::{after, before};

use super::seal::Seal;
use super::{CREDENTIAL_LIFE, Exchanged, RENEW_AFTER, RENEWABLE, TICKET_LIFE, TicketError, Tickets};

const START: i64 = 1_780_000_000;

fn now() -> Timestamp {
    Timestamp::from_second(START).unwrap()
}

fn pod(name: &str) -> PodId {
    PodId { namespace: "shop".into(), name: format!("pod-{name}"), uid: format!("uid-{name}") }
}

/// The agent that was attached to container `app` of a pod.
fn attached(name: &str) -> PodAgent {
    PodAgent { pod: pod(name), container: Some("app".into()) }
}

fn home() -> IpAddr {
    "10.1.2.3".parse().unwrap()
}

fn tickets() -> Tickets {
    Tickets::new(&[1; 32])
}

fn minted(by: &Tickets) -> String {
    by.mint(&attached("a"), &[home(), "fd00::7".parse().unwrap()], now()).unwrap()
}

#[track_caller]
fn rejects(by: &Tickets, ticket: &str, from: IpAddr, at: Timestamp, why: TicketError) {
    assert_eq!(by.redeem(ticket, from, at).unwrap_err(), why);
}

#[test]
fn a_ticket_is_exchanged_for_a_credential_of_its_pod_and_container() {
    let tickets = tickets();
    let exchanged = tickets.redeem(&minted(&tickets), home(), now()).unwrap();
    assert_eq!(exchanged.agent, attached("a"));
    assert_eq!(exchanged.expires_at, START + CREDENTIAL_LIFE.as_secs());
    assert_eq!(tickets.agent(&exchanged.credential, now()), Ok(attached("a")));
}

#[test]
fn any_of_the_pods_addresses_will_do_in_any_notation() {
    for from in ["10.1.2.3", "::ffff:10.1.2.3", "fd00::7"] {
        let tickets = tickets();
        assert!(tickets.redeem(&minted(&tickets), from.parse().unwrap(), now()).is_ok(), "{from}");
    }
}

#[test]
fn a_ticket_from_elsewhere_is_refused_and_not_used_up() {
    let tickets = tickets();
    let ticket = minted(&tickets);
    rejects(&tickets, &ticket, "10.1.2.4".parse().unwrap(), now(), TicketError::WrongAddress);
    assert!(tickets.redeem(&ticket, home(), now()).is_ok());
}

#[test]
fn a_ticket_is_good_once_also_when_redeemed_from_the_same_address() {
    let tickets = tickets();
    let ticket = minted(&tickets);
    assert!(tickets.redeem(&ticket, home(), now()).is_ok());
    rejects(&tickets, &ticket, home(), now(), TicketError::Replayed);
}

#[test]
fn two_tickets_of_one_moment_are_two_tickets() {
    let tickets = tickets();
    let (one, two) = (minted(&tickets), minted(&tickets));
    assert_ne!(one, two);
    assert!(tickets.redeem(&one, home(), now()).is_ok() && tickets.redeem(&two, home(), now()).is_ok());
}

#[test]
fn a_ticket_is_good_for_minutes() {
    let tickets = tickets();
    let ticket = minted(&tickets);
    rejects(&tickets, &ticket, home(), now() + TICKET_LIFE, TicketError::Expired);
    assert!(tickets.redeem(&ticket, home(), now() + TICKET_LIFE - SignedDuration::from_secs(1)).is_ok());
}

#[test]
fn another_leader_with_the_same_key_accepts_tickets_and_credentials() {
    let (old, new) = (tickets(), tickets());
    let credential = new.redeem(&minted(&old), home(), now()).unwrap().credential;
    assert_eq!(old.agent(&credential, now()), Ok(attached("a")));
}

#[test]
fn what_another_key_made_is_forged() {
    let (tickets, other) = (tickets(), Tickets::new(&[2; 32]));
    rejects(&tickets, &minted(&other), home(), now(), TicketError::Forged);
    let credential = other.redeem(&minted(&other), home(), now()).unwrap().credential;
    assert_eq!(tickets.agent(&credential, now()), Err(TicketError::Forged));
}

#[test]
fn a_ticket_is_no_credential_and_a_credential_no_ticket() {
    let tickets = tickets();
    let ticket = minted(&tickets);
    let credential = tickets.redeem(&ticket, home(), now()).unwrap().credential;
    assert_eq!(tickets.agent(&ticket, now()), Err(TicketError::Forged));
    assert_eq!(tickets.agent(&ticket.replace("fpt1.", "fpc1."), now()), Err(TicketError::Forged));
    rejects(&tickets, &credential, home(), now(), TicketError::Forged);
    rejects(&tickets, &credential.replace("fpc1.", "fpt1."), home(), now(), TicketError::Forged);
}

#[test]
fn a_credential_ends() {
    let tickets = tickets();
    let credential = tickets.redeem(&minted(&tickets), home(), now()).unwrap().credential;
    let last = now() + CREDENTIAL_LIFE - SignedDuration::from_secs(1);
    assert_eq!(tickets.agent(&credential, last), Ok(attached("a")));
    assert_eq!(tickets.agent(&credential, now() + CREDENTIAL_LIFE), Err(TicketError::Expired));
}

#[test]
fn a_credential_is_renewed_again_and_again_while_its_pod_is_there() {
    let tickets = tickets();
    let mut credential = tickets.redeem(&minted(&tickets), home(), now()).unwrap().credential;
    let mut at = now();
    for _ in 0..60 {
        at = after(at, RENEW_AFTER);
        let renewed = tickets.renew(&credential, at, |owner| *owner == pod("a")).unwrap();
        let Exchanged { agent, expires_at, .. } = &renewed;
        assert_eq!((agent, *expires_at), (&attached("a"), after(at, CREDENTIAL_LIFE).as_second()));
        assert_eq!(tickets.agent(&credential, at), Ok(attached("a")), "calls that are under way go on");
        credential = renewed.credential;
    }
    assert_eq!(tickets.agent(&credential, at), Ok(attached("a")));
}

#[test]
fn a_credential_that_ended_while_nobody_answered_is_renewed_but_good_for_nothing_else() {
    let tickets = tickets();
    let credential = tickets.redeem(&minted(&tickets), home(), now()).unwrap().credential;
    let last = before(after(after(now(), CREDENTIAL_LIFE), RENEWABLE), SignedDuration::from_secs(1));
    assert_eq!(tickets.agent(&credential, last), Err(TicketError::Expired));
    assert!(tickets.renew(&credential, last, |_| true).is_ok());
    let late = after(last, SignedDuration::from_secs(1));
    assert_eq!(tickets.renew(&credential, late, |_| true).unwrap_err(), TicketError::Expired);
}

#[test]
fn what_is_no_credential_of_a_pod_that_is_there_is_not_renewed() {
    let (tickets, other) = (tickets(), Tickets::new(&[2; 32]));
    let ticket = minted(&tickets);
    let credential = tickets.redeem(&ticket, home(), now()).unwrap().credential;
    let foreign = other.redeem(&minted(&other), home(), now()).unwrap().credential;
    assert_eq!(tickets.renew(&credential, now(), |_| false).unwrap_err(), TicketError::Moved);
    for forged in [foreign, ticket.clone(), ticket.replace("fpt1.", "fpc1.")] {
        let never_asked = |_: &PodId| unreachable!();
        assert_eq!(tickets.renew(&forged, now(), never_asked).unwrap_err(), TicketError::Forged);
    }
}

#[test]
fn redeemed_tickets_are_forgotten_once_they_have_expired_and_until_then_bounded() {
    let tickets = tickets();
    let redeem = |at| tickets.redeem(&tickets.mint(&attached("a"), &[home()], at).unwrap(), home(), at);
    let busy = (0..20_000).find_map(|n| redeem(now()).err().map(|error| (n, error)));
    assert_eq!(busy, Some((16_384, TicketError::Busy)));
    assert!(redeem(now() + TICKET_LIFE).is_ok());
}

/// What earlier versions made, which named no container.
#[test]
fn tickets_and_credentials_that_name_no_container_are_good_for_the_pod_and_renewed_so() {
    let (tickets, seal) = (tickets(), Seal::new(&[1; 32]));
    let words = ["shop", "pod-a", "uid-a"];
    let ticket = json!({"pod": words, "ips": ["10.1.2.3"], "exp": START + 300, "nonce": u64::MAX});
    let ticket = seal.close("fpt1", &ticket).unwrap();
    assert_eq!(tickets.redeem(&ticket, home(), now()).unwrap().agent, pod("a").into());
    let credential = seal.close("fpc1", &json!({"pod": words, "exp": START + 60})).unwrap();
    assert_eq!(tickets.agent(&credential, now()), Ok(pod("a").into()));
    let renewed = tickets.renew(&credential, now(), |_| true).unwrap().credential;
    assert_eq!(tickets.agent(&renewed, now()), Ok(pod("a").into()));
}

/// An operator that is set back to an earlier version reads what this one made.
#[test]
fn earlier_versions_find_the_pod_where_it_was() {
    let opened: serde_json::Value = Seal::new(&[1; 32]).open("fpt1", &minted(&tickets())).unwrap();
    assert_eq!(opened["pod"], json!(["shop", "pod-a", "uid-a"]));
    assert_eq!(opened["container"], "app");
}

proptest! {
    #[test]
    fn a_tampered_ticket_is_refused(at in 0usize..1000, with in proptest::char::range('!', '~')) {
        let tickets = tickets();
        let mut ticket: Vec<char> = minted(&tickets).chars().collect();
        let at = at % ticket.len();
        prop_assume!(ticket[at] != with);
        ticket[at] = with;
        let ticket: String = ticket.into_iter().collect();
        prop_assert_eq!(tickets.redeem(&ticket, home(), now()).unwrap_err(), TicketError::Forged);
    }
}
