//! Certificates over the years.

use jiff::SignedDuration;

use super::*;
use crate::tls::plan::LEAF_LIFE;

const DAY: SignedDuration = SignedDuration::from_hours(24);

fn start() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

fn trusts(bundle: &[u8], leaf: &CertificateDer<'_>, now: Timestamp) -> bool {
    let lives =
        |c: &CertificateDer<'_>| parse::facts("x", c).is_ok_and(|f| f.not_before <= now && now < f.not_after);
    lives(leaf)
        && parse::certificates("bundle", bundle)
            .unwrap()
            .iter()
            .any(|ca| lives(ca) && parse::signed_by(leaf, ca))
}

#[test]
fn from_nothing_come_a_ca_and_a_leaf_for_our_names() {
    let store = settled(Store::default(), start());
    let facts = parse::facts("tls.crt", &leaf_of(&store)).unwrap();
    assert_eq!(facts.dns_names, names());
    assert_eq!(facts.not_after.duration_since(facts.not_before), LEAF_LIFE);
    assert!(trusts(&store.tls["ca.crt"], &leaf_of(&store), start()));
    assert_eq!(store.ca["bundle.crt"], store.tls["ca.crt"]);
    assert!(store.ticket_key().is_some());
    assert_eq!(material(&store).not_after(), facts.not_after);
}

#[test]
fn what_is_good_is_left_alone() {
    let store = settled(Store::default(), start());
    let later = settled(store.clone(), start() + DAY * 59);
    assert!(later == store);
}

#[test]
fn what_is_spoilt_is_made_anew() {
    let good = settled(Store::default(), start());
    let spoil = |edit: &dyn Fn(&mut Store)| {
        let mut store = good.clone();
        edit(&mut store);
        let store = settled(store, start());
        assert!(trusts(&store.tls["ca.crt"], &leaf_of(&store), start()));
        assert_eq!(store.ca["bundle.crt"], store.tls["ca.crt"]);
        material(&store);
        store
    };
    let other = settled(Store::default(), start());
    assert!(spoil(&|s| drop(s.tls.remove("tls.key"))).ca == good.ca, "a lost leaf leaves the CA alone");
    assert!(spoil(&|s| drop(s.tls.insert("tls.crt".into(), b"junk".to_vec()))).ca == good.ca);
    assert!(
        spoil(&|s| drop(s.tls.insert("tls.key".into(), other.tls["tls.key"].clone()))).ca == good.ca,
        "a key of another leaf"
    );
    assert!(
        spoil(&|s| drop(s.tls.insert("ca.crt".into(), other.tls["ca.crt"].clone()))).tls == good.tls,
        "another bundle"
    );
    assert!(
        spoil(&|s| drop(s.ca.insert("ca.key".into(), other.ca["ca.key"].clone()))).ca["ca.crt"]
            != good.ca["ca.crt"],
        "a CA whose key does not fit"
    );
    assert!(spoil(&|s| s.ca.clear()).ca != good.ca);
    assert!(spoil(&|s| s.tls.clear()).ca == good.ca);
    let ticket = spoil(&|s| drop(s.ca.remove("ticket.key")));
    assert!(ticket.tls == good.tls && ticket.ticket_key() != good.ticket_key());
}

#[test]
fn through_fifteen_years_whoever_took_a_bundle_in_the_last_year_trusts_the_server() {
    let mut store = Store::default();
    let mut bundles: Vec<Vec<u8>> = Vec::new();
    let mut authorities = std::collections::BTreeSet::new();
    for day in (0..15 * 365).step_by(15) {
        let now = start() + DAY * day;
        store = settled(store, now);
        bundles.push(store.tls["ca.crt"].clone());
        authorities.insert(store.ca["ca.crt"].clone());
        let leaf = leaf_of(&store);
        for bundle in bundles.iter().rev().take(365 / 15) {
            assert!(trusts(bundle, &leaf, now), "on day {day}");
        }
        assert!(
            parse::certificates("bundle", &store.tls["ca.crt"]).unwrap().len() <= 3,
            "the bundle does not grow"
        );
    }
    assert_eq!(authorities.len(), 2, "one change of the CA in that time");
}

#[test]
fn no_secret_is_shown() {
    let store = settled(Store::default(), start());
    let shown = format!("{:?}", material(&store));
    let key = String::from_utf8(store.tls["tls.key"].clone()).unwrap();
    assert!(!shown.contains(key.lines().nth(1).unwrap()));
    let junk = TlsMaterial::from_pem(&store.tls["tls.crt"], b"hunter2", &store.tls["ca.crt"])
        .unwrap_err()
        .to_string();
    assert!(junk.contains("tls.key") && !junk.contains("hunter2"), "{junk}");
}

#[test]
fn a_key_of_another_certificate_is_refused() {
    let (a, b) = (settled(Store::default(), start()), settled(Store::default(), start()));
    let refused = TlsMaterial::from_pem(&a.tls["tls.crt"], &b.tls["tls.key"], &a.tls["ca.crt"]).unwrap_err();
    assert!(refused.to_string().starts_with("tls.key is not usable"), "{refused}");
}
