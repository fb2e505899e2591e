//! Which account binds, what is said of it, and who of those that wait goes first.

mod properties;

use super::*;

const WIDE: Limits =
    Limits { node: 100, policy_on_node: 100, namespace: 100, policy: 100, fleet: 100, people: 100 };

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

/// A claim of a machine on a container of its own.
fn claim(capture: &str, node: &str, priority: i32, limits: Limits) -> Claim {
    Claim {
        capture: capture.into(),
        session: format!("s-{capture}"),
        name: format!("session-{capture}"),
        namespace: "shop".into(),
        policy: "p".into(),
        node: node.into(),
        container: format!("c-{capture}"),
        asker: Asker::Policy,
        priority,
        since: at(0),
        limits,
    }
}

fn person(capture: &str, container: &str, limits: Limits) -> Claim {
    Claim { asker: Asker::Person, container: container.into(), ..claim(capture, "n1", 0, limits) }
}

fn machine(capture: &str, container: &str, limits: Limits) -> Claim {
    Claim { container: container.into(), ..claim(capture, "n1", 0, limits) }
}

fn reason(place: Place) -> Option<Reason> {
    match place {
        Place::Granted => None,
        Place::Busy(busy) => Some(busy.reason),
    }
}

fn message(place: Place) -> String {
    match place {
        Place::Granted => String::new(),
        Place::Busy(busy) => busy.message,
    }
}

#[test]
fn each_account_binds_and_is_named() {
    let one = Limits { node: 1, policy_on_node: 1, namespace: 1, policy: 1, fleet: 1, people: 1 };
    let cases = [
        (Limits { node: 1, ..WIDE }, Reason::NodeBusy, "n1, the limit is 1 (chart value budgets.node)"),
        (Limits { policy_on_node: 1, ..WIDE }, Reason::NodeBusy, "1 (budget.maxConcurrentPerNode)"),
        (Limits { namespace: 1, ..WIDE }, Reason::BudgetExhausted, "budgets.namespace"),
        (Limits { policy: 1, ..WIDE }, Reason::BudgetExhausted, "the limit is 1 (budget.maxConcurrent)"),
        (Limits { fleet: 1, ..WIDE }, Reason::BudgetExhausted, "budgets.fleet"),
        (one, Reason::NodeBusy, "1 scheduled or triggered capture is running on node n1"),
    ];
    for (limits, wanted, words) in cases {
        let mut ledger = Ledger::default();
        assert_eq!(ledger.claim(claim("a", "n1", 0, limits), at(0)), Place::Granted);
        assert_eq!(ledger.claim(claim("a", "n1", 0, limits), at(0)), Place::Granted, "the same again");
        let Place::Busy(busy) = ledger.claim(claim("b", "n1", 0, limits), at(0)) else { panic!("{words}") };
        assert!(busy.reason == wanted && busy.message.contains(words), "{busy:?}");
        ledger.release("a");
        assert_eq!(ledger.claim(claim("b", "n1", 0, limits), at(0)), Place::Granted);
    }
}

#[test]
fn a_person_is_told_where_people_fill_a_node() {
    let two = Limits { people: 2, ..WIDE };
    let mut ledger = Ledger::default();
    for capture in ["a", "b"] {
        assert_eq!(ledger.claim(person(capture, capture, two), at(0)), Place::Granted);
    }
    let wanted = "2 captures that users requested are running on node n1, the limit is 2 (chart value \
                  budgets.onDemandPerNode)";
    let third = ledger.claim(person("c", "c", two), at(0));
    assert_eq!((reason(third.clone()), message(third).as_str()), (Some(Reason::NodeBusy), wanted));
    assert_eq!(ledger.claim(machine("m", "m", two), at(0)), Place::Granted, "machines have their own places");
    ledger.release("a");
    assert_eq!(ledger.claim(person("c", "c", two), at(1)), Place::Granted);
}

#[test]
fn who_waits_with_a_higher_priority_goes_first() {
    let one = Limits { node: 1, ..WIDE };
    let mut ledger = Ledger::default();
    assert_eq!(ledger.claim(claim("running", "n1", 0, one), at(0)), Place::Granted);
    assert_eq!(reason(ledger.claim(claim("low", "n1", 1, one), at(0))), Some(Reason::NodeBusy));
    assert_eq!(reason(ledger.claim(claim("high", "n1", 5, one), at(1))), Some(Reason::NodeBusy));
    ledger.release("running");
    assert_eq!(
        reason(ledger.claim(claim("low", "n1", 1, one), at(2))),
        Some(Reason::NodeBusy),
        "the place is for who goes before"
    );
    assert_eq!(ledger.claim(claim("other node", "n2", 0, one), at(2)), Place::Granted);
    assert_eq!(ledger.claim(claim("high", "n1", 5, one), at(2)), Place::Granted);
    ledger.release("high");
    assert_eq!(ledger.claim(claim("low", "n1", 1, one), at(3)), Place::Granted);
}

#[test]
fn a_tenants_priority_counts_in_its_namespace_alone() {
    let one = Limits { node: 1, ..WIDE };
    let of = |capture: &str, namespace: &str, asker, priority, since| Claim {
        namespace: namespace.into(),
        asker,
        since: at(since),
        ..claim(capture, "n1", priority, one)
    };
    let cases = [
        ("a tenant's highest priority", Asker::Policy, 1000, "b"),
        ("a cluster policy's priority", Asker::ClusterPolicy, 1, "a"),
        ("a cluster policy of low priority", Asker::ClusterPolicy, -1, "b"),
    ];
    for (what, asker, priority, wanted) in cases {
        let mut ledger = Ledger::default();
        ledger.hold(claim("running", "n1", 0, one));
        let (a, b) = (of("a", "greedy", asker, priority, 1), of("b", "modest", Asker::Policy, 0, 0));
        for claim in [&a, &b] {
            assert_eq!(reason(ledger.claim(claim.clone(), at(1))), Some(Reason::NodeBusy), "{what}");
        }
        ledger.release("running");
        let (first, second) = if wanted == "a" { (a, b) } else { (b, a) };
        assert_eq!(reason(ledger.claim(second, at(2))), Some(Reason::NodeBusy), "{what}");
        assert_eq!(ledger.claim(first, at(2)), Place::Granted, "{what}");
    }
}

#[test]
fn the_namespace_that_holds_fewest_slots_goes_first() {
    let two = Limits { node: 2, ..WIDE };
    let of = |capture: &str, namespace: &str, since| Claim {
        namespace: namespace.into(),
        since: at(since),
        ..claim(capture, "n1", 0, two)
    };
    let mut ledger = Ledger::default();
    ledger.hold(of("a1", "a", 0));
    ledger.hold(of("a2", "a", 0));
    for waiting in [of("a3", "a", 1), of("b1", "b", 9)] {
        assert_eq!(reason(ledger.claim(waiting, at(9))), Some(Reason::NodeBusy));
    }
    ledger.release("a1");
    assert_eq!(
        reason(ledger.claim(of("a3", "a", 1), at(10))),
        Some(Reason::NodeBusy),
        "older, but holds one"
    );
    assert_eq!(ledger.claim(of("b1", "b", 9), at(10)), Place::Granted);
}

#[test]
fn who_asks_no_more_keeps_nobody_waiting() {
    let one = Limits { node: 1, ..WIDE };
    let mut ledger = Ledger::default();
    ledger.hold(claim("running", "n1", 0, one));
    assert_eq!(reason(ledger.claim(claim("gone", "n1", 9, one), at(0))), Some(Reason::NodeBusy));
    ledger.release("running");
    assert_eq!(reason(ledger.claim(claim("b", "n1", 0, one), at(14))), Some(Reason::NodeBusy));
    assert_eq!(ledger.claim(claim("b", "n1", 0, one), at(15)), Place::Granted);
}

/// The cluster's account always has claims that wait, and namespaces come and go, as those of a CI.
#[test]
fn namespaces_that_are_gone_are_forgotten_while_others_wait() {
    let two = Limits { fleet: 2, ..WIDE };
    let built = |n: i64| Claim { namespace: format!("ci-{n}"), ..claim(&format!("{n}"), "n1", 0, two) };
    let mut ledger = Ledger::default();
    ledger.hold(claim("long", "n1", 0, two));
    assert_eq!(ledger.claim(built(0), at(0)), Place::Granted);
    for n in 0..20_000 {
        for waits in ["one", "other"] {
            let busy = Some(Reason::BudgetExhausted);
            assert_eq!(reason(ledger.claim(claim(waits, "n1", 0, two), at(n))), busy);
        }
        assert_eq!(reason(ledger.claim(built(n + 1), at(n))), Some(Reason::BudgetExhausted));
        ledger.release(&n.to_string());
        assert_eq!(ledger.claim(built(n + 1), at(n)), Place::Granted);
    }
    let queues = ledger.waiting.by_account.values();
    let known: usize = queues.map(|queue| queue.served.len()).sum();
    assert!(known < 10_000, "{known} namespaces are remembered");
}

#[test]
fn sessions_without_a_policy_do_not_share_an_account() {
    let mine = |capture: &str| Claim {
        policy: String::new(),
        ..claim(capture, capture, 0, Limits { policy: 1, policy_on_node: 1, ..WIDE })
    };
    let mut ledger = Ledger::default();
    assert_eq!(
        [ledger.claim(mine("a"), at(0)), ledger.claim(mine("b"), at(0))],
        [Place::Granted, Place::Granted]
    );
}

#[test]
fn of_one_container_a_machine_yields_to_a_person_and_two_people_wait_for_each_other() {
    let mut ledger = Ledger::default();
    assert_eq!(ledger.claim(machine("m", "c", WIDE), at(0)), Place::Granted);
    assert_eq!(reason(ledger.claim(machine("m2", "c", WIDE), at(0))), Some(Reason::ContainerBusy));
    assert_eq!((ledger.yields_to("m"), ledger.yielding_to("m")), (None, vec![]));
    assert_eq!(ledger.claim(person("a", "c", WIDE), at(1)), Place::Granted);
    assert_eq!((ledger.yields_to("m"), ledger.yields_to("a")), (Some("session-a"), None));
    assert_eq!(ledger.yielding_to("a"), [("shop".to_owned(), "session-m".to_owned())]);
    ledger.release("m");
    assert_eq!(ledger.yielding_to("a"), []);
    assert_eq!(
        message(ledger.claim(person("b", "c", WIDE), at(1))),
        "session session-a is capturing the container"
    );
    ledger.release("a");
    assert_eq!(reason(ledger.claim(machine("m2", "c", WIDE), at(2))), Some(Reason::ContainerBusy), "b waits");
    assert_eq!(ledger.claim(person("b", "c", WIDE), at(2)), Place::Granted);
    ledger.release("b");
    assert_eq!(ledger.claim(machine("m2", "c", WIDE), at(3)), Place::Granted);
}

#[test]
fn a_tenant_that_came_first_with_many_claims_keeps_nobody_waiting() {
    let one = Limits { node: 1, ..WIDE };
    let of = |namespace: &str, n: i64| Claim {
        namespace: namespace.into(),
        since: at(n),
        ..claim(&format!("{namespace}{n}"), "n1", 0, one)
    };
    let mut ledger = Ledger::default();
    let mut waiting: Vec<Claim> =
        (0..50).map(|n| of("many", n)).chain((100..103).map(|n| of("few", n))).collect();
    let mut granted: Vec<Claim> = Vec::new();
    for second in 0..8 {
        waiting.retain(|claim| {
            let answer = ledger.claim(claim.clone(), at(200 + second));
            granted.extend((answer == Place::Granted).then(|| claim.clone()));
            answer != Place::Granted
        });
        ledger.release(&granted.last().unwrap().capture);
    }
    let order: Vec<&str> = granted.iter().map(|claim| claim.namespace.as_str()).collect();
    assert_eq!(
        order,
        ["many", "many", "few", "many", "few", "many", "few", "many"],
        "one had it before few came"
    );
}
