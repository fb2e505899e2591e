//! What do the views say of what was captured?

use std::io::Read;

use fleetprof_profile::total;
use serde_json::{Value, json};

use super::fixtures::{Answer, World};
use crate::results::tests::fixtures::decoded;

const SHOP: &str = "/apis/data.fleetprof.dev/v1alpha1/namespaces/shop/profilesessions";

async fn json_of(world: &World, path: &str) -> Value {
    let answer = world.get(&format!("{SHOP}/{path}")).await;
    assert_eq!(answer.status.as_u16(), 200, "{path}: {}", answer.text());
    answer.json()
}

/// Sends a request as a client that takes these.
async fn taking(world: &World, path: &str, header: (&'static str, &'static str)) -> Answer {
    let ann = [("x-remote-user", "ann"), ("x-remote-group", "devs"), header];
    world.send("GET", &format!("{SHOP}/{path}"), &ann, Some("front-proxy-client")).await
}

#[tokio::test]
async fn a_call_tree_comes_as_columns() {
    let world = World::new().await;
    let tree = json_of(&world, "now/flamegraph").await;
    assert_eq!(
        (&tree["kind"], &tree["apiVersion"]),
        (&"ProfileFlamegraph".into(), &"data.fleetprof.dev/v1alpha1".into())
    );
    assert_eq!(tree["metadata"], json!({"namespace": "shop", "name": "now"}));
    assert_eq!(
        (&tree["sampleType"], &tree["unit"], &tree["samples"]),
        (&"cpu".into(), &"nanoseconds".into(), &11.into())
    );
    assert_eq!(tree["podSeconds"], 20.0, "two pods, 10 s each");
    assert_eq!(tree["names"], json!(["total", "main", "work", "wait"]));
    assert_eq!(tree["files"], json!(["", "/srv/app/main.py", "/srv/app/work.py", "/srv/app/work.py"]));
    assert_eq!((&tree["depth"], &tree["name"]), (&json!([0, 1, 2, 2]), &json!([0, 1, 2, 3])));
    let nanos = |samples: i64| samples * 10_101_010;
    assert_eq!(tree["self"], json!([0, 0, nanos(9), nanos(2)]));
    assert_eq!((&tree["pruned"], &tree["prunedValue"]), (&json!([0, 0, 0, 0]), &0.into()));

    let pruned = json_of(&world, "now/flamegraph?nodes=3").await;
    assert_eq!(pruned["self"], json!([0, 0, nanos(9)]), "what is left out is not self");
    assert_eq!((&pruned["pruned"], &pruned["prunedNodes"]), (&json!([0, nanos(2), 0]), &1.into()));
    let part = json_of(&world, "now/flamegraph?root=0.1&pod=orders-1").await;
    assert_eq!((&part["above"], &part["names"]), (&json!(["total", "main"]), &json!(["wait"])));
    assert_eq!((&part["self"], &part["total"]), (&json!([nanos(1)]), &nanos(7).into()));
}

#[tokio::test]
async fn stacks_come_as_folded_text() {
    let world = World::new().await;
    let folded = world.get(&format!("{SHOP}/now/folded?pod=orders-2")).await;
    assert_eq!(folded.text(), "main;wait 10101010\nmain;work 30303030\n");
    let idle = world.get(&format!("{SHOP}/now/folded?type=wall")).await;
    assert_eq!(idle.text(), "[idle] 150000000\npay;recv 50000000\n");
}

#[tokio::test]
async fn a_process_is_read_alone_in_every_view() {
    let world = World::new().await;
    let rows =
        async |query: &str| json_of(&world, &format!("mixed/top?format=json{query}")).await["rows"].clone();
    assert_eq!(rows("").await.as_array().unwrap().len(), 2);
    let web = rows("&process=web").await;
    assert_eq!(
        (web.as_array().unwrap().len(), &web[0]["name"], &web[0]["selfPercent"]),
        (1, &"serve".into(), &100.0.into())
    );
    let file = world.get(&format!("{SHOP}/mixed/profile?process=job")).await;
    assert_eq!(total(&decoded(&file.body), 0), 3);
    assert_eq!(json_of(&world, "mixed/flamegraph?process=job").await["samples"], 3);
}

#[tokio::test]
async fn two_sessions_are_compared_by_pod_and_second() {
    let world = World::new().await;
    let diff = json_of(&world, "now/diff?base=before&format=json").await;
    assert_eq!((&diff["kind"], &diff["basis"]), (&"ProfileDiff".into(), &"perPodSecond".into()));
    assert_eq!(diff["metadata"], json!({"namespace": "shop", "name": "now", "base": "before"}));
    assert_eq!((&diff["base"]["podSeconds"], &diff["after"]["podSeconds"]), (&10.0.into(), &20.0.into()));
    let row =
        |name: &str| diff["rows"].as_array().unwrap().iter().find(|row| row["name"] == name).unwrap().clone();
    assert_eq!(row("</script>")["selfDelta"], -20_202_020.0, "20 samples in 10 s");
    assert_eq!((&row("</script>")["selfNoise"], &row("work")["selfNoise"]), (&false.into(), &true.into()));
    let share = json_of(&world, "now/diff?base=before&format=json&basis=share&n=1").await;
    assert_eq!((&share["basis"], share["rows"].as_array().unwrap().len()), (&"share".into(), 1));

    let by_total = json_of(&world, "now/diff?base=before&format=json&order=total").await;
    let totals: Vec<f64> = by_total["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["cumDelta"].as_f64().unwrap().abs())
        .collect();
    assert_eq!((&diff["order"], &by_total["order"]), (&"self".into(), &"total".into()));
    assert!(totals.is_sorted_by(|one, next| one >= next), "{totals:?}");
    let text = world.get(&format!("{SHOP}/now/diff?base=before")).await;
    for part in
        ["by pod and second (basis perPodSecond)", "11 samples, 20 pod-seconds", "may be chance", "work"]
    {
        assert!(text.text().contains(part), "{part}: {}", text.text());
    }
    let tree = json_of(&world, "now/diff?base=before&format=flamegraph").await;
    assert_eq!((&tree["kind"], &tree["basis"]), (&"ProfileFlamegraph".into(), &"perPodSecond".into()));
    assert_eq!(tree["names"], json!(["total", "main", "work", "</script>", "wait"]));
    assert_eq!((&tree["self"][3], &tree["base"]["self"][3]), (&0.into(), &202_020_200.into()));
    assert_eq!(tree["noise"][3], false);
}

#[tokio::test]
async fn a_rollout_is_compared_with_the_revision_before_and_a_session_with_itself() {
    let world = World::new().await;
    assert_eq!(json_of(&world, "now/diff?format=json").await["metadata"]["base"], "before");
    let same = json_of(&world, "now/diff?base=now&format=json").await;
    for row in same["rows"].as_array().unwrap() {
        assert_eq!(
            (&row["selfDelta"], &row["cumDelta"], &row["selfNoise"]),
            (&0.0.into(), &0.0.into(), &true.into())
        );
    }
    let pods = json_of(&world, "now/diff?base=now&pod=orders-1&basePod=orders-2&format=json").await;
    assert_eq!((&pods["base"]["samples"], &pods["after"]["samples"]), (&4.into(), &7.into()));
}

#[tokio::test]
async fn a_browser_gets_a_page_that_runs_nothing_of_a_profile() {
    let world = World::new().await;
    for path in ["now/diff?base=before", "before/flamegraph"] {
        let page = taking(&world, path, ("accept", "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8")).await;
        assert_eq!(
            (page.status.as_u16(), &page.headers["content-type"]),
            (200, &"text/html; charset=utf-8".parse().unwrap())
        );
        let policy = page.headers["content-security-policy"].to_str().unwrap();
        let in_page = policy.strip_suffix("; frame-ancestors 'none'").unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'sha256-"), "{policy}");
        assert!(page.text().contains(&format!("content=\"{in_page}\"")), "saved pages keep it");
        assert_eq!(page.text().matches("</script>").count(), 2, "the function </script> ends none");
        assert!(page.text().contains(r"\u003c/script>"));
    }
    let asked = world.get(&format!("{SHOP}/now/flamegraph?format=html")).await;
    assert!(asked.text().starts_with("<!doctype html>"), "kubectl can save it");
    let json = taking(&world, "now/flamegraph?format=json", ("accept", "text/html")).await;
    assert_eq!(json.headers["content-type"], "application/json", "who says what gets it");
    let top = taking(&world, "now/top", ("accept", "text/html")).await;
    assert_eq!(top.headers["content-type"], "text/plain; charset=utf-8");
}

#[tokio::test]
async fn answers_are_compressed_for_clients_that_unpack_them() {
    let world = World::new().await;
    let plain = taking(&world, "now/flamegraph?format=html", ("accept-encoding", "br;q=1.0, identity")).await;
    assert!(!plain.headers.contains_key("content-encoding"));
    let packed = taking(&world, "now/flamegraph?format=html", ("accept-encoding", "br, gzip;q=0.5")).await;
    assert_eq!(
        (&packed.headers["content-encoding"], &packed.headers["vary"]),
        (&"gzip".parse().unwrap(), &"Accept, Accept-Encoding".parse().unwrap())
    );
    assert_eq!(packed.headers["content-length"].to_str().unwrap(), packed.body.len().to_string());
    let mut text = Vec::new();
    flate2::read::GzDecoder::new(&packed.body[..]).read_to_end(&mut text).unwrap();
    assert_eq!(text, plain.body);
    assert!(packed.body.len() < plain.body.len());
    let file = taking(&world, "now/profile", ("accept-encoding", "gzip")).await;
    assert!(!file.headers.contains_key("content-encoding"), "a profile is compressed already");
}

#[tokio::test]
async fn a_profile_for_the_go_compiler_has_no_labels() {
    let world = World::new().await;
    let file = world.get(&format!("{SHOP}/mixed/profile?pgo=true")).await;
    assert_eq!(file.headers["content-disposition"], "attachment; filename=\"shop-mixed.pb.gz\"");
    let profile = decoded(&file.body);
    assert_eq!(
        (total(&profile, 0), profile.sample.iter().map(|sample| sample.label.len()).sum::<usize>()),
        (9, 0)
    );
    assert!(profile.function.iter().all(|function| function.start_line == 40));
}
