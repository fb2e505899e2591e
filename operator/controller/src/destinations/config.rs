//! Which destinations did an administrator configure?

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use fleetprof_crds::DEFAULT_DESTINATION;
use serde::Deserialize;
use tokio::sync::Semaphore;

use super::bucket::{Bucket, Store};
use super::lines::Named;
use super::otlp::Otlp;
use super::pyroscope::Pyroscope;

/// Most destinations.
const MOST: usize = 16;

/// The configured destinations by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Config {
    destinations: BTreeMap<String, Settings>,
}

/// The settings of one.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", rename_all_fields = "camelCase", deny_unknown_fields)]
enum Settings {
    /// The results volume.
    File,
    /// S3 or what speaks its protocol.
    S3 {
        bucket: String,
        #[serde(default)]
        prefix: String,
        #[serde(default)]
        region: String,
        #[serde(default)]
        endpoint: String,
        credentials: Option<PathBuf>,
    },
    /// Google Cloud Storage.
    Gs {
        bucket: String,
        #[serde(default)]
        prefix: String,
        #[serde(default)]
        endpoint: String,
        credentials: Option<PathBuf>,
    },
    /// Azure Blob Storage.
    Az {
        account: String,
        container: String,
        #[serde(default)]
        prefix: String,
        #[serde(default)]
        endpoint: String,
        credentials: Option<PathBuf>,
    },
    /// Pyroscope's push API.
    Pyroscope {
        url: String,
        #[serde(default)]
        tenant: String,
        credentials: Option<PathBuf>,
    },
    /// OTLP over HTTP; experimental, as its profiles are.
    Otlp {
        url: String,
        #[serde(default = "otlp_path")]
        path: String,
        credentials: Option<PathBuf>,
    },
}

fn otlp_path() -> String {
    super::otlp::PATH.to_owned()
}

/// Whose profiles lie in a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The first part of every key: the component of the cluster's name.
    pub cluster: String,
    /// What no other cluster has.
    pub uid: String,
}

impl Config {
    /// Whether all of them can work.
    ///
    /// # Errors
    /// A sentence without full stop that names the destination and the field.
    pub fn check(&self) -> Result<(), String> {
        if self.destinations.len() > MOST {
            return Err(format!("{} destinations, and the most is {MOST}", self.destinations.len()));
        }
        for (name, settings) in &self.destinations {
            settings.check(name).map_err(|error| format!("destination {name:?}: {error}"))?;
        }
        Ok(())
    }

    /// The destinations, with their names; the one called `default` is the results volume where none is
    /// configured under that name. What takes as much memory as a merge of profiles waits for `merges`.
    #[must_use]
    pub fn build(&self, identity: &Identity, merges: &Arc<Semaphore>) -> Vec<Named> {
        let built = |(name, settings): (&String, &Settings)| settings.build(name, identity, merges);
        let configured = self.destinations.iter().map(built);
        let default = (!self.destinations.contains_key(DEFAULT_DESTINATION))
            .then(|| Named::volume(DEFAULT_DESTINATION));
        default.into_iter().chain(configured).collect()
    }

    /// The names that specs may use.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let default = (!self.destinations.contains_key(DEFAULT_DESTINATION)).then_some(DEFAULT_DESTINATION);
        let mut names: Vec<String> =
            default.into_iter().map(str::to_owned).chain(self.destinations.keys().cloned()).collect();
        names.sort();
        names
    }
}

impl Settings {
    fn check(&self, name: &str) -> Result<(), String> {
        is_name(name)?;
        match self {
            Self::File => Ok(()),
            Self::S3 { bucket, prefix, endpoint, .. } | Self::Gs { bucket, prefix, endpoint, .. } => {
                required("bucket", bucket)?;
                is_prefix(prefix)?;
                is_url("endpoint", endpoint)
            }
            Self::Az { account, container, prefix, endpoint, .. } => {
                required("account", account)?;
                required("container", container)?;
                is_prefix(prefix)?;
                is_url("endpoint", endpoint)
            }
            Self::Pyroscope { url, .. } => {
                required("url", url)?;
                is_url("url", url)
            }
            Self::Otlp { url, path, .. } => {
                required("url", url)?;
                is_url("url", url)?;
                is_path(path)
            }
        }
    }

    fn build(&self, name: &str, identity: &Identity, merges: &Arc<Semaphore>) -> Named {
        let bucket = |store, prefix: &str, credentials: &Option<PathBuf>| {
            Arc::new(Bucket::new(store, prefix, identity.clone(), credentials.clone()))
        };
        match self.clone() {
            Self::File => Named::volume(name),
            Self::S3 { bucket: name_of, prefix, region, endpoint, credentials } => {
                let store = Store::S3 { bucket: name_of, region, endpoint };
                Named::remote(name, bucket(store, &prefix, &credentials))
            }
            Self::Gs { bucket: name_of, prefix, endpoint, credentials } => {
                Named::remote(name, bucket(Store::Gs { bucket: name_of, endpoint }, &prefix, &credentials))
            }
            Self::Az { account, container, prefix, endpoint, credentials } => {
                let store = Store::Az { account, container, endpoint };
                Named::remote(name, bucket(store, &prefix, &credentials))
            }
            Self::Pyroscope { url, tenant, credentials } => {
                Named::remote(name, Arc::new(Pyroscope::new(&url, &tenant, credentials, merges)))
            }
            Self::Otlp { url, path, credentials } => {
                Named::remote(name, Arc::new(Otlp::new(&url, &path, credentials, merges)))
            }
        }
    }
}

/// A name that an administrator gives: that of a folder, a label, and a part of messages.
pub(crate) fn is_name(name: &str) -> Result<(), String> {
    let is_name = !name.is_empty()
        && name.len() <= 63
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-');
    if is_name { Ok(()) } else { Err("a name has at most 63 lower-case letters, digits and -".to_owned()) }
}

fn required(field: &str, value: &str) -> Result<(), String> {
    if value.is_empty() { Err(format!("{field} is empty")) } else { Ok(()) }
}

/// Parts of letters, digits, `-`, `_` and `.`, none of which begins with `.`.
fn is_prefix(prefix: &str) -> Result<(), String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let part = |part: &str| !part.is_empty() && !part.starts_with('.') && part.chars().all(allowed);
    if prefix.is_empty() || (prefix.len() <= 200 && prefix.split('/').all(part)) {
        return Ok(());
    }
    Err(format!("prefix {prefix:?} must be parts of letters, digits, -, _ and ., joined by /, such as a/b"))
}

/// A path of a URL without query.
fn is_path(path: &str) -> Result<(), String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-._~/".contains(c);
    if path.starts_with('/') && path.len() <= 200 && path.chars().all(allowed) {
        return Ok(());
    }
    Err(format!("path {path:?} must begin with / and have letters, digits, -, ., _, ~ and / alone"))
}

/// An address without anything secret in it; nothing is not wrong.
pub(crate) fn is_url(field: &str, url: &str) -> Result<(), String> {
    let parsed = url.parse::<http::Uri>().ok();
    let good = parsed.is_some_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.query().is_none()
            // User and password belong into the Secret.
            && uri.authority().is_some_and(|authority| !authority.as_str().contains('@'))
    });
    if url.is_empty() || good {
        return Ok(());
    }
    Err(format!("{field} must be a URL of http or https without user and query"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(config: &Config) -> Vec<Named> {
        let identity = Identity { cluster: "prod".into(), uid: "u".into() };
        config.build(&identity, &Arc::new(Semaphore::new(1)))
    }

    fn parse(text: &str) -> Result<Config, String> {
        let config: Config = serde_yaml::from_str(text).map_err(|error| error.to_string())?;
        config.check().map(|()| config)
    }

    fn refused(text: &str) -> String {
        parse(text).unwrap_err()
    }

    #[test]
    fn without_destinations_profiles_stay_on_the_volume() {
        let config = Config::default();
        assert_eq!(config.names(), ["default"]);
        let named = build(&config);
        assert_eq!(named.len(), 1);
        assert!(named[0].is_volume());
    }

    #[test]
    fn every_kind_is_read() {
        let text = "
  archive: {kind: s3, bucket: profiles, prefix: fleet/prod, region: eu-central-1, credentials: /etc/x}
  google: {kind: gs, bucket: profiles}
  azure: {kind: az, account: acme, container: profiles}
  pyroscope: {kind: pyroscope, url: 'http://pyroscope.monitoring:4040', tenant: team-a}
  otlp: {kind: otlp, url: 'http://collector.monitoring:4318'}
  volume: {kind: file}
";
        let config = parse(text).unwrap();
        assert_eq!(config.names(), ["archive", "azure", "default", "google", "otlp", "pyroscope", "volume"]);
        let named = build(&config);
        assert_eq!(named.iter().filter(|named| named.is_volume()).count(), 2);
    }

    #[test]
    fn another_default_replaces_the_volume() {
        let config = parse("default: {kind: s3, bucket: b}").unwrap();
        assert_eq!(config.names(), ["default"]);
        assert!(!build(&config)[0].is_volume());
    }

    #[test]
    fn what_cannot_work_is_refused_with_the_name_and_the_field() {
        let one = |settings: &str| refused(&format!("archive: {settings}"));
        let cases = [
            ("{kind: ftp}", "ftp"),
            ("{kind: s3}", "bucket"),
            ("{kind: s3, bucket: ''}", "bucket is empty"),
            ("{kind: s3, bucket: b, bukket: c}", "bukket"),
            ("{kind: s3, bucket: b, prefix: ../up}", "prefix"),
            ("{kind: s3, bucket: b, prefix: a//b}", "prefix"),
            ("{kind: s3, bucket: b, endpoint: minio}", "endpoint must be a URL"),
            ("{kind: pyroscope, url: 'http://user:password@host'}", "without user"),
            ("{kind: pyroscope, url: 'file:///etc/passwd'}", "url must be a URL"),
            ("{kind: otlp, url: ''}", "url is empty"),
            ("{kind: otlp, url: 'http://host', path: 'v1?token=1'}", "path \"v1?token=1\" must begin with /"),
            ("{kind: otlp, url: 'http://host', protocol: grpc}", "protocol"),
        ];
        for (settings, word) in cases {
            let error = one(settings);
            assert!(error.contains(word), "{settings}: {error}");
            assert!(!error.contains("password@"), "{error}");
        }
        assert!(refused("Archive: {kind: file}").contains("lower-case"));
    }
}
