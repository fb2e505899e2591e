//! What do the two Secrets contain, and how does a step of the plan change them? In memory, without the API.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::issue::{self, Pair};
use super::plan::{self, Leaf, Life, Observed, Step};
use super::{TlsError, parse, provider};

/// Data of a Secret.
pub(super) type Data = BTreeMap<String, Vec<u8>>;

pub(super) const TICKET_KEY: &str = "ticket.key";
pub(super) const BUNDLE: &str = "ca.crt";
/// Maximum number of steps per pass: each of them once.
const MAX_STEPS: usize = 7;

/// The data of both Secrets.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Store {
    /// `ca.crt`, `ca.key`, `next.crt`, `next.key`, `previous.crt`, `bundle.crt`, `ticket.key`.
    pub ca: Data,
    /// `tls.crt`, `tls.key`, `ca.crt`.
    pub tls: Data,
}

impl Store {
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
        Ok(())
    }

    fn observe(&self, now: Timestamp) -> Observed {
        let bundle = self.bundle(now);
        let holds = |data: &Data, name: &str| data.get(name).is_some_and(|b| *b == bundle.as_bytes());
        Observed {
            ca: self.authority("ca").and_then(|pair| life(&pair)),
            next_ca: self.authority("next").and_then(|pair| life(&pair)),
            leaf: self.leaf(),
            bundle_is_right: holds(&self.ca, "bundle.crt") && holds(&self.tls, BUNDLE),
            ticket_key: self.ticket_key().is_some(),
        }
    }

    /// The key that tickets are signed with.
    pub fn ticket_key(&self) -> Option<[u8; 32]> {
        self.ca.get(TICKET_KEY).and_then(|k| k.as_slice().try_into().ok())
    }

    /// The CA in `<role>.crt` and `<role>.key`, if its key matches.
    fn authority(&self, role: &str) -> Option<Pair> {
        pair(&self.ca, &format!("{role}.crt"), &format!("{role}.key"))
    }

    fn leaf(&self) -> Option<Leaf> {
        let pair = pair(&self.tls, "tls.crt", "tls.key")?;
        let certificate = first(&pair.certificate)?;
        let facts = parse::facts("tls.crt", &certificate).ok()?;
        let ca = self.authority("ca").and_then(|ca| first(&ca.certificate));
        let by_ca = ca.is_some_and(|ca| parse::signed_by(&certificate, &ca));
        Some(Leaf {
            life: Life { from: facts.not_before, until: facts.not_after },
            dns_names: facts.dns_names,
            by_ca,
        })
    }

    /// All CAs that may have signed the serving certificate, the current one first.
    fn bundle(&self, now: Timestamp) -> String {
        let text = |name: &str| self.ca.get(name).and_then(|b| String::from_utf8(b.clone()).ok());
        let lasts = |pem: &String| {
            first(pem).and_then(|c| parse::facts("a CA", &c).ok()).is_some_and(|f| f.not_after > now)
        };
        ["ca.crt", "next.crt", "previous.crt"].into_iter().filter_map(text).filter(lasts).collect()
    }

    fn apply(&mut self, step: Step, dns_names: &[String], now: Timestamp) -> Result<(), TlsError> {
        match step {
            Step::MakeTicketKey => self.make_ticket_key()?,
            Step::MakeCa => self.put("ca", issue::ca(now)?),
            Step::AnnounceNextCa => self.put("next", issue::ca(now)?),
            Step::SwitchToNextCa => self.switch(),
            Step::IssueLeaf => self.issue_leaf(dns_names, now)?,
            Step::WriteBundle => {}
            Step::Keep => return Ok(()),
        }
        let bundle = self.bundle(now).into_bytes();
        self.ca.insert("bundle.crt".into(), bundle.clone());
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

    fn put(&mut self, role: &str, pair: Pair) {
        self.ca.insert(format!("{role}.crt"), pair.certificate.into_bytes());
        self.ca.insert(format!("{role}.key"), pair.key.into_bytes());
    }

    /// The key of the old CA is discarded; its certificate is trusted until it expires.
    fn switch(&mut self) {
        let moves = [("ca.crt", "previous.crt"), ("next.crt", "ca.crt"), ("next.key", "ca.key")];
        for (from, to) in moves {
            if let Some(value) = self.ca.remove(from) {
                self.ca.insert(to.into(), value);
            }
        }
    }

    fn issue_leaf(&mut self, dns_names: &[String], now: Timestamp) -> Result<(), TlsError> {
        let ca = self.authority("ca").ok_or_else(|| parse::unusable("ca.crt", "its key does not match"))?;
        let leaf = issue::leaf(&ca, dns_names, now)?;
        self.tls.insert("tls.crt".into(), leaf.certificate.into_bytes());
        self.tls.insert("tls.key".into(), leaf.key.into_bytes());
        Ok(())
    }
}

fn pair(data: &Data, certificate: &str, key: &str) -> Option<Pair> {
    let text = |name: &str| String::from_utf8(data.get(name)?.clone()).ok();
    Some(Pair { certificate: text(certificate)?, key: text(key)? }).filter(issue::fits)
}

fn first(pem: &str) -> Option<rustls_pki_types::CertificateDer<'static>> {
    parse::certificates("a certificate", pem.as_bytes()).ok()?.into_iter().next()
}

fn life(pair: &Pair) -> Option<Life> {
    let facts = parse::facts("a CA", &first(&pair.certificate)?).ok()?;
    Some(Life { from: facts.not_before, until: facts.not_after })
}
