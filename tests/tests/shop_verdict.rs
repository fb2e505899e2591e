//! Is a second version of the shop with one slower function called so, with the function, and one that differs
//! elsewhere not? On the full cluster with the images of the demo; real rolling updates of real pods. Runs one
//! test at a time: `--test-threads=1`. About 8 min.
#![allow(missing_docs)]

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fleetprof_tests::shop::Shop;
use fleetprof_tests::wait_for;
use serde_json::{Value, json};

const SPACE: &str = "verdicts";
/// Pods of each version; a rolling update runs as many of the new one beside them.
const PODS: u32 = 4;
/// Seconds that pods of both versions run beside each other, at least: the delay, the capture, and some to start, so
/// that old pods are captured for as long as new ones.
const TOGETHER: u32 = 200;

/// The shop without its network: takes orders one after another, for a tenth of a core. A version is the shop's own
/// files with one text replaced, so that functions keep their names and files.
const PROGRAM: &str = r#"
import glob, json, os, sys, time
os.makedirs("/tmp/shop", exist_ok=True)
file, before, after = json.loads(os.environ["CHANGE"])
for path in glob.glob("/app/*.py"):
    text = open(path).read()
    if os.path.basename(path) == file:
        assert before in text, before
        text = text.replace(before, after)
    open("/tmp/shop/" + os.path.basename(path), "w").write(text)
sys.path.insert(0, "/tmp/shop")
import cards, load, server
import random
# With the whole list, nearly all of the time is spent in one function.
cards.ISSUERS = cards.load_issuers(banks=4, ranges_per_bank=13)
rng, shop = random.Random(7), server.Shop()
while True:
    began, end = time.monotonic(), time.thread_time() + 0.01
    while time.thread_time() < end:
        try:
            shop.order(json.loads(load.order(rng)))
        except cards.BadCard:
            pass
    time.sleep(max(0, 0.1 - (time.monotonic() - began)))
"#;

/// A version: its name, and what it replaces by what in which file.
type Version<'a> = (&'a str, [&'a str; 3]);

const FIRST: Version<'_> = ("first", ["cards.py", "total = 0", "total = 0"]);
/// The check digit is looked at for much longer.
const SLOWER: Version<'_> = (
    "slower",
    [
        "cards.py",
        "    total = 0\n",
        "    total = 0\n    for _ in range(40):\n        sum(map(int, digits))\n",
    ],
);
/// The same work under another name.
const RENAMED: Version<'_> = ("renamed", ["pricing.py", "included_tax", "tax_within"]);
/// The same work under a third one.
const RENAMED_AGAIN: Version<'_> = ("renamed-again", ["pricing.py", "included_tax", "tax_inside"]);
/// How many false alarms in so many rollouts that change nothing are more than chance makes of an error rate of 5 %:
/// 5 of 20 come with a probability of 0.3 %.
const FALSE_ALARMS: (usize, usize) = (5, 20);

fn deployment(name: &str, replicas: u32, (version, change): Version<'_>) -> Value {
    let container = json!({
        "name": "app", "image": "docker.io/library/fleetprof-orders:demo", "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-c", PROGRAM], "securityContext": {"runAsUser": 1000, "runAsGroup": 1000},
        "env": [{"name": "CHANGE", "value": json!(change).to_string()}],
        "resources": {"requests": {"cpu": "20m", "memory": "32Mi"}, "limits": {"memory": "128Mi"}},
    });
    let labels = json!({"app.kubernetes.io/name": name});
    let template = json!({"metadata": {"labels": labels, "annotations": {"version": version}},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 1}});
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"namespace": SPACE, "name": name}, "spec": {
        "replicas": replicas, "minReadySeconds": TOGETHER, "selector": {"matchLabels": labels}, "template": template,
        "strategy": {"rollingUpdate": {"maxSurge": "100%", "maxUnavailable": 0}}}})
}

/// Waits until so many pods of an app have an agent that reports.
async fn is_linked(shop: &Shop, name: &str, pods: u32) -> Result<()> {
    wait_for(&format!("{pods} pods of {name} are linked"), Duration::from_secs(120), || async {
        let apps =
            shop.kubectl(&["-n", SPACE, "get", "ppol", "all", "-o", "jsonpath={.status.linkedApps}"])?;
        let apps: Vec<Value> = serde_json::from_str(&apps).unwrap_or_default();
        let is_of = |app: &Value| app["name"] == name && app["linked"] == pods && app["reason"] == "Linked";
        Ok(apps.iter().any(is_of).then_some(()))
    })
    .await
}

fn sessions(shop: &Shop) -> Result<Vec<Value>> {
    let all = shop.kubectl(&["-n", SPACE, "get", "psess", "-o", "json"])?;
    let all: Value = serde_json::from_str(&all)?;
    Ok(all["items"].as_array().cloned().unwrap_or_default())
}

/// Rolls out a version and returns the session that judged it, with the seconds until then.
async fn rolled_out(shop: &Shop, name: &str, replicas: u32, version: Version<'_>) -> Result<(Value, u64)> {
    let began = Instant::now();
    let uid = |session: &Value| session["metadata"]["uid"].clone();
    let before: Vec<Value> = sessions(shop)?.iter().map(uid).collect();
    shop.apply(&deployment(name, replicas, version))?;
    let session = wait_for(&format!("a verdict on {name}"), Duration::from_secs(300), || async {
        let is_of = |session: &Value| {
            let workload = &session["metadata"]["annotations"]["fleetprof.dev/workload"];
            *workload == json!(format!("Deployment/{name}"))
                && session["status"]["comparison"].is_object()
                && !before.contains(&uid(session))
        };
        Ok(sessions(shop)?.into_iter().find(is_of))
    })
    .await?;
    Ok((session, began.elapsed().as_secs()))
}

fn verdict(session: &Value) -> (String, String, String) {
    let mut all = session["status"]["conditions"].as_array().into_iter().flatten();
    let said = all.find(|c| c["type"] == "Regressed").cloned().unwrap_or_default();
    let text = |key: &str| said[key].as_str().unwrap_or_default().to_owned();
    (text("status"), text("reason"), text("message"))
}

#[tokio::test]
async fn a_second_version_with_one_slower_function_is_called_slower_and_others_are_not() -> Result<()> {
    with_room(judged).await
}

#[tokio::test]
#[ignore = "an hour: cargo test --workspace --locked --test shop_verdict -- --ignored"]
async fn rollouts_that_change_nothing_are_hardly_ever_called_slower() -> Result<()> {
    with_room(unchanged).await
}

/// Runs a test while all pods of both versions may be captured at once, and cleans up after it.
async fn with_room(test: impl AsyncFnOnce(&Shop) -> Result<()>) -> Result<()> {
    let shop = Shop::open().await?;
    shop.node_budget(Some(16))?;
    let outcome = test(&shop).await;
    shop.kubectl(&["delete", "namespace", SPACE, "--ignore-not-found", "--timeout=120s"])?;
    shop.node_budget(None)?;
    outcome
}

async fn unchanged(shop: &Shop) -> Result<()> {
    prepared(shop, &[("same", PODS)]).await?;
    let (most, rollouts) = FALSE_ALARMS;
    let mut alarms = 0;
    for number in 1..=rollouts {
        let name = format!("same-{number}");
        let (session, _) = rolled_out(shop, "same", PODS, (&name, FIRST.1)).await?;
        let (_, reason, message) = verdict(&session);
        println!("{number} of {rollouts}: {reason}: {message}");
        alarms += usize::from(reason == "Regressed");
        settled(shop, "same").await?;
    }
    ensure!(alarms < most, "{alarms} of {rollouts} rollouts that changed nothing were called slower");
    Ok(())
}

/// Waits until the old pods of an app are gone.
async fn settled(shop: &Shop, name: &str) -> Result<()> {
    let to = format!("deployment/{name}");
    shop.kubectl(&["-n", SPACE, "rollout", "status", &to, "--timeout=300s"]).map(drop)
}

/// The first versions of these apps, linked by a policy to which they are no news.
async fn prepared(shop: &Shop, apps: &[(&str, u32)]) -> Result<()> {
    let rollout = json!({"delay": "30s", "duration": "2m", "wait": "20s", "compare": {}});
    let spec = json!({"selector": {}, "schedule": {"every": "168h"}, "frequencyHz": 499, "budget": {"maxConcurrent": 16},
        "sampling": {"replicasPerWorkload": PODS}, "triggers": {"rollout": rollout}});
    shop.profiled_namespace(SPACE, &[("all", spec)]).await?;
    // The first versions are new revisions too: their sessions have nothing to compare with, and go.
    shop.kubectl(&[
        "-n",
        SPACE,
        "patch",
        "ppol",
        "all",
        "--type=merge",
        "-p",
        r#"{"spec":{"suspend":true}}"#,
    ])?;
    for (name, replicas) in apps {
        shop.apply(&deployment(name, *replicas, FIRST))?;
        is_linked(shop, name, *replicas).await?;
    }
    // The first versions are no news any more once the policy is made again.
    let policy = shop.kubectl(&["-n", SPACE, "get", "ppol", "all", "-o", "json"])?;
    let mut policy: Value = serde_json::from_str(&policy)?;
    policy["spec"]["suspend"] = json!(false);
    policy["metadata"] = json!({"name": "all", "namespace": SPACE});
    policy.as_object_mut().context("a policy is an object")?.remove("status");
    shop.kubectl(&["-n", SPACE, "delete", "ppol", "all"])?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    shop.apply(&policy)?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    for (name, replicas) in apps {
        is_linked(shop, name, *replicas).await?;
    }
    Ok(())
}

async fn judged(shop: &Shop) -> Result<()> {
    prepared(shop, &[("slower", PODS), ("renamed", PODS), ("single", 1)]).await?;
    let (session, seconds) = rolled_out(shop, "slower", PODS, SLOWER).await?;
    let (status, reason, message) = verdict(&session);
    println!("slower: {reason} {seconds} s after the rollout began: {message}");
    ensure!((status.as_str(), reason.as_str()) == ("True", "Regressed"), "{session:#}");
    let functions = session["status"]["comparison"]["functions"].as_array().cloned().unwrap_or_default();
    let rose = |name: &str| functions.iter().any(|f| f["change"] == "Rose" && f["name"] == name);
    ensure!(rose("check_digit_fits") && !rose("find_issuer"), "{functions:#?}");

    // By its error rate, one verdict in twenty may be a false alarm; two in a row are more than chance.
    let (mut session, _) = rolled_out(shop, "renamed", PODS, RENAMED).await?;
    if verdict(&session).0 == "True" {
        println!("renamed: a false alarm, which is rare; once more: {}", verdict(&session).2);
        settled(shop, "renamed").await?;
        (session, _) = rolled_out(shop, "renamed", PODS, RENAMED_AGAIN).await?;
    }
    let (status, reason, message) = verdict(&session);
    println!("renamed: {reason}: {message}");
    ensure!((status.as_str(), reason.as_str()) == ("False", "NotRegressed"), "{session:#}");

    let (session, _) = rolled_out(shop, "single", 1, SLOWER).await?;
    let (status, reason, message) = verdict(&session);
    println!("single: {reason}: {message}");
    ensure!((status.as_str(), reason.as_str()) == ("Unknown", "FewPods"), "{session:#}");
    Ok(())
}
