//! What did an administrator configure for the operator alone? One YAML file, which the chart writes.

use std::collections::BTreeMap;
use std::path::Path;

use fleetprof_core::session::links::{LinkTemplate, templates};
use fleetprof_core::session::notify::Receiver;
use fleetprof_core::storage::quota::Quotas;
use fleetprof_crds::quantity;
use serde::Deserialize;
use thiserror::Error;

use crate::{destinations, notifications, symbols};

/// Least quota of a namespace, in bytes.
const LEAST_QUOTA: u64 = 16 << 20;

/// Why the configuration is not usable.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct ConfigError(String);

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    destinations: destinations::Config,
    #[serde(default)]
    notifications: notifications::Config,
    #[serde(default)]
    links: Vec<LinkSettings>,
    #[serde(default)]
    symbols: symbols::Config,
    #[serde(default)]
    quotas: QuotaSettings,
}

/// Sizes such as `5Gi`.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct QuotaSettings {
    /// Of every namespace that is not named.
    default: Option<String>,
    #[serde(default)]
    namespaces: BTreeMap<String, String>,
}

impl QuotaSettings {
    fn quotas(&self) -> Result<Quotas, String> {
        let size = |of: &str, text: &String| {
            let wrong = || {
                format!(
                    "the quota of {of} is {text:?}, which is not a size in bytes: write it as 5Gi or 500Mi"
                )
            };
            let bytes = quantity::bytes(text).ok_or_else(wrong)?;
            match bytes < LEAST_QUOTA {
                true => Err(format!(
                    "the quota of {of} is {text:?}, and the least is 16Mi: less holds no capture"
                )),
                false => Ok(bytes),
            }
        };
        let default = self.default.as_ref().map(|text| size("namespaces", text)).transpose()?;
        let named =
            |(name, text): (&String, &String)| Ok((name.clone(), size(&format!("namespace {name}"), text)?));
        Ok(Quotas::new(default, self.namespaces.iter().map(named).collect::<Result<_, String>>()?))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LinkSettings {
    name: String,
    url: String,
}

/// What is configured, checked.
#[derive(Clone, Debug, Default)]
pub struct Configuration {
    /// Where profiles go.
    pub destinations: destinations::Config,
    /// Who is told of the ends of sessions, and how.
    pub notifications: notifications::Config,
    /// The same as decisions look at them.
    pub receivers: Vec<Receiver>,
    /// Links to the results of sessions.
    pub links: Vec<LinkTemplate>,
    /// Where the symbols of stripped programs are.
    pub symbols: symbols::Config,
    /// What namespaces may have at most on the results volume.
    pub quotas: Quotas,
}

impl Configuration {
    /// Reads the file; without a path, nothing is configured.
    ///
    /// # Errors
    /// The file cannot be read, or says what this version does not know.
    pub fn read(path: Option<&Path>) -> Result<Self, ConfigError> {
        let Some(path) = path else { return Ok(Self::default()) };
        let text = std::fs::read_to_string(path).map_err(|error| error.to_string());
        text.and_then(|text| Self::parse(&text)).map_err(|error| {
            ConfigError(format!(
                "the configuration in {} is not usable ({error}): correct the chart values destinations, \
                 notifications, links, symbols and results.quotas",
                path.display()
            ))
        })
    }

    fn parse(text: &str) -> Result<Self, String> {
        let File { destinations, notifications, links, symbols, quotas } =
            serde_yaml::from_str(text).map_err(|error| error.to_string())?;
        destinations.check()?;
        symbols.check()?;
        let receivers = notifications.receivers()?;
        let links = templates(links.iter().map(|link| (link.name.as_str(), link.url.as_str())))?;
        let quotas = quotas.quotas()?;
        Ok(Self { destinations, notifications, receivers, links, symbols, quotas })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_is_read_and_checked() {
        let text = "
destinations:
  archive: {kind: s3, bucket: profiles}
notifications:
  chat: {url: 'https://chat.example.com/', credentials: /etc/x}
links:
  - {name: Grafana, url: 'https://grafana.example.com/${namespace}'}
";
        let read = Configuration::parse(text).unwrap();
        assert_eq!(read.destinations.names(), ["archive", "default"]);
        assert_eq!((read.receivers.len(), read.links.len()), (1, 1));
        let quotas = Configuration::parse("quotas: {default: 1Gi, namespaces: {shop: 5Gi}}").unwrap().quotas;
        assert_eq!((quotas.of("shop"), quotas.of("other")), (Some(5 << 30), Some(1 << 30)));
        let empty = Configuration::read(None).unwrap();
        assert_eq!((empty.destinations.names(), empty.receivers.len()), (vec!["default".to_owned()], 0));
    }

    #[test]
    fn what_cannot_work_keeps_the_operator_from_starting_with_a_sentence() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.yaml");
        let cases = [
            (
                "links: [{name: Grafana, url: 'https://g/${pod}'}]",
                "link \"Grafana\": there is no variable \"pod\"",
            ),
            (
                "notifications: {chat: {url: x, credentials: /x}}",
                "receiver \"chat\" of notifications: url must be",
            ),
            ("destinations: {a: {kind: s3, bucket: ''}}", "destination \"a\": bucket is empty"),
            ("symbols: {volume: here}", "symbols.volume must be an absolute path"),
            ("quotas: {default: much}", "the quota of namespaces is \"much\""),
            (
                "quotas: {namespaces: {shop: 1Mi}}",
                "the quota of namespace shop is \"1Mi\", and the least is 16Mi",
            ),
            ("linx: []", "linx"),
        ];
        for (text, word) in cases {
            std::fs::write(&path, text).unwrap();
            let error = Configuration::read(Some(&path)).unwrap_err().to_string();
            assert!(error.contains(word) && error.contains("correct the chart values"), "{text}: {error}");
        }
        let missing = Configuration::read(Some(&folder.path().join("none"))).unwrap_err().to_string();
        assert!(missing.contains("No such file"), "{missing}");
    }
}
