use fleetprof_crds::Duration;
use fleetprof_crds::schedule::Preset;
use proptest::prelude::*;

use super::*;

fn every(secs: u32) -> Schedule {
    Schedule {
        every: Some(Duration::from_secs(secs)),
        duration: Duration::from_secs(10),
        ..Schedule::default()
    }
}
fn at(secs: i64) -> Timestamp {
    Timestamp::from_second(secs).unwrap()
}
fn plan(uid: &str, schedule: &Schedule) -> Plan {
    Plan::read(uid, schedule).unwrap()
}

proptest! {
    #[test]
    fn now_lies_between_last_and_next(secs in 60u32..604_800, now in 1_700_000_000i64..1_900_000_000, uid in "[a-f0-9]{8}") {
        let (last, next) = plan(&uid, &every(secs)).ticks(at(now));
        let (last, next) = (last.unwrap(), next.unwrap());
        prop_assert!(last.at <= at(now) && at(now) < next.at);
        prop_assert_eq!(last.round + 1, next.round);
        let gap = next.at.duration_since(last.at).as_secs();
        prop_assert!((gap - i64::from(secs)).abs() <= i64::from(secs) / 20 + 1);
    }

    #[test]
    fn a_tick_is_due_or_missed_never_both(created in 1_799_990_000i64..1_800_010_000, last in prop::option::of(1_799_990_000i64..1_800_010_000), late in 0i64..90) {
        let tick = Tick { round: 1, at: at(1_800_000_000) };
        let now = tick.at + SignedDuration::from_secs(late);
        let (due, missed) = (due(Some(tick), at(created), last.map(at), now), missed(Some(tick), at(created), last.map(at), now));
        prop_assert!(due.is_none() || missed.is_none());
        let new = created <= 1_800_000_000 && last.is_none_or(|l| l < 1_800_000_000);
        prop_assert_eq!(due.or(missed).is_some(), new);
        prop_assert_eq!(due.is_some(), new && late <= 30);
    }
}

#[test]
fn presets_are_shares_of_time() {
    for (preset, gap, overhead) in [
        (Preset::Normal, 2400, "5.00% of the time"),
        (Preset::High, 240, "50.00% of the time"),
        (Preset::Maximum, 160, "75.00% of the time"),
    ] {
        let plan = plan("u", &Schedule { preset: Some(preset), ..Schedule::default() });
        assert_eq!(
            (plan.gap(at(1_800_000_000)), plan.overhead(at(1_800_000_000)).as_deref()),
            (Some(gap), Some(overhead))
        );
    }
}

#[test]
fn the_overhead_of_an_irregular_line_is_that_of_its_week_whenever_it_is_asked() {
    let cases = [
        ("0 9-17 * * MON-FRI", "0.89% of the time"),
        ("*/5 9-17 * * MON-FRI", "10.71% of the time"),
        ("* * * * *", "200.00% of the time"),
        ("30 2 * * *", "0.14% of the time"),
        ("0 3 * * MON", "0.02% of the time"),
        ("0,30 3 * * MON,THU", "0.08% of the time"),
    ];
    for (line, wanted) in cases {
        let plan = plan(
            "u",
            &Schedule {
                cron: Some(line.into()),
                time_zone: Some("Europe/Berlin".into()),
                ..Schedule::default()
            },
        );
        // Over the change to summer time, a Friday evening among them.
        for hours in 0..200 {
            let now =
                "2026-03-25T00:15:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_hours(hours);
            assert_eq!(plan.overhead(now).as_deref(), Some(wanted), "{line} at {now}");
        }
    }
    let monthly = plan("u", &Schedule { cron: Some("0 3 1 * *".into()), ..Schedule::default() });
    assert_eq!(
        monthly.gap("2026-05-20T00:00:00Z".parse().unwrap()),
        Some(30 * 86_400),
        "from the first of June to that of July"
    );
    let never = plan("u", &Schedule { cron: Some("0 0 31 2 *".into()), ..Schedule::default() });
    assert_eq!((never.gap(at(1_800_000_000)), never.after(at(1_800_000_000), 2)), (None, None));
}

proptest! {
    /// Ticks are counted, whatever lies between them.
    #[test]
    fn the_tick_after_is_the_nth_one(now in 1_700_000_000i64..1_900_000_000, n in 1u32..17, schedule in prop::sample::select(vec![
        every(60), every(3600), every(604_800), Schedule { cron: Some("0 9-17 * * MON-FRI".into()), ..Schedule::default() },
    ])) {
        let plan = plan("u", &schedule);
        let start = plan.ticks(at(now)).0.unwrap();
        let mut tick = start;
        for _ in 0..n {
            tick = plan.ticks(tick.at).1.unwrap();
        }
        prop_assert_eq!(plan.after(start.at, n), Some(tick));
    }
}

#[test]
fn a_schedule_without_a_word_is_hourly() {
    let plan = plan("u", &Schedule::default());
    assert_eq!(plan.overhead(at(1_800_000_000)).as_deref(), Some("3.33% of the time"));
    assert_eq!(describe(&Schedule::default()), "every 1h for 2m");
}

#[test]
fn policies_with_the_same_cron_line_start_within_half_a_minute() {
    let cron = Schedule {
        cron: Some("0 3 * * *".into()),
        time_zone: Some("Europe/Berlin".into()),
        ..Schedule::default()
    };
    assert_eq!(describe(&cron), "0 3 * * * Europe/Berlin for 2m");
    let base: Timestamp = "2026-07-01T01:00:00Z".parse().unwrap();
    let starts: Vec<i64> = (0..1000)
        .map(|n| {
            plan(&format!("uid-{n}"), &cron)
                .ticks(base - SignedDuration::from_secs(60))
                .1
                .unwrap()
                .at
                .duration_since(base)
                .as_secs()
        })
        .collect();
    assert_eq!((starts.iter().min(), starts.iter().max()), (Some(&0), Some(&29)));
    let plan = plan("u", &cron);
    let tick = plan.ticks(base).1.or(plan.ticks(base).0).unwrap();
    assert_eq!(plan.ticks(tick.at).0, Some(tick), "a tick is the last one at its own time");
}

/// Ten thousand policies that were created together, over one hour: how uneven are the starts?
#[test]
fn many_policies_start_evenly() {
    let hourly = every(3600);
    let (from, mut per_second, mut per_minute) = (1_800_000_000, vec![0u32; 3600], [0u32; 60]);
    for n in 0..10_000 {
        let plan = plan(&format!("uid-{n}"), &hourly);
        let mut tick = plan.ticks(at(from)).1.unwrap().at;
        while tick < at(from + 3600) {
            let second = usize::try_from(tick.as_second() - from).unwrap();
            per_second[second] += 1;
            per_minute[second / 60] += 1;
            tick = plan.ticks(tick).1.unwrap().at;
        }
    }
    let (all, second, minute) =
        (per_second.iter().sum::<u32>(), per_second.iter().max().unwrap(), per_minute.iter().max().unwrap());
    println!(
        "{all} starts of 10000 policies in an hour: at most {second} a second (mean 2.8), {minute} a minute \
         (mean 167)"
    );
    // The most of 3600 Poisson numbers with mean 2.8 is 10 to 13, of 60 with mean 167 about 200.
    assert!(*second <= 15 && *minute < 220, "{second} a second, {minute} a minute");
}
