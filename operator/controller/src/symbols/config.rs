//! Where did an administrator say that symbols are?

use std::path::PathBuf;

use fleetprof_crds::quantity;
use serde::{Deserialize, Deserializer};

use crate::destinations::is_url;

/// Bytes of downloaded files that are kept, unless configured.
const CACHE: u64 = 1 << 30;
/// Fewest bytes of them: less holds no file of a real program.
const LEAST_CACHE: u64 = 64 << 20;

/// Where files with symbols are found. The default is: nowhere.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Config {
    /// Folder with `.build-id/xx/yyyy.debug`, read-only.
    pub(super) volume: Option<PathBuf>,
    /// A server that speaks the protocol of debuginfod.
    pub(super) debuginfod: Option<Server>,
    /// Files that people upload.
    pub(super) uploads: Option<Allowed>,
}

/// What people may upload.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Allowed {
    /// Most bytes of all files on the results volume; 0: nothing may be uploaded.
    #[serde(deserialize_with = "size")]
    pub(super) size: u64,
}

/// A debuginfod server.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Server {
    pub(super) url: String,
    /// Folder with `token`, or `username` and `password`, and `ca.crt`.
    pub(super) credentials: Option<PathBuf>,
    /// Most bytes of downloaded files on the results volume.
    #[serde(default = "cache", deserialize_with = "bytes")]
    pub(super) cache_size: u64,
}

const fn cache() -> u64 {
    CACHE
}

fn bytes<'de, D: Deserializer<'de>>(text: D) -> Result<u64, D::Error> {
    quantity_of("cacheSize", text)
}

fn size<'de, D: Deserializer<'de>>(text: D) -> Result<u64, D::Error> {
    quantity_of("uploads.size", text)
}

fn quantity_of<'de, D: Deserializer<'de>>(field: &str, text: D) -> Result<u64, D::Error> {
    let text = String::deserialize(text)?;
    let wrong = || format!("{field}: {text:?} is not a size in bytes; write it as 5Gi or 500Mi");
    quantity::bytes(&text).ok_or_else(|| serde::de::Error::custom(wrong()))
}

impl Config {
    /// Whether it can work.
    ///
    /// # Errors
    /// A sentence without full stop that names the field.
    pub fn check(&self) -> Result<(), String> {
        if self.volume.as_ref().is_some_and(|volume| !volume.is_absolute()) {
            return Err("symbols.volume must be an absolute path".to_owned());
        }
        let Some(server) = &self.debuginfod else { return Ok(()) };
        if server.url.is_empty() {
            return Err("symbols.debuginfod.url is empty: write the URL of a debuginfod server".to_owned());
        }
        is_url("url", &server.url).map_err(|error| format!("symbols.debuginfod: {error}"))?;
        if server.cache_size < LEAST_CACHE {
            return Err(format!(
                "symbols.debuginfod.cacheSize is {} bytes, and the least is 64Mi: larger files could not be kept",
                server.cache_size
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config, String> {
        let config: Config = serde_yaml::from_str(text).map_err(|error| error.to_string())?;
        config.check().map(|()| config)
    }

    #[test]
    fn what_can_work_is_read() {
        let config = read("{volume: /symbols, debuginfod: {url: 'https://debuginfod.example.com'}}").unwrap();
        assert_eq!(config.volume, Some(PathBuf::from("/symbols")));
        assert_eq!(config.debuginfod.unwrap().cache_size, CACHE);
        let config = read("debuginfod: {url: 'http://d:8002', cacheSize: 2Gi, credentials: /etc/d}").unwrap();
        assert_eq!(config.debuginfod.unwrap().cache_size, 2 << 30);
        assert_eq!(read("uploads: {size: 1Gi}").unwrap().uploads, Some(Allowed { size: 1 << 30 }));
        assert_eq!(read("uploads: {size: '0'}").unwrap().uploads, Some(Allowed { size: 0 }));
        assert_eq!(read("{}").unwrap(), Config::default());
    }

    #[test]
    fn what_cannot_work_is_refused_with_a_sentence() {
        for (text, word) in [
            ("volume: symbols", "must be an absolute path"),
            ("debuginfod: {url: ''}", "url is empty"),
            ("debuginfod: {url: 'ftp://x'}", "symbols.debuginfod: url must"),
            ("debuginfod: {url: 'https://x', cacheSize: 1Mi}", "the least is 64Mi"),
            ("debuginfod: {url: 'https://x', cacheSize: much}", "is not a size in bytes"),
            ("uploads: {size: all}", "uploads.size: \"all\" is not a size in bytes"),
            ("server: x", "server"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
