//! Who is the caller? The API server says so in headers, and only it may.
//!
//! The API server authenticates callers and passes requests on with its *front proxy* client certificate and
//! the caller's name in headers. Whoever else reaches the port could write the same headers, so they count
//! only on a connection whose certificate was verified against the front proxy's own CA and bears an allowed
//! name.

use std::collections::BTreeMap;

use http::HeaderMap;
use k8s_openapi::api::core::v1::ConfigMap;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::status::Refusal;

/// Most groups and extra values of a caller; the API server itself sends a few dozen at most.
const MAX_VALUES: usize = 1_000;

/// How the cluster's front proxy is recognised, as the ConfigMap
/// `kube-system/extension-apiserver-authentication` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FrontProxy {
    /// The CAs of its client certificate; none: nobody is believed.
    pub(super) roots: Vec<CertificateDer<'static>>,
    /// Allowed common names; none: any certificate of the CAs.
    allowed_names: Vec<String>,
    username_headers: Vec<String>,
    uid_headers: Vec<String>,
    group_headers: Vec<String>,
    extra_prefixes: Vec<String>,
}

/// A caller, as the API server knows them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// User name.
    pub name: String,
    /// Uid, where there is one.
    pub uid: Option<String>,
    /// Groups.
    pub groups: Vec<String>,
    /// Extra fields.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl FrontProxy {
    /// Reads the ConfigMap. What is missing or cannot be read makes the proxy less believed, never more.
    #[must_use]
    pub fn read(config: &ConfigMap) -> Self {
        let data = config.data.as_ref();
        let value = |key: &str| data.and_then(|data| data.get(key)).map_or("", String::as_str);
        let list = |key: &str| serde_json::from_str::<Vec<String>>(value(key));
        let names = list("requestheader-allowed-names");
        let mut roots: Vec<_> =
            CertificateDer::pem_slice_iter(value("requestheader-client-ca-file").as_bytes())
                .filter_map(Result::ok)
                .collect();
        if names.is_err() && !value("requestheader-allowed-names").is_empty() {
            // A list of allowed names that cannot be read must not come to mean that all names are allowed.
            roots.clear();
        }
        Self {
            roots,
            allowed_names: names.unwrap_or_default(),
            username_headers: list("requestheader-username-headers").unwrap_or_default(),
            uid_headers: list("requestheader-uid-headers").unwrap_or_default(),
            group_headers: list("requestheader-group-headers").unwrap_or_default(),
            extra_prefixes: list("requestheader-extra-headers-prefix").unwrap_or_default(),
        }
    }

    /// The caller of a request that came over a connection with these **verified** certificates, leaf first.
    ///
    /// # Errors
    /// 401: the connection is not the front proxy's, or it names nobody.
    pub(super) fn identify(
        &self,
        certificates: &[CertificateDer<'_>],
        headers: &HeaderMap,
    ) -> Result<User, Refusal> {
        if self.roots.is_empty() {
            return Err(Refusal::unauthorized(
                "the front-proxy settings are not available: check the ConfigMap \
                 kube-system/extension-apiserver-authentication and the operator's permission to read it",
            ));
        }
        self.check(certificates)?;
        let first = |names: &[String]| names.iter().find_map(|name| texts(headers, name).next());
        let name = first(&self.username_headers).ok_or_else(|| {
            Refusal::unauthorized(
                "the request has no front-proxy user: use this API through the Kubernetes API server",
            )
        })?;
        let groups =
            self.group_headers.iter().flat_map(|name| texts(headers, name)).take(MAX_VALUES).collect();
        Ok(User { name, uid: first(&self.uid_headers), groups, extra: self.extra(headers) })
    }

    fn check(&self, certificates: &[CertificateDer<'_>]) -> Result<(), Refusal> {
        let direct = "this API only accepts requests from the Kubernetes API server: use kubectl get --raw \
                      /apis/data.fleetprof.dev/v1alpha1/…";
        let leaf = certificates.first().ok_or_else(|| Refusal::unauthorized(direct))?;
        if self.allowed_names.is_empty() {
            return Ok(());
        }
        let name = common_name(leaf).ok_or_else(|| Refusal::unauthorized(direct))?;
        if self.allowed_names.contains(&name) {
            return Ok(());
        }
        Err(Refusal::unauthorized(
            "the common name of the client certificate is not in requestheader-allowed-names of the API \
             server",
        ))
    }

    fn extra(&self, headers: &HeaderMap) -> BTreeMap<String, Vec<String>> {
        let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for name in headers.keys() {
            let key = self
                .extra_prefixes
                .iter()
                .find_map(|prefix| name.as_str().strip_prefix(&prefix.to_ascii_lowercase()));
            if let Some(key) = key.filter(|_| extra.len() < MAX_VALUES) {
                extra
                    .entry(unescape(key))
                    .or_default()
                    .extend(texts(headers, name.as_str()).take(MAX_VALUES));
            }
        }
        extra
    }
}

/// The values of a header that are not empty.
fn texts<'a>(headers: &'a HeaderMap, name: &str) -> impl Iterator<Item = String> + use<'a> {
    let values = http::HeaderName::from_bytes(name.as_bytes()).ok().map(|name| headers.get_all(name));
    let values = values.into_iter().flat_map(|values| values.iter());
    values
        .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
        .filter(|value| !value.is_empty())
}

/// Decodes `%2f` and the like; other text is left unchanged.
fn unescape(key: &str) -> String {
    let mut bytes = Vec::with_capacity(key.len());
    let mut rest = key.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let code =
            (first == b'%').then(|| tail.get(..2)).flatten().and_then(|hex| std::str::from_utf8(hex).ok());
        match code.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| key.to_owned())
}

fn common_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    parsed.subject().iter_common_name().next()?.as_str().ok().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::super::tests::fixtures::{certificate, front_proxy, headers};
    use super::*;

    #[test]
    fn the_front_proxy_names_the_caller() {
        let got = front_proxy(&["front-proxy-client"]).identify(
            &[certificate("front-proxy-client")],
            &headers(&[
                ("x-remote-user", "ann"),
                ("x-remote-group", "devs"),
                ("X-Remote-Group", "system:authenticated"),
                ("x-remote-extra-example.org%2fscope", "one"),
                ("x-remote-extra-example.org%2fscope", "two"),
                ("x-remote-uid", "u-1"),
                ("x-other", "ignored"),
            ]),
        );
        let extra =
            BTreeMap::from([("example.org/scope".to_owned(), vec!["one".to_owned(), "two".to_owned()])]);
        let groups = vec!["devs".into(), "system:authenticated".into()];
        assert_eq!(got, Ok(User { name: "ann".into(), uid: Some("u-1".into()), groups, extra }));
    }

    #[test]
    fn nobody_else_is_believed() {
        let named = headers(&[("x-remote-user", "ann"), ("x-remote-group", "system:masters")]);
        let ours = certificate("front-proxy-client");
        let cases = [
            ("no certificate", front_proxy(&["front-proxy-client"]), vec![], named.clone()),
            (
                "another name",
                front_proxy(&["front-proxy-client"]),
                vec![certificate("mallory")],
                named.clone(),
            ),
            (
                "a broken certificate",
                front_proxy(&["x"]),
                vec![CertificateDer::from(vec![1, 2, 3])],
                named.clone(),
            ),
            ("no settings", FrontProxy::default(), vec![ours.clone()], named),
            (
                "nobody named",
                front_proxy(&["front-proxy-client"]),
                vec![ours.clone()],
                headers(&[("x-remote-group", "a")]),
            ),
            (
                "an empty name",
                front_proxy(&["front-proxy-client"]),
                vec![ours],
                headers(&[("x-remote-user", "")]),
            ),
        ];
        for (case, proxy, certificates, headers) in cases {
            let refusal = proxy.identify(&certificates, &headers).unwrap_err();
            assert_eq!(refusal.code(), 401, "{case}");
        }
    }

    #[test]
    fn without_a_list_of_names_any_certificate_of_the_ca_counts() {
        let user = front_proxy(&[])
            .identify(&[certificate("whoever")], &headers(&[("x-remote-user", "ann")]))
            .unwrap();
        assert_eq!((user.name.as_str(), user.groups.len(), user.uid), ("ann", 0, None));
    }

    #[test]
    fn a_list_of_names_that_cannot_be_read_closes_the_door() {
        let mut config = ConfigMap::default();
        let pem = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let data =
            [("requestheader-client-ca-file", pem), ("requestheader-allowed-names", "front-proxy-client")];
        config.data = Some(data.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
        assert!(FrontProxy::read(&config).roots.is_empty());
        assert!(FrontProxy::read(&ConfigMap::default()).roots.is_empty());
    }

    #[test]
    fn codes_are_decoded_and_the_rest_is_kept() {
        for (text, wanted) in
            [("a%2fb", "a/b"), ("a%", "a%"), ("%zz", "%zz"), ("%2", "%2"), ("%ff", "%ff"), ("%c3%a9", "é")]
        {
            assert_eq!(unescape(text), wanted, "{text}");
        }
    }
}
