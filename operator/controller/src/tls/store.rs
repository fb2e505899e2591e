//! What do the two Secrets contain, and how does a step of the plan change them? In memory, without the API.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rustls_pki_types::CertificateDer;

use super::issue::{self, Pair};
use super::plan::{self, Ca, Leaf, Life, Observed, Signer, Step};
use super::{TlsError, parse, provider};

/// Data of a Secret.
pub(super) type Data = BTreeMap<String, Vec<u8>>;

pub(super) const TICKET_KEY: &str = "ticket.key";
pub(super) const BUNDLE: &str = "ca.crt";
const CA: &str = "ca.crt";
const CA_KEY: &str = "ca.key";
const CA_BUNDLE: &str = "bundle.crt";
/// CAs whose key was lost, while their last leaf is served and for a day after.
const PREVIOUS: &str = "previous.crt";
/// Maximum number of steps per pass: each of them once.
const MAX_STEPS: usize = 6;

/// The data of both Secrets.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Store {
    /// `ca.crt`, `ca.key`, `previous.crt`, `bundle.crt`, `ticket.key`.
    pub ca: Data,
    /// `tls.crt`, `tls.key`, `ca.crt`.
    pub tls: Data,
}

impl Store {
    /// Takes what the Secrets have lost from what this process held last.
    pub fn restore(&mut self, held: &Self) {
        self.restore_ticket_key(held);
        if self.ca_key().is_none() && held.ca_key().is_some() {
            tracing::warn!("the key of the CA was lost from its Secret; restoring it from memory");
            copy(&held.ca, &mut self.ca, &[CA, CA_KEY, PREVIOUS, CA_BUNDLE]);
        }
        if self.leaf().is_none() && held.leaf().is_some() {
            copy(&held.tls, &mut self.tls, &["tls.crt", "tls.key", BUNDLE]);
        }
        if self.leaf().is_some_and(|leaf| leaf.signer == Signer::Unknown) {
            self.ca.insert(PREVIOUS.into(), parse::pem(&held.known()).into_bytes());
        }
    }

    /// The same for the key of the tickets alone.
    pub fn restore_ticket_key(&mut self, held: &Self) {
        if self.ticket_key().is_none() {
            copy(&held.ca, &mut self.ca, &[TICKET_KEY]);
        }
    }

    /// Follows the plan to its end.
    pub fn settle(&mut self, dns_names: &[String], now: Timestamp) -> Result<(), TlsError> {
        for _ in 0..MAX_STEPS {
            let step = plan::plan(&self.observe(now), dns_names, now);
            if step == Step::Keep {
                break;
            }
            tracing::info!(?step, "renewing certificates");
            self.apply(step, dns_names, now)?;
        }
        if self.ca_state() == Ca::Unreadable {
            tracing::error!(
                "ca.key in the Secret of the CA is not a key; restore it from a backup, or delete the Secret \
                 to have a new CA announced to the agents"
            );
        }
        Ok(())
    }

    fn observe(&self, now: Timestamp) -> Observed {
        let bundle = self.bundle(now);
        let holds = |data: &Data, name: &str| data.get(name).is_some_and(|b| *b == bundle.as_bytes());
        Observed {
            ca: self.ca_state(),
            leaf: self.leaf(),
            bundle_is_right: holds(&self.ca, CA_BUNDLE) && holds(&self.tls, BUNDLE),
            ticket_key: self.ticket_key().is_some(),
        }
    }

    /// The key that tickets are signed with.
    pub fn ticket_key(&self) -> Option<[u8; 32]> {
        self.ca.get(TICKET_KEY).and_then(|k| k.as_slice().try_into().ok())
    }

    fn ca_state(&self) -> Ca {
        match self.ca_key() {
            Some(_) => Ca::Held(self.authority().and_then(|pair| life(&pair))),
            None if self.ca.get(CA_KEY).is_none_or(Vec::is_empty) => Ca::Gone,
            None => Ca::Unreadable,
        }
    }

    /// The key of the CA, PEM, if it is one.
    pub fn ca_key(&self) -> Option<String> {
        text(&self.ca, CA_KEY).filter(|key| issue::is_key(key))
    }

    /// The CA, if its key matches.
    fn authority(&self) -> Option<Pair> {
        pair(&self.ca, CA, CA_KEY)
    }

    fn leaf(&self) -> Option<Leaf> {
        let certificate = self.served()?;
        let facts = parse::facts("tls.crt", &certificate).ok()?;
        let ca = self.authority().and_then(|ca| first(&ca.certificate));
        let signer = match ca {
            Some(ca) if parse::signed_by(&certificate, &ca) => Signer::Ca,
            _ if self.known().iter().any(|known| parse::signed_by(&certificate, known)) => Signer::LostCa,
            _ => Signer::Unknown,
        };
        let life = Life { from: facts.not_before, until: facts.not_after };
        Some(Leaf { life, dns_names: facts.dns_names, signer })
    }

    /// The certificate that servers present, if its key matches.
    fn served(&self) -> Option<CertificateDer<'static>> {
        first(&pair(&self.tls, "tls.crt", "tls.key")?.certificate)
    }

    /// All certificates of CAs that are anywhere in the Secrets.
    fn known(&self) -> Vec<CertificateDer<'static>> {
        let places = [(&self.ca, CA), (&self.ca, PREVIOUS), (&self.ca, CA_BUNDLE), (&self.tls, BUNDLE)];
        let mut known = Vec::new();
        for certificate in places.into_iter().flat_map(|(data, name)| certificates(data, name)) {
            if !known.contains(&certificate) {
                known.push(certificate);
            }
        }
        known
    }

    /// CAs beside the present one that clients need: those of the leaf that is served, or was until just now.
    fn previous(&self, now: Timestamp) -> Vec<CertificateDer<'static>> {
        let (Some(leaf), Some(certificate)) = (self.leaf(), self.served()) else { return Vec::new() };
        match leaf.signer {
            Signer::Ca if leaf.life.has_just_begun(now) => certificates(&self.ca, PREVIOUS),
            Signer::Ca => Vec::new(),
            _ => self.known().into_iter().filter(|known| parse::signed_by(&certificate, known)).collect(),
        }
    }

    /// All CAs that may have signed the serving certificate, the current one first.
    fn bundle(&self, now: Timestamp) -> String {
        let mut all: Vec<_> = self.authority().and_then(|ca| first(&ca.certificate)).into_iter().collect();
        for previous in self.previous(now) {
            if !all.contains(&previous) {
                all.push(previous);
            }
        }
        parse::pem(&all)
    }

    fn apply(&mut self, step: Step, dns_names: &[String], now: Timestamp) -> Result<(), TlsError> {
        let previous = self.previous(now);
        match step {
            Step::MakeTicketKey => self.make_ticket_key()?,
            Step::MakeCa => self.put_ca(issue::ca(now)?),
            Step::ReissueCa => self.reissue_ca(now)?,
            Step::IssueLeaf => self.issue_leaf(dns_names, now)?,
            Step::WriteBundle => {}
            Step::Keep => return Ok(()),
        }
        self.ca.insert(PREVIOUS.into(), parse::pem(&previous).into_bytes());
        self.ca.retain(|name, value| name != PREVIOUS || !value.is_empty());
        let bundle = self.bundle(now).into_bytes();
        self.ca.insert(CA_BUNDLE.into(), bundle.clone());
        self.tls.insert(BUNDLE.into(), bundle);
        Ok(())
    }

    /// Creates the key of the tickets if missing.
    pub fn make_ticket_key(&mut self) -> Result<(), TlsError> {
        let mut key = [0; 32];
        provider().secure_random.fill(&mut key).map_err(|_| TlsError::Random)?;
        self.ca.insert(TICKET_KEY.into(), key.to_vec());
        Ok(())
    }

    fn put_ca(&mut self, pair: Pair) {
        self.ca.insert(CA.into(), pair.certificate.into_bytes());
        self.ca.insert(CA_KEY.into(), pair.key.into_bytes());
    }

    fn reissue_ca(&mut self, now: Timestamp) -> Result<(), TlsError> {
        let key = self.ca_key().ok_or_else(|| parse::unusable(CA_KEY, "it is not a key"))?;
        let pair = issue::reissued_ca(key, &self.known(), now)?;
        self.put_ca(pair);
        Ok(())
    }

    fn issue_leaf(&mut self, dns_names: &[String], now: Timestamp) -> Result<(), TlsError> {
        let ca = self.authority().ok_or_else(|| parse::unusable(CA, "its key does not match"))?;
        let leaf = issue::leaf(&ca, dns_names, now)?;
        self.tls.insert("tls.crt".into(), leaf.certificate.into_bytes());
        self.tls.insert("tls.key".into(), leaf.key.into_bytes());
        Ok(())
    }
}

fn copy(from: &Data, to: &mut Data, names: &[&str]) {
    let kept = names.iter().filter_map(|name| from.get_key_value(*name));
    to.extend(kept.map(|(name, value)| (name.clone(), value.clone())));
}

fn text(data: &Data, name: &str) -> Option<String> {
    String::from_utf8(data.get(name)?.clone()).ok()
}

fn pair(data: &Data, certificate: &str, key: &str) -> Option<Pair> {
    Some(Pair { certificate: text(data, certificate)?, key: text(data, key)? }).filter(issue::fits)
}

/// The certificates in a bundle; none if it is not one.
fn certificates(data: &Data, name: &str) -> Vec<CertificateDer<'static>> {
    data.get(name).and_then(|pem| parse::certificates("a bundle", pem).ok()).unwrap_or_default()
}

fn first(pem: &str) -> Option<CertificateDer<'static>> {
    parse::certificates("a certificate", pem.as_bytes()).ok()?.into_iter().next()
}

fn life(pair: &Pair) -> Option<Life> {
    let facts = parse::facts("a CA", &first(&pair.certificate)?).ok()?;
    Some(Life { from: facts.not_before, until: facts.not_after })
}
