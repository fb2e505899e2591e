//! Whom did an administrator configure to be told of the ends of sessions?

use std::collections::BTreeMap;
use std::path::PathBuf;

use fleetprof_core::session::notify::Receiver;
use serde::Deserialize;

use super::send::Webhook;
use crate::destinations::{is_name, is_url};

/// Most receivers.
const MOST: usize = 8;

/// The configured receivers by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Config(BTreeMap<String, Settings>);

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Settings {
    url: String,
    #[serde(default)]
    namespaces: Vec<String>,
    #[serde(default)]
    phases: Vec<String>,
    #[serde(default)]
    verdicts: Vec<String>,
    /// Folder of its Secret.
    credentials: PathBuf,
}

impl Config {
    /// Whom the decisions know: their names, and what they are told of.
    ///
    /// # Errors
    /// A sentence without full stop that names the receiver and the field.
    pub fn receivers(&self) -> Result<Vec<Receiver>, String> {
        if self.0.len() > MOST {
            return Err(format!("{} receivers of notifications, and the most is {MOST}", self.0.len()));
        }
        let receiver = |(name, settings): (&String, &Settings)| {
            let read = is_name(name).and_then(|()| settings.receiver(name));
            read.map_err(|error| format!("receiver {name:?} of notifications: {error}"))
        };
        self.0.iter().map(receiver).collect()
    }

    /// How each of them is told, by name.
    #[must_use]
    pub fn webhooks(&self) -> Vec<(String, Webhook)> {
        let webhook = |(name, settings): (&String, &Settings)| {
            (name.clone(), Webhook::new(&settings.url, settings.credentials.clone()))
        };
        self.0.iter().map(webhook).collect()
    }
}

impl Settings {
    fn receiver(&self, name: &str) -> Result<Receiver, String> {
        if self.url.is_empty() {
            return Err("url is empty".to_owned());
        }
        is_url("url", &self.url)?;
        Receiver::new(name, self.namespaces.clone(), &self.phases, &self.verdicts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receivers(text: &str) -> Result<Vec<Receiver>, String> {
        let config: Config = serde_yaml::from_str(text).map_err(|error| error.to_string())?;
        config.receivers()
    }

    #[test]
    fn receivers_are_read_with_what_they_are_told_of() {
        let text = "
chat: {url: 'https://chat.example.com/hook', credentials: /etc/x}
pager: {url: 'http://alerts.ops:9093/', phases: [Failed], verdicts: [Regressed], namespaces: [shop-*], credentials: /y}
";
        let names: Vec<String> = receivers(text).unwrap().into_iter().map(|receiver| receiver.name).collect();
        assert_eq!(names, ["chat", "pager"]);
        assert_eq!(Config::default().receivers(), Ok(vec![]));
    }

    #[test]
    fn what_cannot_work_is_refused_with_the_name_and_the_field() {
        let one = |settings: &str| receivers(&format!("chat: {{{settings}}}")).unwrap_err();
        let cases = [
            ("url: 'https://x/'", "credentials"),
            ("url: '', credentials: /x", "url is empty"),
            ("url: 'ftp://x/', credentials: /x", "url must be a URL"),
            ("url: 'https://user:password@x/', credentials: /x", "without user"),
            ("url: 'https://x/?token=secret', credentials: /x", "without user and query"),
            ("url: 'https://x/', credentials: /x, phases: [Running]", "no session ends in \"Running\""),
            ("url: 'https://x/', credentials: /x, verdicts: [Slow]", "there is no verdict \"Slow\""),
            ("url: 'https://x/', credentials: /x, phase: [Failed]", "phase"),
        ];
        for (settings, word) in cases {
            let error = one(settings);
            assert!(error.contains(word), "{settings}: {error}");
            assert!(!error.contains("password@") && !error.contains("token=secret"), "{error}");
        }
        assert!(receivers("Chat: {url: 'https://x/', credentials: /x}").unwrap_err().contains("lower-case"));
        let many: String =
            (0..9).map(|n| format!("r{n}: {{url: 'https://x/', credentials: /x}}\n")).collect();
        assert!(receivers(&many).unwrap_err().contains("the most is 8"));
    }
}
