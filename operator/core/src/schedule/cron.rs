//! When does a cron expression tick? Parsed by `croner`, in a time zone of the bundled database.
//!
//! Fixed times skipped by daylight saving tick right after the change; times that occur twice tick once.
//! Expressions with `*` in minute or hour tick in each real minute or hour.

use std::str::FromStr;

use croner::Cron;
use jiff::Timestamp;
use jiff::tz::{TimeZone, TimeZoneDatabase};

use super::Invalid;

/// A cron expression and its time zone.
#[derive(Clone, Debug)]
pub struct Clock {
    cron: Cron,
    zone: TimeZone,
}

impl Clock {
    /// Parses `line` and the name of a time zone; `None` is UTC.
    ///
    /// # Errors [`Invalid`] with the field.
    pub fn read(line: &str, zone: Option<&str>) -> Result<Self, Invalid> {
        let cron = Cron::from_str(line).map_err(|e| Invalid {
            field: "spec.schedule.cron",
            message: format!("invalid cron expression {line:?}: {e}"),
        })?;
        let zone = match zone {
            None => TimeZone::UTC,
            Some(name) => TimeZoneDatabase::bundled().get(name).map_err(|_| Invalid {
                field: "spec.schedule.timeZone",
                message: format!("unknown time zone {name:?}; use an IANA name such as Europe/Berlin"),
            })?,
        };
        Ok(Self { cron, zone })
    }

    /// Number of ticks in the seven days starting with that of `now`. Each matching day has the number of
    /// hours times the number of minutes of the expression; daylight saving changes are ignored.
    #[must_use]
    pub fn ticks_in_a_week(&self, now: Timestamp) -> i64 {
        let Ok(mut day) = now.to_zoned(self.zone.clone()).start_of_day() else { return 0 };
        let mut days = 0;
        for _ in 0..7 {
            let Ok(tomorrow) = day.tomorrow().and_then(|next| next.start_of_day()) else { break };
            let first = self.cron.find_next_occurrence(&day, true).ok();
            days += i64::from(first.is_some_and(|first| first < tomorrow));
            day = tomorrow;
        }
        let pattern = &self.cron.pattern;
        let of_day = [&pattern.hours, &pattern.minutes, &pattern.seconds]
            .map(|part| i64::try_from(part.values().len()).unwrap_or(1));
        days * of_day.iter().product::<i64>()
    }

    /// The last tick at or before `now`.
    #[must_use]
    pub fn last(&self, now: Timestamp) -> Option<Timestamp> {
        let found = self.cron.find_previous_occurrence(&now.to_zoned(self.zone.clone()), true).ok()?;
        Some(found.timestamp())
    }

    /// The first tick after `now`; `None` if there is none within years.
    #[must_use]
    pub fn next(&self, now: Timestamp) -> Option<Timestamp> {
        let found = self.cron.find_next_occurrence(&now.to_zoned(self.zone.clone()), false).ok()?;
        Some(found.timestamp())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn times(line: &str, zone: &str, from: &str, count: usize) -> Vec<String> {
        let clock = Clock::read(line, Some(zone)).unwrap();
        let mut at: Timestamp = from.parse().unwrap();
        (0..count)
            .map(|_| {
                at = clock.next(at).unwrap();
                at.to_string()
            })
            .collect()
    }

    #[test]
    fn a_skipped_hour_is_made_up_for_at_once() {
        // Berlin went from 02:00 to 03:00 on 2026-03-29, which was 01:00 UTC.
        let daily = times("30 2 * * *", "Europe/Berlin", "2026-03-27T12:00:00Z", 3);
        assert_eq!(daily, ["2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]);
        let hourly = times("0 * * * *", "Europe/Berlin", "2026-03-28T23:30:00Z", 3);
        assert_eq!(hourly, ["2026-03-29T00:00:00Z", "2026-03-29T01:00:00Z", "2026-03-29T02:00:00Z"]);
    }

    #[test]
    fn a_doubled_hour_ticks_once_for_a_fixed_time_and_twice_for_every_hour() {
        // Berlin went from 03:00 back to 02:00 on 2026-10-25, which was 01:00 UTC.
        let daily = times("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", 2);
        assert_eq!(daily, ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]);
        let half_hourly = times("*/30 * * * *", "Europe/Berlin", "2026-10-24T23:45:00Z", 5);
        assert_eq!(half_hourly.len(), 5);
        assert_eq!(half_hourly.last().unwrap(), "2026-10-25T02:00:00Z");
    }

    #[test]
    fn what_cannot_be_read_says_where() {
        assert_eq!(Clock::read("5-1 * * * *", None).unwrap_err().field, "spec.schedule.cron");
        assert_eq!(
            Clock::read("0 3 * * *", Some("Europe/Bärlin")).unwrap_err().field,
            "spec.schedule.timeZone"
        );
        assert!(
            Clock::read("0 0 31 2 *", None)
                .is_ok_and(|c| c.next("2026-01-01T00:00:00Z".parse().unwrap()).is_none())
        );
    }

    proptest! {
        #[test]
        fn now_lies_between_last_and_next(now in 1_700_000_000i64..1_900_000_000, line in prop::sample::select(vec!["*/5 * * * *", "17 3 * * *", "0 9-17 * * MON-FRI", "@weekly"]),
            zone in prop::sample::select(vec!["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"])) {
            let clock = Clock::read(line, Some(zone)).unwrap();
            let now = Timestamp::from_second(now).unwrap();
            let (last, next) = (clock.last(now).unwrap(), clock.next(now).unwrap());
            prop_assert!(last <= now && now < next, "{last} {now} {next}");
            prop_assert_eq!(clock.next(last).unwrap(), next, "no tick between them");
        }
    }
}
