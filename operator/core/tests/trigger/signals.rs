//! Throttling, pressure and threads, and triggers that count checks.

use fleetprof_core::trigger::level::{self, Rule};
use fleetprof_crds::wire::{ContainerReport, Signals, Watch};

use super::*;

fn row(signals: Option<Signals>) -> ContainerReport {
    ContainerReport {
        id: "a-c".into(),
        runtime: "Native".into(),
        cpu_percent: None,
        memory_percent: None,
        signals,
        cpu_of_node: false,
        memory_of_node: false,
        problem: None,
        offers: vec![],
    }
}

fn signals(percent: i32, threads: i32) -> Signals {
    Signals {
        throttled_percent: Some(percent),
        cpu_pressure_percent: Some(percent),
        memory_pressure_percent: Some(percent),
        io_pressure_percent: Some(percent),
        threads: Some(threads),
    }
}

impl World {
    /// What came of the report of the agent in pod `a`, whose container has these signals.
    fn signal(&mut self, second: i64, signals: Signals) -> Admitted {
        let heard = [("uid-a".to_owned(), Heard::of(at(second), &[row(Some(signals))]))].into();
        let firings = self.levels.firings(&(&self.policy).into(), &self.links, &heard);
        self.admit(second, firings)
    }

    fn ready(&self) -> (String, String) {
        let mut status = fleetprof_crds::ProfilingPolicyStatus::default();
        let setup = verdict::Setup { receiver: true, prometheus: true };
        let rules = alert::Rules::of(&(&self.policy).into());
        verdict::fill(
            &(&self.policy).into(),
            &mut status,
            setup,
            &rules,
            &HashMap::new(),
            self.levels.known(),
            at(0),
        );
        let condition = status.conditions.remove(0);
        (format!("{}/{}", condition.status, condition.reason), condition.message)
    }
}

#[test]
fn each_signal_fires_by_its_own_line_and_says_what_it_is() {
    let rule = json!({"threshold": 25, "window": "10s"});
    let cases = [
        (
            json!({"throttling": rule}),
            "Throttling",
            "CPU throttling of container app in pod a was 40 % of its periods",
        ),
        (
            json!({"pressure": {"cpu": rule}}),
            "Pressure",
            "CPU pressure of container app in pod a was 40 % of the time",
        ),
        (
            json!({"pressure": {"memory": rule}}),
            "Pressure",
            "Memory pressure of container app in pod a was 40 % of the time",
        ),
        (
            json!({"pressure": {"io": rule}}),
            "Pressure",
            "I/O pressure of container app in pod a was 40 % of the time",
        ),
        (
            json!({"threads": {"threshold": 500, "window": "10s"}}),
            "Threads",
            "The number of threads of container app in pod a was 620",
        ),
    ];
    for (triggers, trigger, said) in cases {
        let mut world = World::new(triggers.clone(), vec![link("a", "shop")]);
        assert!(world.signal(0, signals(40, 620)).create.is_empty(), "{triggers}");
        let created = world.signal(10, signals(40, 620)).create.remove(0);
        assert_eq!(created.spec.trigger.as_str(), trigger);
        assert!(
            created.spec.cause.starts_with(&format!("{said} for 10 s (threshold ")),
            "{}",
            created.spec.cause
        );
        let mut world = World::new(triggers, vec![link("a", "shop")]);
        for second in (0..100).step_by(10) {
            assert!(world.signal(second, signals(20, 499)).create.is_empty());
        }
    }
}

#[test]
fn agents_are_asked_to_watch_what_a_policy_waits_for() {
    let triggers = |json| policy(json).spec.triggers;
    assert_eq!(level::watch(&Rule::all(&triggers(json!({})))), Watch::default());
    let all = triggers(json!({
        "cpu": {}, "throttling": {}, "pressure": {"io": {"threshold": 50}}, "threads": {"threshold": 300},
    }));
    let wanted = Watch {
        cpu_percent: Some(80),
        memory_percent: None,
        signals: Signals {
            throttled_percent: Some(25),
            io_pressure_percent: Some(50),
            threads: Some(300),
            ..Signals::default()
        },
    };
    assert_eq!(level::watch(&Rule::all(&all)), wanted);
}

#[test]
fn a_signal_that_no_container_has_is_said_and_one_that_some_lack_too() {
    let mut world = World::new(json!({"pressure": {"cpu": {}}}), vec![link("a", "shop"), link("b", "shop")]);
    assert_eq!(world.ready().0, "True/Valid", "nothing was heard yet");
    let none = Signals { threads: Some(3), ..Signals::default() };
    world.signal(0, none);
    let (reason, message) = world.ready();
    let told = "spec.triggers.pressure.cpu: not measured in 1 of 1 containers: it needs cgroup v2 and a kernel with \
                PSI (psi=1).";
    assert_eq!((reason.as_str(), message.as_str()), ("False/SignalUnavailable", told));
    let of = |pod: &str, signals| {
        let row = ContainerReport { id: format!("{pod}-c"), ..row(signals) };
        (format!("uid-{pod}"), Heard::of(at(10), &[row]))
    };
    let heard = [of("a", Some(none)), of("b", Some(signals(0, 1)))].into();
    world.levels.firings(&(&world.policy).into(), &world.links, &heard);
    let (reason, message) = world.ready();
    assert_eq!(reason, "True/Valid");
    assert!(
        message.contains("All triggers are active. spec.triggers.pressure.cpu: not measured in 1 of 2"),
        "{message}"
    );
    // An agent of an earlier version looked for none of them.
    let heard = [of("a", None), of("b", None)].into();
    world.levels.firings(&(&world.policy).into(), &world.links, &heard);
    assert_eq!(world.ready(), ("True/Valid".into(), "All triggers are active.".into()));
}

#[test]
fn peaks_that_come_again_fire_by_checks_and_not_by_the_window() {
    let peaks = [90, 20, 90, 20, 20, 90];
    let fired = |trigger: Value| {
        let mut world = World::new(json!({"cpu": trigger}), vec![link("a", "shop")]);
        let step = |(n, cpu): (usize, &i32)| world.tell(n as i64 * 10, &[("a", *cpu, 0)]).create;
        peaks.iter().enumerate().map(step).collect::<Vec<_>>()
    };
    let numbers = |created: &[Vec<ProfileSession>]| created.iter().map(Vec::len).collect::<Vec<_>>();
    assert_eq!(numbers(&fired(json!({"window": "30s"}))), [0; 6]);
    let by_checks = fired(json!({"checks": {"need": 3, "of": 6}}));
    assert_eq!(numbers(&by_checks), [0, 0, 0, 0, 0, 1]);
    assert_eq!(
        by_checks[5][0].spec.cause,
        "CPU of container app in pod a was at least 80 % of its limit in 3 of the last 6 checks (threshold 80 %)"
    );
    assert_eq!(
        numbers(&fired(json!({"checks": {"need": 3, "of": 5}}))),
        [0; 6],
        "the first one is forgotten"
    );
    assert_eq!(
        numbers(&fired(json!({"checks": {"need": 1, "of": 1}}))),
        [1, 0, 0, 0, 0, 0],
        "then the cooldown holds"
    );
}

#[test]
fn the_same_measurement_told_again_is_one_check() {
    let mut world = World::new(json!({"cpu": {"checks": {"need": 2, "of": 3}}}), vec![link("a", "shop")]);
    for second in [0, 1, 2, 3] {
        assert!(world.tell(second, &[("a", 99, 0)]).create.is_empty(), "at {second} s");
    }
    assert_eq!(world.tell(5, &[("a", 99, 0)]).create.len(), 1);
}

proptest! {
    /// Whatever is measured: a firing by checks is one where so many of the last ones were over the line.
    #[test]
    fn checks_fire_when_so_many_of_the_last_are_over(
        values in prop::collection::vec(60i32..100, 1..80), need in 1i32..8, more in 0i32..8,
    ) {
        let of = need + more;
        let rules = Rule::all(&policy(json!({"cpu": {"checks": {"need": need, "of": of}}})).spec.triggers);
        let (mut run, last) = (None, usize::try_from(of).unwrap());
        for (n, value) in values.iter().enumerate() {
            let level = Level { value: *value, of_node: false };
            run = level::follow(run, at(n as i64 * 10), level, &rules[0]);
            let seen = &values[(n + 1).saturating_sub(last)..=n];
            let over = seen.iter().filter(|value| **value >= 80).count();
            let fires = run.is_some_and(|run| run.fires(&rules[0]));
            prop_assert_eq!(fires, over >= usize::try_from(need).unwrap(), "check {} of {:?}", n, values);
        }
    }

    /// A container that is always over every line fires whatever the rule; one that never is fires never.
    #[test]
    fn what_is_always_over_fires_and_what_never_is_does_not(need in 1i32..20, more in 0i32..20) {
        let of = (need + more).min(20);
        let fired = |cpu| {
            let triggers = json!({"cpu": {"checks": {"need": need, "of": of}}});
            let mut world = World::new(triggers, vec![link("a", "shop")]);
            (0..25).map(|n| world.tell(n * 10, &[("a", cpu, 0)]).create.len()).sum::<usize>()
        };
        prop_assert_eq!((fired(80), fired(79)), (1, 0));
    }
}
