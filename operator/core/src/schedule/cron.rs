//! When does a cron expression tick? Parsed by `croner`, in a time zone of the bundled database.
//!
//! Fixed times skipped by daylight saving tick right after the change; times that occur twice tick once.
//! Expressions with `*` in minute or hour tick in each real minute or hour.
//!
//! Expressions that never tick, such as `0 0 30 2 *`, are found when they are read: croner would look for
//! their next tick up to the year 5000, each time. All others tick at least every eight years, which is how
//! far 29 February can be away.

use std::str::FromStr;

use croner::Cron;
use jiff::Timestamp;
use jiff::tz::{TimeZone, TimeZoneDatabase};

use super::Invalid;

/// No clock shows less: 1970, in seconds.
const FIRST: i64 = 0;
/// No clock shows more: about the year 4000, in seconds since 1970.
const LAST: i64 = 64_000_000_000;

/// A cron expression and its time zone.
#[derive(Clone, Debug)]
pub struct Clock {
    cron: Cron,
    zone: TimeZone,
    /// Whether it ever ticks.
    comes: bool,
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
        if is_special(&cron, line) {
            return Err(Invalid {
                field: "spec.schedule.cron",
                message: format!(
                    "cron expression {line:?} has more than five fields or uses L, W, # or +; write its days as \
                     values, ranges and steps"
                ),
            });
        }
        Ok(Self { comes: comes(&cron), cron, zone })
    }

    /// Whether it is worth a search: croner walks day by day from times that it has no years for.
    fn comes_near(&self, now: Timestamp) -> bool {
        self.comes && (FIRST..LAST).contains(&now.as_second())
    }

    /// Number of ticks in the seven days starting with that of `now`. Each matching day has the number of
    /// hours times the number of minutes of the expression; daylight saving changes are ignored.
    #[must_use]
    pub fn ticks_in_a_week(&self, now: Timestamp) -> i64 {
        if !self.comes_near(now) {
            return 0;
        }
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
        if !self.comes_near(now) {
            return None;
        }
        let found = self.cron.find_previous_occurrence(&now.to_zoned(self.zone.clone()), true).ok()?;
        Some(found.timestamp())
    }

    /// The first tick after `now`; `None` if there is none.
    #[must_use]
    pub fn next(&self, now: Timestamp) -> Option<Timestamp> {
        if !self.comes_near(now) {
            return None;
        }
        let found = self.cron.find_next_occurrence(&now.to_zoned(self.zone.clone()), false).ok()?;
        Some(found.timestamp())
    }
}

/// Whether the expression is more than the schema allows: what may not come for decades.
fn is_special(cron: &Cron, line: &str) -> bool {
    let pattern = &cron.pattern;
    let modified = pattern.days.has_modifiers() || pattern.days_of_week.has_modifiers();
    modified || pattern.matches_dom_and_dow() || line.split_whitespace().count() > 5
}

/// Whether some day of some year is in the expression. A day of the week comes in every month; where both are
/// given, either is enough.
fn comes(cron: &Cron) -> bool {
    let pattern = &cron.pattern;
    let days = pattern.days.values();
    let has = |month: u16| days.iter().any(|day| *day <= longest(month));
    !pattern.is_dow_wildcard() || pattern.is_dom_wildcard() || pattern.months.values().into_iter().any(has)
}

/// Days of a month, in a leap year.
const fn longest(month: u16) -> u16 {
    match month {
        2 => 29,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
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
    }

    #[test]
    fn what_never_comes_is_known_without_a_search_and_what_comes_is_found() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let begun = std::time::Instant::now();
        let cases = [
            ("0 0 30 2 *", None),
            ("0 0 31 2 *", None),
            ("0 0 31 2,4,6,9,11 *", None),
            ("0 0 30-31 2 *", None),
            ("0 0 29 2 *", Some("2028-02-29T00:00:00Z")),
            ("0 0 31 2,3 *", Some("2026-03-31T00:00:00Z")),
            ("0 0 30 2 MON", Some("2026-02-02T00:00:00Z")),
            ("0 0 * 2 *", Some("2026-02-01T00:00:00Z")),
        ];
        for (line, wanted) in cases {
            let clock = Clock::read(line, None).unwrap();
            for _ in 0..100 {
                assert_eq!(clock.next(now).map(|at| at.to_string()).as_deref(), wanted, "{line}");
                assert_eq!(clock.last(now).is_some(), wanted.is_some(), "{line}");
                assert_eq!(clock.ticks_in_a_week(now), 0, "{line}");
            }
        }
        // A single search to the year 5000 and back to the year 1 takes longer.
        assert!(begun.elapsed() < std::time::Duration::from_secs(2), "{:?}", begun.elapsed());
        for line in ["0 0 L * *", "0 0 15W * *", "0 0 * * MON#2", "0 0 29 2 +MON", "0 0 0 1 1 * 2400"] {
            assert_eq!(Clock::read(line, None).unwrap_err().field, "spec.schedule.cron", "{line}");
        }
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
