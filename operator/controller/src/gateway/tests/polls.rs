//! How do orders reach an agent?

use std::time::{Duration, Instant};

use fleetprof_crds::Reason;
use fleetprof_crds::wire::{Order, OrderList};

use super::rig::{Rig, order, scope};

/// Far less than the 25 s of a poll that nothing wakes, far more than a busy machine makes of a few
/// milliseconds.
const SOON: Duration = Duration::from_secs(1);

/// Polls with a long wait while something happens 30 ms later, and gives the answer's age after that.
async fn woken_by(rig: &Rig, have: u64, event: impl FnOnce()) -> (super::rig::Answer, Duration) {
    let happens = async {
        tokio::time::sleep(Duration::from_millis(30)).await;
        event();
        Instant::now()
    };
    let query = format!("?wait=25&have={have}");
    let (answer, happened) = tokio::join!(async { (rig.poll("a", &query).await, Instant::now()) }, happens);
    let (answer, answered) = answer;
    assert!(answered >= happened, "the poll did not wait");
    (answer, answered - happened)
}

/// The order as an agent gets it: with the time that is left, by the rig's clock.
fn sent(order: Order) -> Order {
    Order { start_within_ms: Some(60_000), ..order }
}

#[tokio::test]
async fn the_first_poll_is_answered_at_once() {
    let rig = Rig::new();
    assert_eq!(
        rig.poll("a", "?wait=25").await.accepted::<OrderList>(),
        OrderList { version: 0, orders: vec![] }
    );
    rig.open("c", "a");
    assert_eq!(rig.poll("a", "?wait=25").await.accepted::<OrderList>().orders, [sent(order("c"))]);
}

#[tokio::test]
async fn a_pod_sees_its_own_orders_only() {
    let rig = Rig::new();
    rig.open("c", "a");
    assert!(rig.poll("b", "").await.accepted::<OrderList>().orders.is_empty());
}

#[tokio::test]
async fn a_placed_order_is_delivered_at_once() {
    let rig = Rig::new();
    let (answer, took) = woken_by(&rig, 0, || rig.open("c", "a")).await;
    assert_eq!(answer.accepted::<OrderList>().orders, [sent(order("c"))]);
    assert!(took < SOON, "{took:?}");
}

#[tokio::test]
async fn a_cancelled_order_is_delivered_at_once() {
    let rig = Rig::new();
    rig.open("c", "a");
    let have = rig.poll("a", "").await.accepted::<OrderList>().version;
    let mut cancelled = order("c");
    cancelled.cancel = true;
    let (answer, took) = woken_by(&rig, have, || rig.fleet.open(scope("c", "a"), cancelled.clone())).await;
    assert_eq!(answer.accepted::<OrderList>().orders, [sent(cancelled.clone())]);
    assert!(took < SOON, "{took:?}");
}

#[tokio::test]
async fn a_closed_capture_leaves_the_list_and_wakes_the_poll() {
    let rig = Rig::new();
    rig.open("c", "a");
    let have = rig.poll("a", "").await.accepted::<OrderList>().version;
    let (answer, took) = woken_by(&rig, have, || rig.fleet.close("c")).await;
    assert_eq!(answer.accepted::<OrderList>(), OrderList { version: 0, orders: vec![] });
    assert!(took < SOON, "{took:?}");
}

#[tokio::test]
async fn nothing_new_is_answered_with_the_same_list_when_the_wait_is_over() {
    let rig = Rig::new();
    rig.open("c", "a");
    let list: OrderList = rig.poll("a", "").await.accepted();
    let before = Instant::now();
    // Another pod's order and the same order again are nothing new.
    let query = format!("?wait=1&have={}", list.version);
    let (answer, ()) = tokio::join!(rig.poll("a", &query), async {
        rig.open("d", "b");
        rig.open("c", "a");
    });
    assert_eq!(answer.accepted::<OrderList>(), list);
    assert!(before.elapsed() >= Duration::from_millis(950));
}

#[tokio::test]
async fn a_new_leader_that_opens_the_same_orders_gives_the_same_version() {
    let (old, new) = (Rig::new(), Rig::new());
    for rig in [&old, &new] {
        rig.open("c", "a");
    }
    new.open("d", "a");
    new.fleet.close("d");
    let list = async |rig: &Rig| rig.poll("a", "").await.accepted::<OrderList>();
    assert_eq!(list(&old).await, list(&new).await);
}

#[tokio::test]
async fn before_syncing_no_list_is_given_since_it_would_cancel_what_runs() {
    let rig = Rig::unsynced();
    rig.open("c", "a");
    rig.poll("a", "?wait=25").await.refused(503, Reason::GatewayStarting);
    rig.poll("a", "").await.refused(503, Reason::GatewayStarting);
    rig.fleet.set_synced(true, rig.now());
    assert_eq!(rig.poll("a", "").await.accepted::<OrderList>().orders, [sent(order("c"))]);
}

#[tokio::test]
async fn a_leader_that_steps_down_sends_hanging_polls_home() {
    let rig = Rig::new();
    let (answer, took) = woken_by(&rig, 0, || rig.fleet.set_synced(false, rig.now())).await;
    answer.refused(503, Reason::GatewayStarting);
    assert!(took < SOON, "{took:?}");
}

#[tokio::test]
async fn a_pod_holds_few_polls_at_one_time() {
    let rig = Rig::new();
    let hanging = futures::future::join_all((0..4).map(|_| rig.poll("a", "?wait=1&have=0")));
    let (hung, ()) = tokio::join!(hanging, async {
        tokio::task::yield_now().await;
        rig.poll("a", "?wait=1&have=0").await.refused(429, Reason::TooManyRequests);
    });
    for answer in hung {
        answer.accepted::<OrderList>();
    }
    rig.poll("a", "").await.accepted::<OrderList>();
}

#[tokio::test]
async fn a_poll_whose_agent_hung_up_gives_its_place_back() {
    let rig = Rig::new();
    for _ in 0..20 {
        let poll = tokio::time::timeout(Duration::from_millis(1), rig.poll("a", "?wait=25&have=0"));
        assert!(poll.await.is_err(), "it hangs");
    }
    rig.poll("a", "").await.accepted::<OrderList>();
}

#[tokio::test]
async fn a_question_that_cannot_be_read_is_refused() {
    let rig = Rig::new();
    for query in ["?wait=soon", "?wait=-1", "?have=1.5", "?wait=99999999999999999999", "?wait=1&wait=2"] {
        rig.poll("a", query).await.refused(400, Reason::MalformedRequest);
    }
}
