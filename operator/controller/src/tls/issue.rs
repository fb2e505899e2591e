//! How are certificates created? With ECDSA P-256, valid from an hour ago to tolerate clock skew.

use fleetprof_core::time::{after, before};
use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PublicKeyData,
};

use rustls_pki_types::CertificateDer;

use super::plan::{BACKDATED, CA_LIFE, LEAF_LIFE};
use super::{TlsError, parse};
use crate::sha256::sha256;

/// A certificate and its key, PEM.
pub(super) struct Pair {
    pub certificate: String,
    pub key: String,
}

/// A CA that can sign leaves but no other CAs, with a key of its own.
pub(super) fn ca(now: Timestamp) -> Result<Pair, TlsError> {
    let key = KeyPair::generate().map_err(|e| TlsError::Issue("of the CA", e))?;
    self_signed(ca_params(&key, now), &key, key.serialize_pem())
}

/// The CA of a key that is held already, for another life. Its name is that of its certificate in `known`:
/// clients trust a CA by name and key.
pub(super) fn reissued_ca(
    key_pem: String,
    known: &[CertificateDer<'_>],
    now: Timestamp,
) -> Result<Pair, TlsError> {
    let failed = |e| TlsError::Issue("of the CA", e);
    let key = KeyPair::from_pem(&key_pem).map_err(failed)?;
    let own = key.subject_public_key_info();
    let mut params = ca_params(&key, now);
    if let Some(before) = known.iter().find(|c| parse::public_key(c).as_deref() == Some(&own)) {
        params.distinguished_name = parse::subject("ca.crt", before)?;
    }
    self_signed(params, &key, key_pem)
}

fn self_signed(params: CertificateParams, key: &KeyPair, key_pem: String) -> Result<Pair, TlsError> {
    let certificate = params.self_signed(key).map_err(|e| TlsError::Issue("of the CA", e))?;
    Ok(Pair { certificate: certificate.pem(), key: key_pem })
}

/// The name follows from the key, so that it is the same again when all certificates are lost.
fn ca_params(key: &KeyPair, now: Timestamp) -> CertificateParams {
    let digest = sha256(key.subject_public_key_info());
    let id: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let mut params = params(&format!("fleetprof CA {id}"), now, CA_LIFE);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// A leaf for `dns_names`, signed by the CA in `ca`.
pub(super) fn leaf(ca: &Pair, dns_names: &[String], now: Timestamp) -> Result<Pair, TlsError> {
    let failed = |e| TlsError::Issue("of the servers", e);
    let ca_key = KeyPair::from_pem(&ca.key).map_err(failed)?;
    let issuer = Issuer::from_ca_cert_pem(&ca.certificate, ca_key).map_err(failed)?;
    let key = KeyPair::generate().map_err(failed)?;
    let mut params = params("fleetprof", now, LEAF_LIFE);
    params.subject_alt_names = CertificateParams::new(dns_names).map_err(failed)?.subject_alt_names;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let certificate = params.signed_by(&key, &issuer).map_err(failed)?;
    Ok(Pair { certificate: certificate.pem(), key: key.serialize_pem() })
}

/// Whether it is a private key, PEM.
pub(super) fn is_key(pem: &str) -> bool {
    KeyPair::from_pem(pem).is_ok()
}

/// Whether the key belongs to the certificate; false if either is invalid.
pub(super) fn fits(pair: &Pair) -> bool {
    let (Ok(key), Ok(certificates)) =
        (KeyPair::from_pem(&pair.key), parse::certificates("a certificate", pair.certificate.as_bytes()))
    else {
        return false;
    };
    certificates
        .first()
        .is_some_and(|c| parse::public_key(c).as_deref() == Some(&key.subject_public_key_info()))
}

fn params(common_name: &str, now: Timestamp, life: SignedDuration) -> CertificateParams {
    let from = before(now, BACKDATED);
    let mut params = CertificateParams::default();
    params.not_before = std::time::SystemTime::from(from).into();
    params.not_after = std::time::SystemTime::from(after(from, life)).into();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params
}
