//! Clocks that step, Secrets that are lost: which keys are there afterwards, and do agents still trust the
//! server?

use std::time::Duration;

use jiff::SignedDuration;
use proptest::prelude::*;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls_pki_types::UnixTime;

use super::*;
use crate::tls::issue::{self, Pair};
use crate::tls::store::Data;

const DAY: SignedDuration = SignedDuration::from_hours(24);

fn start() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

/// What an agent with this bundle says of the leaf that the store has a server present.
pub fn accepts(bundle: &[u8], store: &Store, now: Timestamp) -> bool {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(parse::certificates("bundle", bundle).unwrap_or_default());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build();
    let now = UnixTime::since_unix_epoch(Duration::from_secs(now.as_second().unsigned_abs()));
    let leaf = parse::certificates("tls.crt", store.tls.get("tls.crt").map_or(&[], Vec::as_slice));
    let name = ServerName::try_from(NAME).unwrap();
    match (verifier, leaf) {
        (Ok(verifier), Ok(leaf)) => verifier.verify_server_cert(&leaf[0], &[], &name, &[], now).is_ok(),
        _ => false,
    }
}

/// What happens to a Secret, or to a part of it.
#[derive(Clone, Copy, Debug)]
enum Damage {
    None,
    Missing(&'static str),
    Garbage(&'static str),
    /// A certificate as it would have been made so many days later, or earlier.
    OfAnotherDay(&'static str, i64),
}

const PARTS: [&str; 8] =
    ["ca", "ca/ca.key", "ca/ca.crt", "ca/bundle.crt", "tls", "tls/tls.crt", "tls/tls.key", "tls/ca.crt"];

impl Damage {
    fn any() -> impl Strategy<Value = Self> {
        let part = || prop::sample::select(PARTS.as_slice());
        let dated = prop::sample::select(["ca/ca.crt", "tls/tls.crt"].as_slice());
        prop_oneof![
            Just(Self::None),
            part().prop_map(Self::Missing),
            part().prop_map(Self::Garbage),
            (dated, -3650i64..3650).prop_map(|(part, days)| Self::OfAnotherDay(part, days)),
        ]
    }

    fn strike(self, store: &mut Store, now: Timestamp) {
        match self {
            Self::None => {}
            Self::Missing(part) => of(part, store, |data, name| drop(data.remove(name))),
            Self::Garbage(part) => {
                of(part, store, |data, name| drop(data.insert(name.into(), b"junk".to_vec())))
            }
            Self::OfAnotherDay(part, days) => redate(part, store, now + DAY * i32::try_from(days).unwrap()),
        }
    }
}

/// Does it to one part of a Secret, or to all.
fn of(part: &str, store: &mut Store, damage: impl Fn(&mut Data, &str)) {
    let (secret, name) = part.split_once('/').unwrap_or((part, ""));
    let data = if secret == "ca" { &mut store.ca } else { &mut store.tls };
    let names: Vec<String> = data.keys().filter(|key| name.is_empty() || *key == name).cloned().collect();
    names.iter().for_each(|name| damage(data, name));
}

fn redate(part: &str, store: &mut Store, day: Timestamp) {
    let Some(key) = store.ca_key() else { return };
    let Ok(known) = parse::certificates("ca.crt", store.ca.get("ca.crt").map_or(&[], Vec::as_slice)) else {
        return;
    };
    let ca = issue::reissued_ca(key, &known, day).unwrap();
    if part == "ca/ca.crt" {
        store.ca.insert("ca.crt".into(), ca.certificate.into_bytes());
    } else {
        let Pair { certificate, key } = issue::leaf(&ca, &names(), day).unwrap();
        store.tls.insert("tls.crt".into(), certificate.into_bytes());
        store.tls.insert("tls.key".into(), key.into_bytes());
    }
}

fn is_whole(store: &Store) -> bool {
    let part = |name: &str| store.tls.get(name).map_or(&[][..], Vec::as_slice);
    let text = |name: &str| String::from_utf8_lossy(part(name)).into_owned();
    issue::fits(&Pair { certificate: text("tls.crt"), key: text("tls.key") })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn a_key_changes_only_when_it_is_gone_and_agents_that_knew_the_last_bundle_trust_the_server(
        events in prop::collection::vec((-3650i64..3650, Damage::any(), any::<bool>()), 1..5),
    ) {
        let mut now = start();
        let mut store = settled(Store::default(), now);
        for (days, damage, restarts) in events {
            let (before, bundle) = (store.clone(), store.tls["ca.crt"].clone());
            now += DAY * i32::try_from(days).unwrap();
            damage.strike(&mut store, now);
            let held = if restarts { Store::default() } else { before };
            let key = store.ca_key().or(held.ca_key());
            let survives = |store: &Store| is_whole(store) && accepts(&bundle, store, now);
            let leaf_survives = survives(&store) || !is_whole(&store) && survives(&held);
            store.restore(&held);
            store = settled(store, now);
            if key.is_some() {
                prop_assert_eq!(store.ca_key(), key.clone(), "the key was held");
            }
            prop_assert!(accepts(&store.tls["ca.crt"], &store, now), "who reads the bundle now");
            prop_assert_eq!(&store.ca["bundle.crt"], &store.tls["ca.crt"]);
            prop_assert!(is_whole(&store), "the leaf has its key");
            if key.is_some() || leaf_survives {
                prop_assert!(accepts(&bundle, &store, now), "who knew the bundle before");
            }
            let again = settled(store.clone(), now);
            prop_assert!(again == store, "it is settled");
        }
    }
}

#[test]
fn a_lost_ca_leaves_agents_the_life_of_its_leaf_to_learn_of_the_next() {
    let old = settled(Store::default(), start());
    let lost = Store { ca: Data::new(), ..old.clone() };
    let mut store = settled(lost, start() + DAY * 10);
    let both = store.tls["ca.crt"].clone();
    assert_ne!(store.ca_key(), old.ca_key());
    assert_eq!(leaf_of(&store), leaf_of(&old), "the old leaf is served on");
    assert_eq!(parse::certificates("bundle", &both).unwrap().len(), 2, "and both CAs are announced");
    for day in 11..200 {
        let now = start() + DAY * day;
        store = settled(store, now);
        assert_eq!(leaf_of(&store) == leaf_of(&old), day < 89, "on day {day}");
        assert!(accepts(&both, &store, now), "on day {day}");
        assert_eq!(accepts(&old.tls["ca.crt"], &store, now), day < 89, "on day {day}");
    }
    assert_eq!(
        parse::certificates("bundle", &store.tls["ca.crt"]).unwrap().len(),
        1,
        "the lost CA is forgotten"
    );
    assert!(!store.ca.contains_key("previous.crt"));
}

#[test]
fn an_unreadable_key_is_left_as_it_is_until_a_leaf_is_due() {
    let old = settled(Store::default(), start());
    let mut store = old.clone();
    store.ca.insert("ca.key".into(), b"junk".to_vec());
    let spoilt = store.clone();
    let waiting = settled(store.clone(), start() + DAY * 59);
    assert!(waiting == spoilt, "somebody may still restore it");
    let mut restored = waiting.clone();
    restored.ca.insert("ca.key".into(), old.ca["ca.key"].clone());
    assert!(settled(restored, start()) == old);
    store = settled(waiting, start() + DAY * 60);
    assert!(store.ca_key().is_some() && store.ca_key() != old.ca_key());
    assert_eq!(leaf_of(&store), leaf_of(&old), "agents have 29 days to learn of the next CA");
}

#[test]
fn what_the_secrets_lose_while_the_leader_runs_is_restored() {
    let good = settled(Store::default(), start());
    for part in PARTS {
        for damage in [Damage::Missing(part), Damage::Garbage(part)] {
            let mut store = good.clone();
            damage.strike(&mut store, start());
            store.restore(&good);
            let store = settled(store, start());
            assert_eq!((store.ca_key(), leaf_of(&store)), (good.ca_key(), leaf_of(&good)), "{damage:?}");
            assert_eq!(store.ticket_key(), good.ticket_key(), "{damage:?}");
            assert!(accepts(&good.tls["ca.crt"], &store, start()), "{damage:?}");
        }
    }
}
