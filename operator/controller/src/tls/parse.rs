//! How is PEM parsed? Certificates and keys come from a Secret and may be malformed.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use rcgen::{DistinguishedName, DnType, DnValue};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::asn1_rs::Tag;
use x509_parser::prelude::{FromDer, GeneralName, ParsedExtension, X509Certificate};

use super::TlsError;

/// Maximum number of certificates read from one PEM.
const MAX_CERTIFICATES: usize = 16;

/// Characters of a line of PEM.
const LINE: usize = 64;

/// Facts about a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CertificateFacts {
    /// Valid from.
    pub not_before: Timestamp,
    /// Valid until.
    pub not_after: Timestamp,
    /// DNS names, sorted.
    pub dns_names: Vec<String>,
}

/// The certificates in `pem`, in their order; at least one.
pub(super) fn certificates(what: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates: Result<Vec<_>, _> =
        CertificateDer::pem_slice_iter(pem).take(MAX_CERTIFICATES).collect();
    let certificates = certificates.map_err(|e| unusable(what, e))?;
    if certificates.is_empty() {
        return Err(unusable(what, "no PEM certificate found"));
    }
    Ok(certificates)
}

/// The first private key in `pem`. Errors never contain its bytes.
pub(super) fn private_key(what: &'static str, pem: &[u8]) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|_| unusable(what, "no PEM private key found"))
}

/// The facts of one certificate.
pub(super) fn facts(what: &'static str, der: &CertificateDer<'_>) -> Result<CertificateFacts, TlsError> {
    let (_, certificate) = X509Certificate::from_der(der).map_err(|e| unusable(what, e))?;
    let validity = certificate.validity();
    let mut dns_names: Vec<String> = certificate
        .extensions()
        .iter()
        .filter_map(|e| match e.parsed_extension() {
            ParsedExtension::SubjectAlternativeName(names) => Some(&names.general_names),
            _ => None,
        })
        .flatten()
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            _ => None,
        })
        .collect();
    dns_names.sort();
    Ok(CertificateFacts {
        not_before: time(validity.not_before.timestamp()),
        not_after: time(validity.not_after.timestamp()),
        dns_names,
    })
}

/// The nearest time that a timestamp holds: 9999-12-31T23:59:59Z, which means "no end", is beyond it.
fn time(second: i64) -> Timestamp {
    let end = if second < 0 { Timestamp::MIN } else { Timestamp::MAX };
    Timestamp::from_second(second).unwrap_or(end)
}

/// The certificates as PEM.
pub(super) fn pem(certificates: &[CertificateDer<'_>]) -> String {
    let mut pem = String::new();
    for certificate in certificates {
        pem.push_str("-----BEGIN CERTIFICATE-----\n");
        let mut rest = STANDARD.encode(certificate);
        while !rest.is_empty() {
            let after = rest.split_off(rest.len().min(LINE));
            pem.push_str(&rest);
            pem.push('\n');
            rest = after;
        }
        pem.push_str("-----END CERTIFICATE-----\n");
    }
    pem
}

/// Whether `leaf` was signed with the key of `ca`; false if either is invalid.
pub(super) fn signed_by(leaf: &CertificateDer<'_>, ca: &CertificateDer<'_>) -> bool {
    let (Ok((_, leaf)), Ok((_, ca))) = (X509Certificate::from_der(leaf), X509Certificate::from_der(ca))
    else {
        return false;
    };
    leaf.issuer() == ca.subject() && leaf.verify_signature(Some(ca.public_key())).is_ok()
}

/// The name of a certificate, for another one of the same name.
pub(super) fn subject(
    what: &'static str,
    certificate: &CertificateDer<'_>,
) -> Result<DistinguishedName, TlsError> {
    let (_, certificate) = X509Certificate::from_der(certificate).map_err(|e| unusable(what, e))?;
    let mut name = DistinguishedName::new();
    for attribute in certificate.subject().iter_attributes() {
        let (Some(oid), Ok(value)) = (attribute.attr_type().iter(), attribute.as_str()) else {
            return Err(unusable(what, "its name is not text; renew it by hand"));
        };
        let value = match attribute.attr_value().tag() {
            Tag::PrintableString => {
                DnValue::PrintableString(value.try_into().map_err(|e| unusable(what, e))?)
            }
            _ => DnValue::Utf8String(value.to_owned()),
        };
        name.push(DnType::CustomDnType(oid.collect()), value);
    }
    Ok(name)
}

pub(super) fn unusable(what: &'static str, why: impl ToString) -> TlsError {
    TlsError::Unusable { what, why: why.to_string() }
}

/// The public key in a certificate, DER; `None` if it is invalid.
pub(super) fn public_key(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    Some(certificate.public_key().raw.to_vec())
}
