//! Which alerts are known to fire? Those that Alertmanager told of in the last hour, up to a number of bytes.
//!
//! Who sends alerts decides how many there are, and may send them in any namespace's name. Beyond the limit the
//! namespace whose alerts take most loses its oldest, so that the alerts of others stay.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;

use jiff::Timestamp;

use super::alert::{Alert, KNOWN, Notification, Told};
use super::place::namespace;

/// Most alerts that are known.
const MOST: usize = 10_000;
/// Most bytes of them. Usual ones take about 1 KiB, so that the number counts first.
const MOST_BYTES: usize = 16 << 20;
/// What a label takes beside its name and value: two texts, and their place in a map.
const OF_A_LABEL: usize = 64;
/// What an alert takes beside its labels.
const OF_AN_ALERT: usize = 192;

/// The alerts that are known to fire. Copies of them share what they say.
#[derive(Clone, Debug, Default)]
pub struct KnownAlerts {
    /// The oldest first.
    told: Vec<Told>,
}

impl KnownAlerts {
    /// Takes in a notification: what fires is kept for an hour, what is resolved is forgotten.
    pub fn take(&mut self, notification: Notification, now: Timestamp) {
        let Notification { firing, resolved, .. } = notification;
        let resolved: HashSet<&str> = resolved.iter().map(String::as_str).collect();
        let again: HashSet<(&str, Timestamp)> =
            firing.iter().map(|alert| (alert.fingerprint.as_str(), alert.starts_at)).collect();
        self.told.retain(|old| {
            let print = old.alert.fingerprint.as_str();
            is_known(old, now) && !resolved.contains(print) && !again.contains(&(print, old.alert.starts_at))
        });
        self.told.extend(firing.iter().map(|alert| Told { at: now, alert: alert.clone() }));
        self.shrink();
    }

    /// Those that are still known.
    #[must_use]
    pub fn all(&self, now: Timestamp) -> Vec<Told> {
        self.told.iter().filter(|told| is_known(told, now)).cloned().collect()
    }

    /// The bytes that they take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.told.iter().map(|told| bytes(&told.alert)).sum()
    }

    fn shrink(&mut self) {
        let (mut number, mut sum) = (self.told.len(), self.bytes());
        if number <= MOST && sum <= MOST_BYTES {
            return;
        }
        let mut namespaces: BTreeMap<&str, (usize, VecDeque<usize>)> = BTreeMap::new();
        for (n, told) in self.told.iter().enumerate() {
            let (of_namespace, oldest) = namespaces.entry(named(&told.alert)).or_default();
            *of_namespace = of_namespace.saturating_add(bytes(&told.alert));
            oldest.push_back(n);
        }
        let mut gone = HashSet::new();
        while number > MOST || sum > MOST_BYTES {
            let Some((most, oldest)) = namespaces.values_mut().max_by_key(|(bytes, _)| *bytes) else { break };
            let Some(n) = oldest.pop_front() else { break };
            let freed = self.told.get(n).map_or(0, |told| bytes(&told.alert));
            *most = most.saturating_sub(freed);
            (number, sum) = (number.saturating_sub(1), sum.saturating_sub(freed));
            gone.insert(n);
        }
        let mut place = 0..;
        self.told.retain(|_| place.next().is_none_or(|n| !gone.contains(&n)));
    }
}

/// The namespace that an alert speaks of; empty where it names none.
fn named(alert: &Alert) -> &str {
    namespace(|name| alert.labels.get(name).map(String::as_str)).unwrap_or_default()
}

fn bytes(alert: &Arc<Alert>) -> usize {
    let labels = alert.labels.iter().flat_map(|(name, value)| [name.len(), value.len(), OF_A_LABEL]);
    labels.chain([alert.fingerprint.len(), OF_AN_ALERT]).sum()
}

fn is_known(told: &Told, now: Timestamp) -> bool {
    now.duration_since(told.at) < KNOWN
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::alert::parse;
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    /// What is kept of a notification of alerts of a namespace, each with so many labels of so many bytes.
    fn notification(
        namespace: &str,
        prints: std::ops::Range<usize>,
        labels: usize,
        bytes: usize,
    ) -> Notification {
        let alert = |print: usize| {
            let mut all = json!({"alertname": "Slow", "namespace": namespace});
            for n in 0..labels {
                all[format!("label_{n}")] = json!("x".repeat(bytes));
            }
            json!({"status": "firing", "labels": all, "startsAt": at(0).to_string(), "fingerprint": format!("{print:x}")})
        };
        let body = json!({"version": "4", "alerts": prints.map(alert).collect::<Vec<_>>()}).to_string();
        parse(body.as_bytes(), at(0)).unwrap()
    }

    /// Bytes of the labels that somebody holds: each alert once, however often it is told of.
    fn held(told: &[Told]) -> usize {
        let mut seen = HashSet::new();
        let once = told.iter().filter(|told| seen.insert(Arc::as_ptr(&told.alert)));
        once.flat_map(|told| &told.alert.labels).map(|(name, value)| name.len() + value.len()).sum()
    }

    #[test]
    fn however_many_large_alerts_come_so_many_bytes_are_kept_and_others_keep_theirs() {
        let mut known = KnownAlerts::default();
        known.take(notification("quiet", 0..10, 3, 20), at(0));
        // 4,000 alerts of 7 KB, 28 MB in all.
        for n in 1..41 {
            known.take(notification("loud", n * 100..n * 100 + 100, 7, 1000), at(1));
        }
        let told = known.all(at(2));
        assert!(held(&told) <= MOST_BYTES && held(&told) > MOST_BYTES / 2, "{} bytes are held", held(&told));
        assert_eq!(told.iter().filter(|told| named(&told.alert) == "quiet").count(), 10);
        assert_eq!(told.last().unwrap().alert.fingerprint, format!("{:x}", 4099), "the newest stay");
    }

    #[test]
    fn who_looks_at_the_alerts_holds_no_copies_of_them() {
        let mut known = KnownAlerts::default();
        known.take(notification("shop", 0..100, 7, 1000), at(0));
        let looks: Vec<Told> = (0..50).flat_map(|_| known.all(at(1))).collect();
        assert_eq!((looks.len(), held(&looks)), (5000, held(&known.all(at(1)))));
    }

    #[test]
    fn alerts_are_bounded_in_number_too() {
        let mut known = KnownAlerts::default();
        for n in 0..12 {
            known.take(notification("shop", n * 1000..n * 1000 + 1000, 0, 0), at(0));
        }
        assert_eq!(known.all(at(0)).len(), MOST);
    }

    #[test]
    fn an_alert_with_too_many_bytes_of_labels_is_counted_and_not_taken() {
        let read = |labels, bytes| {
            let notification = notification("shop", 0..1, labels, bytes);
            (notification.firing.len(), notification.too_large, notification.unusable)
        };
        assert_eq!([read(7, 1000), read(9, 1000), read(1, 1025)], [(1, 0, 0), (0, 1, 0), (0, 1, 0)]);
        let says = notification("shop", 0..2, 9, 1000).says_too_large().unwrap();
        assert_eq!(
            says,
            "2 alerts are ignored: each has labels of more than 8192 bytes, or one of more than 1024"
        );
        assert_eq!(notification("shop", 0..2, 1, 10).says_too_large(), None);
    }
}
