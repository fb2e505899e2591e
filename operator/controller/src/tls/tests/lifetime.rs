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
fn through_forty_years_the_key_stays_and_whoever_took_any_bundle_trusts_the_server() {
    let mut store = Store::default();
    let mut bundles: Vec<Vec<u8>> = Vec::new();
    let mut authorities = std::collections::BTreeSet::new();
    for day in (0..40 * 365).step_by(30) {
        let now = start() + DAY * day;
        store = settled(store, now);
        assert!(trusts(&store.tls["ca.crt"], &leaf_of(&store), now), "by date, too, on day {day}");
        if authorities.insert(store.ca["ca.crt"].clone()) {
            bundles.push(store.tls["ca.crt"].clone());
        }
        for bundle in &bundles {
            assert!(super::losses::accepts(bundle, &store, now), "on day {day}");
        }
        let in_bundle = parse::certificates("bundle", &store.tls["ca.crt"]).unwrap().len();
        assert_eq!(in_bundle, 1, "the bundle does not grow");
    }
    let keys: std::collections::BTreeSet<_> = authorities
        .iter()
        .map(|ca| parse::public_key(&parse::certificates("ca.crt", ca).unwrap()[0]).unwrap())
        .collect();
    assert_eq!((authorities.len(), keys.len()), (6, 1), "certificates and keys");
}

#[test]
fn a_certificate_without_an_end_is_read() {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(names()).unwrap();
    params.not_after = rcgen::date_time_ymd(9999, 12, 31);
    let own = params.self_signed(&key).unwrap().pem();
    let read = TlsMaterial::from_pem(own.as_bytes(), key.serialize_pem().as_bytes(), own.as_bytes()).unwrap();
    assert_eq!(read.not_after(), Timestamp::MAX);
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
