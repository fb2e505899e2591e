//! Does the API server refuse what one object can tell is wrong, in words that say what to do? Every rule of
//! the CRDs has a case that is accepted and one that is refused, against a real kube-apiserver.
#![allow(missing_docs)]

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fleetprof_tests::people::{accepts, cluster_policy, create, object, rejects, resource};
use fleetprof_tests::{admin, api_server, chart, wait_for};
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};

/// An API server with the CRDs and without the gate, which has tests of its own.
async fn server() -> Result<Client> {
    let kubeconfig = api_server()?;
    chart::crds(&kubeconfig)?;
    // The tests of the gate use the same server and may have come first.
    chart::kubectl(
        &kubeconfig,
        &[
            "delete",
            "validatingadmissionpolicybinding",
            "fleetprof-gate",
            "fleetprof-status",
            "fleetprof-keep",
            "--ignore-not-found",
        ],
        None,
    )?;
    let client = admin(&kubeconfig).await?;
    wait_for("the gate is out of force", Duration::from_secs(30), || async {
        accepts(&client, &session(&json!({}))).await.map(Some)
    })
    .await?;
    Ok(client)
}

fn policy(spec: &Value) -> Value {
    let mut full = json!({"selector": {}});
    merge(&mut full, spec);
    object("ProfilingPolicy", "default", "p", &full)
}

fn session(spec: &Value) -> Value {
    let mut full = json!({"target": {"pods": ["a"]}});
    merge(&mut full, spec);
    object("ProfileSession", "default", "s", &full)
}

fn merge(into: &mut Value, from: &Value) {
    for (key, value) in from.as_object().into_iter().flatten() {
        into[key] = value.clone();
    }
}

#[tokio::test]
async fn policies() -> Result<()> {
    let client = server().await?;
    let good = [
        json!({}),
        json!({"selector": {"matchLabels": {"app": "web"}, "matchExpressions": [{"key": "tier", "operator": "In", "values": ["front"]}, {"key": "x", "operator": "Exists"}]}}),
        json!({"containers": {"include": ["app-*"], "exclude": ["*-proxy"]}}),
        json!({"agent": {"mode": "Ephemeral", "existingPods": "Wait"}}),
        json!({"agent": {"existingPods": "Restart"}}),
        json!({"agent": {"mode": "Auto", "existingPods": "Wait"}}),
        json!({"triggers": {"throttling": {}, "threads": {"threshold": 500}}}),
        json!({"triggers": {"pressure": {"cpu": {}, "memory": {"threshold": 5}, "io": {"threshold": 100}}}}),
        json!({"triggers": {"cpu": {"checks": {"need": 3, "of": 5}}}}),
        json!({"agent": {"image": "mirror.example:5000/tools/fleetprof-agent@sha256:0123456789abcdef"}}),
        json!({"agent": {"resources": {"requests": {"cpu": "5m", "memory": "16Mi"}, "limits": {"cpu": "0.5", "memory": "1Gi"}}}}),
        json!({"agent": {"resources": {"limits": {"memory": "32Mi"}}}}),
        json!({"schedule": {"every": "1m", "duration": "10s"}}),
        json!({"schedule": {"every": "168h", "duration": "6m"}}),
        json!({"schedule": {"every": "1h30m"}}),
        json!({"schedule": {"duration": "30s"}}),
        json!({"schedule": {"cron": "*/15 9-17 1,15 jan-MAR MON-FRI", "timeZone": "America/Argentina/Buenos_Aires"}}),
        json!({"schedule": {"cron": "@daily"}}),
        json!({"schedule": {"preset": "High", "duration": "45s"}, "suspend": true, "suspendBehavior": "Cancel"}),
        json!({"budget": {"maxConcurrent": 1, "maxConcurrentPerNode": 100, "minContainerCPU": "0.25", "priority": -1000}, "sampling": {"percent": 0}}),
        json!({"frequencyHz": 1000, "profiles": ["cpu", "wall"], "sampling": {"replicasPerWorkload": 50, "maxTargets": 1}}),
        json!({"sampling": {"samplesPerHour": 100, "replicasPerWorkload": 50, "percent": 1}, "profiles": ["wall", "cpu"]}),
        json!({"sampling": {"samplesPerHour": 10_000_000}, "session": {"history": {"succeeded": 1}}}),
        json!({"triggers": {"cpu": {}, "memory": {"threshold": 1, "window": "10s", "duration": "10s", "cooldown": "2m"}}}),
        json!({"triggers": {"rollout": {}, "alerts": [{"matchers": ["alertname=\"Slow Orders\"", "severity=~\"page|warn\"", "team!=shop"]}]}}),
        json!({"triggers": {"rollout": {"delay": "0s", "duration": "6m"}, "alerts": [{"matchers": ["a=b"], "duration": "10s", "cooldown": "2m"}]}}),
        json!({"triggers": {"rollout": {"compare": {}}}}),
        json!({"triggers": {"rollout": {"wait": "0s", "compare": {"baseline": "Sessions", "sessions": 60, "minPods": 25,
            "effect": {"points": "0.1%", "relative": "0%", "least": "100%"}, "errorRate": "20%", "baselineSuffix": "-primary"}}}}),
        json!({"growth": {}}),
        json!({"profiles": ["wall", "heap"], "growth": {"sessions": 60, "errorRate": "0.1%", "effect": {"relative": "0%", "least": "100%"}}}),
        json!({"triggers": {"promQL": [{"name": "slow", "query": "latency > 0.5"}, {"name": "slower", "query": "latency > 1", "for": "0s", "duration": "6m", "cooldown": "2m"}]}}),
        json!({"triggers": {"cpu": {"threshold": 100, "window": "1h", "duration": "6m", "cooldown": "168h"}}}),
        json!({"session": {"startDeadline": "5s", "resultTimeout": "10s", "resultDeadline": "10s", "ttl": "1m", "history": {"succeeded": 0, "failed": 1000}}}),
        json!({"session": {"limits": {"duration": "10s", "frequencyHz": 1000}}}),
    ];
    for spec in &good {
        accepts(&client, &policy(spec)).await?;
    }
    let bad = [
        (json!({"selector": null}), "spec.selector"),
        (
            json!({"selector": {"matchExpressions": [{"key": "a", "operator": "Near", "values": ["b"]}]}}),
            "operator must be In, NotIn, Exists or DoesNotExist",
        ),
        (
            json!({"selector": {"matchExpressions": [{"key": "a", "operator": "In"}]}}),
            "In and NotIn require values",
        ),
        (
            json!({"selector": {"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["b"]}]}}),
            "Exists and DoesNotExist do not allow them",
        ),
        (json!({"selector": {"matchLabels": {"app": "not a label"}}}), "spec.selector.matchLabels"),
        (json!({"containers": {"include": ["App[1]"]}}), "containers.include: globs may only contain"),
        (json!({"containers": {"exclude": ["-"]}}), "containers.exclude: globs may only contain"),
        (json!({"agent": {"mode": "Magic"}}), "spec.agent.mode: Unsupported value: \"Magic\""),
        (json!({"agent": {"existingPods": "Kill"}}), "spec.agent.existingPods: Unsupported value"),
        (
            json!({"agent": {"mode": "Ephemeral", "existingPods": "Restart"}}),
            "agent.existingPods: Restart requires agent.mode Sidecar",
        ),
        (
            json!({"agent": {"mode": "Auto", "existingPods": "Restart"}}),
            "agent.existingPods: Restart requires agent.mode Sidecar",
        ),
        (json!({"triggers": {"throttling": {"threshold": 12}}}), "threshold must be a multiple of 5"),
        (
            json!({"triggers": {"pressure": {"io": {"threshold": 105}}}}),
            "spec.triggers.pressure.io.threshold",
        ),
        (json!({"triggers": {"threads": {}}}), "spec.triggers.threads.threshold: Required value"),
        (
            json!({"triggers": {"memory": {"checks": {"need": 4, "of": 3}}}}),
            "checks.need must be at most checks.of",
        ),
        (json!({"triggers": {"cpu": {"checks": {"need": 1, "of": 21}}}}), "spec.triggers.cpu.checks.of"),
        (json!({"agent": {"image": "two words"}}), "spec.agent.image"),
        (json!({"agent": {"image": ""}}), "spec.agent.image"),
        (
            json!({"agent": {"resources": {"limits": {"memory": "31Mi"}}}}),
            "agent.resources.limits.memory must be at least 32Mi",
        ),
        (json!({"agent": {"resources": {"limits": {"memory": "-1"}}}}), "spec.agent.resources.limits.memory"),
        (json!({"agent": {"resources": {"requests": {"cpu": "much"}}}}), "spec.agent.resources.requests.cpu"),
        (
            json!({"agent": {"resources": {"requests": {"cpu": "1"}, "limits": {"cpu": "999m"}}}}),
            "agent.resources.requests.cpu must not exceed agent.resources.limits.cpu",
        ),
        (
            json!({"agent": {"resources": {"requests": {"memory": "1Gi"}, "limits": {"memory": "1000Mi"}}}}),
            "agent.resources.requests.memory must not exceed agent.resources.limits.memory",
        ),
        (
            json!({"schedule": {"every": "59s", "duration": "10s"}}),
            "schedule.every must be between 1m and 168h",
        ),
        (json!({"schedule": {"every": "169h"}}), "schedule.every must be between 1m and 168h"),
        (json!({"schedule": {"every": "soon"}}), "spec.schedule.every"),
        (json!({"schedule": {"every": "-1h"}}), "spec.schedule.every"),
        (json!({"schedule": {"duration": "9s"}}), "schedule.duration must be between 10s and 6m"),
        (json!({"schedule": {"duration": "7m"}}), "schedule.duration must be between 10s and 6m"),
        (
            json!({"schedule": {"every": "1h", "cron": "0 3 * * *"}}),
            "schedule must have at most one of every, cron and preset",
        ),
        (
            json!({"schedule": {"every": "1h", "preset": "High"}}),
            "schedule must have at most one of every, cron and preset",
        ),
        (json!({"schedule": {"cron": "0 3 * *"}}), "schedule.cron must have five fields"),
        (json!({"schedule": {"cron": "60 3 * * *"}}), "schedule.cron must have five fields"),
        (json!({"schedule": {"cron": "0 3 * * FOO"}}), "schedule.cron must have five fields"),
        (json!({"schedule": {"cron": "0 0 3 * * *"}}), "schedule.cron must have five fields"),
        (json!({"schedule": {"cron": "@reboot"}}), "schedule.cron must have five fields"),
        (json!({"schedule": {"timeZone": "UTC"}}), "schedule.timeZone requires schedule.cron"),
        (json!({"schedule": {"cron": "0 3 * * *", "timeZone": "../etc/passwd"}}), "spec.schedule.timeZone"),
        (json!({"schedule": {"preset": "Insane"}}), "spec.schedule.preset: Unsupported value"),
        (
            json!({"schedule": {"preset": "Maximum", "duration": "44s"}}),
            "schedule.duration must be at least 45s with a preset",
        ),
        (json!({"suspendBehavior": "Explode"}), "spec.suspendBehavior: Unsupported value"),
        (
            json!({"session": {"limits": {"duration": "7m"}}}),
            "session.limits.duration must be between 10s and 6m",
        ),
        (json!({"session": {"limits": {"frequencyHz": 1001}}}), "spec.session.limits.frequencyHz"),
        (json!({"sampling": {"percent": -1}}), "spec.sampling.percent"),
        (json!({"sampling": {"percent": 101}}), "spec.sampling.percent"),
        (json!({"budget": {"maxConcurrent": 0}}), "spec.budget.maxConcurrent"),
        (json!({"budget": {"maxConcurrentPerNode": 0}}), "spec.budget.maxConcurrentPerNode"),
        (json!({"budget": {"minContainerCPU": "-100m"}}), "spec.budget.minContainerCPU"),
        (json!({"budget": {"minContainerCPU": "a lot"}}), "spec.budget.minContainerCPU"),
        (json!({"budget": {"priority": 1001}}), "spec.budget.priority"),
        (
            json!({"schedule": {"every": "2m", "duration": "2m"}}),
            "schedule.every must be longer than schedule.duration",
        ),
        (
            json!({"triggers": {"promQL": [{"name": "a", "query": "x"}, {"name": "a", "query": "y"}]}}),
            "promQL: names must be unique",
        ),
        (json!({"triggers": {"promQL": [{"name": "A b", "query": "x"}]}}), "spec.triggers.promQL[0].name"),
        (json!({"triggers": {"promQL": [{"name": "a", "query": ""}]}}), "spec.triggers.promQL[0].query"),
        (
            json!({"triggers": {"promQL": [{"name": "a", "query": "x", "for": "25h"}]}}),
            "for must be at most 24h",
        ),
        (
            json!({"triggers": {"promQL": [{"name": "a", "query": "x", "duration": "7m"}]}}),
            "duration must be between 10s and 6m",
        ),
        (
            json!({"triggers": {"promQL": [{"name": "a", "query": "x", "cooldown": "1m"}]}}),
            "cooldown must be between 2m and 168h",
        ),
        (json!({"triggers": {"alerts": [{}]}}), "spec.triggers.alerts[0].matchers"),
        (json!({"triggers": {"alerts": [{"matchers": []}]}}), "spec.triggers.alerts[0].matchers"),
        (
            json!({"triggers": {"alerts": [{"matchers": ["alertname"]}]}}),
            "matchers must be written as alertname=",
        ),
        (
            json!({"triggers": {"alerts": [{"matchers": ["a=\"b"]}]}}),
            "matchers must be written as alertname=",
        ),
        (
            json!({"triggers": {"alerts": [{"matchers": ["a=b"], "cooldown": "1m"}]}}),
            "cooldown must be between 2m and 168h",
        ),
        (
            json!({"triggers": {"alerts": [{"matchers": ["a=b"], "duration": "7m"}]}}),
            "duration must be between 10s and 6m",
        ),
        (json!({"triggers": {"rollout": {"delay": "25h"}}}), "delay must be at most 24h"),
        (json!({"triggers": {"rollout": {"duration": "1s"}}}), "duration must be between 10s and 6m"),
        (json!({"triggers": {"rollout": {"wait": "25h"}}}), "wait must be at most 24h"),
        (
            json!({"triggers": {"rollout": {"compare": {"baseline": "Canary"}}}}),
            "spec.triggers.rollout.compare.baseline",
        ),
        (
            json!({"triggers": {"rollout": {"compare": {"minPods": 1}}}}),
            "spec.triggers.rollout.compare.minPods",
        ),
        (
            json!({"triggers": {"rollout": {"compare": {"sessions": 61}}}}),
            "spec.triggers.rollout.compare.sessions",
        ),
        (
            json!({"triggers": {"rollout": {"compare": {"errorRate": "20.1%"}}}}),
            "compare.errorRate must be between 0.1% and 20%",
        ),
        (
            json!({"triggers": {"rollout": {"compare": {"errorRate": "5"}}}}),
            "spec.triggers.rollout.compare.errorRate",
        ),
        (
            json!({"triggers": {"rollout": {"compare": {"effect": {"points": "0%"}}}}}),
            "compare.effect.points and compare.effect.least must be between 0.1% and 100%",
        ),
        (json!({"growth": {"sessions": 7}}), "spec.growth.sessions"),
        (json!({"growth": {"errorRate": "20.1%"}}), "growth.errorRate must be between 0.1% and 20%"),
        (json!({"growth": {"effect": {"least": "0%"}}}), "growth.effect.least must be between 0.1% and 100%"),
        (json!({"growth": {}, "profiles": ["wall"]}), "spec.growth requires cpu or heap in spec.profiles"),
        (json!({"triggers": {"cpu": {"threshold": 0}}}), "spec.triggers.cpu.threshold"),
        (json!({"triggers": {"cpu": {"threshold": 101}}}), "spec.triggers.cpu.threshold"),
        (
            json!({"triggers": {"memory": {"window": "9s"}}}),
            "spec.triggers.memory: Invalid value: window must be between 10s and 1h",
        ),
        (json!({"triggers": {"cpu": {"window": "61m"}}}), "window must be between 10s and 1h"),
        (json!({"triggers": {"cpu": {"duration": "9s"}}}), "duration must be between 10s and 6m"),
        (json!({"triggers": {"cpu": {"duration": "7m"}}}), "duration must be between 10s and 6m"),
        (json!({"triggers": {"cpu": {"cooldown": "119s"}}}), "cooldown must be between 2m and 168h"),
        (json!({"triggers": {"cpu": {"cooldown": "169h"}}}), "cooldown must be between 2m and 168h"),
        (json!({"profiles": []}), "spec.profiles"),
        (json!({"profiles": ["cpu", "cpu"]}), "Duplicate value"),
        (json!({"profiles": ["smell"]}), "Unsupported value: \"smell\""),
        (json!({"frequencyHz": 0}), "spec.frequencyHz"),
        (json!({"frequencyHz": 1001}), "spec.frequencyHz"),
        (json!({"sampling": {"replicasPerWorkload": 0}}), "spec.sampling.replicasPerWorkload"),
        (json!({"sampling": {"maxTargets": 51}}), "spec.sampling.maxTargets"),
        (json!({"sampling": {"samplesPerHour": 99}}), "spec.sampling.samplesPerHour"),
        (json!({"sampling": {"samplesPerHour": 10_000_001}}), "spec.sampling.samplesPerHour"),
        (
            json!({"sampling": {"samplesPerHour": 5000, "percent": 0}}),
            "sampling.samplesPerHour requires a sampling.percent above 0",
        ),
        (
            json!({"sampling": {"samplesPerHour": 5000}, "profiles": ["wall", "heap"]}),
            "sampling.samplesPerHour counts CPU samples and requires cpu in spec.profiles",
        ),
        (
            json!({"sampling": {"samplesPerHour": 5000}, "session": {"history": {"succeeded": 0}}}),
            "sampling.samplesPerHour requires session.history.succeeded of at least 1",
        ),
        (json!({"session": {"startDeadline": "4s"}}), "session.startDeadline must be between 5s and 1h"),
        (
            json!({"session": {"resultTimeout": "9s"}}),
            "session.resultTimeout must be between 10s and session.resultDeadline",
        ),
        (
            json!({"session": {"resultDeadline": "1m"}}),
            "session.resultTimeout must be between 10s and session.resultDeadline",
        ),
        (json!({"session": {"resultDeadline": "169h"}}), "session.resultDeadline must be at most 168h"),
        (json!({"session": {"ttl": "59s"}}), "session.ttl must be at least 1m"),
        (json!({"session": {"history": {"succeeded": -1}}}), "spec.session.history.succeeded"),
    ];
    for (spec, words) in &bad {
        rejects(&client, &policy(spec), words).await?;
    }
    rejects(
        &client,
        &object("ProfilingPolicy", "default", &"p".repeat(64), &json!({"selector": {}})),
        "at most 63 characters",
    )
    .await?;
    Ok(())
}

#[tokio::test]
async fn cluster_policies() -> Result<()> {
    let client = server().await?;
    let policy = |spec: &Value| {
        let mut full = json!({"selector": {}, "namespaceSelector": {}});
        merge(&mut full, spec);
        cluster_policy("p", &full)
    };
    let good = [
        json!({}),
        json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "shop"}}}),
        json!({"namespaceSelector": {"matchExpressions": [{"key": "team", "operator": "NotIn", "values": ["a"]}, {"key": "env", "operator": "Exists"}]}}),
        json!({"agent": {"mode": "Ephemeral"}, "schedule": {"every": "1m", "duration": "10s"}, "sampling": {"maxTargets": 1}}),
    ];
    for spec in &good {
        accepts(&client, &policy(spec)).await?;
    }
    let expression = |requirement: Value| json!({"namespaceSelector": {"matchExpressions": [requirement]}});
    let bad = [
        (json!({"namespaceSelector": null}), "spec.namespaceSelector"),
        (
            json!({"sampling": {"samplesPerHour": 5000}, "profiles": ["wall"]}),
            "sampling.samplesPerHour counts CPU samples and requires cpu in spec.profiles",
        ),
        (
            json!({"sampling": {"samplesPerHour": 5000, "percent": 0}}),
            "sampling.samplesPerHour requires a sampling.percent above 0",
        ),
        (
            json!({"namespaceSelector": {"matchLabels": {"team": "not a label"}}}),
            "spec.namespaceSelector.matchLabels",
        ),
        (
            json!({"namespaceSelector": {"matchLabels": {"team": "a".repeat(64)}}}),
            "spec.namespaceSelector.matchLabels",
        ),
        (
            expression(json!({"key": "a", "operator": "Near", "values": ["b"]})),
            "spec.namespaceSelector.matchExpressions: operator must be In, NotIn, Exists or DoesNotExist",
        ),
        (
            expression(json!({"key": "a", "operator": "In"})),
            "spec.namespaceSelector.matchExpressions: In and NotIn require values",
        ),
        (
            expression(json!({"key": "a", "operator": "Exists", "values": ["b"]})),
            "Exists and DoesNotExist do not allow them",
        ),
        (
            expression(json!({"key": "no key", "operator": "Exists"})),
            "spec.namespaceSelector.matchExpressions[0].key",
        ),
        (
            expression(json!({"key": "a".repeat(64), "operator": "Exists"})),
            "spec.namespaceSelector.matchExpressions[0].key",
        ),
        (json!({"selector": null}), "spec.selector"),
        (
            json!({"selector": {"matchExpressions": [{"key": "a", "operator": "In"}]}}),
            "spec.selector.matchExpressions: In and NotIn require values",
        ),
        (
            json!({"schedule": {"every": "2m", "duration": "2m"}}),
            "schedule.every must be longer than schedule.duration",
        ),
        (json!({"containers": {"include": ["App[1]"]}}), "containers.include: globs may only contain"),
    ];
    for (spec, words) in &bad {
        rejects(&client, &policy(spec), words).await?;
    }
    rejects(
        &client,
        &cluster_policy(&"p".repeat(64), &json!({"selector": {}, "namespaceSelector": {}})),
        "at most 63 characters",
    )
    .await?;
    Ok(())
}

#[tokio::test]
async fn sessions() -> Result<()> {
    let client = server().await?;
    let good = [
        json!({}),
        json!({"target": null, "policyRef": {"name": "p"}}),
        json!({"target": {"workload": {"kind": "Deployment", "name": "orders"}}, "policyRef": {"kind": "ProfilingPolicy", "name": "p"}}),
        json!({"target": null, "policyRef": {"kind": "ClusterProfilingPolicy", "name": "p"}}),
        json!({"target": {"podSelector": {"matchLabels": {"app": "x"}}}}),
        json!({"duration": "10s", "container": "app", "frequencyHz": 1, "labels": {"build": "17"}}),
        json!({"labels": {"_test.run/load-7": "v".repeat(128), "k".repeat(63): "an odd value: é, \"quoted\""}}),
        json!({"duration": "6m", "startDeadline": "1h", "resultTimeout": "15m", "resultDeadline": "168h", "ttl": "720h"}),
        json!({"startWhen": {"jobRef": {"name": "load"}}}),
        json!({"startWhen": {"podSelector": {"matchLabels": {"app": "load"}}, "deadline": "24h"}, "repeat": {"untilLoadEnds": true}}),
        json!({"duration": "30s", "repeat": {"count": 50, "interval": "30s"}}),
        json!({"duration": "6m", "repeat": {"count": 1}}),
        json!({"compare": {"revision": "orders-6d5c8f9b7d", "rules": {"minPods": 2}}, "profiles": ["wall", "cpu"]}),
        json!({"trigger": "CPU", "cause": "CPU of container shop in pod shop-x was 93 % of its limit for 30 \
                                           s (threshold 80 %)"}),
        json!({"context": {"traceId": "0af7651916cd43dd8448eb211c80319c", "spanId": "b7ad6b7169203331", "note": "slow"}}),
    ];
    for spec in &good {
        accepts(&client, &session(spec)).await?;
    }
    let bad = [
        (json!({"startWhen": {}}), "spec.startWhen must have exactly one of jobRef and podSelector"),
        (
            json!({"startWhen": {"jobRef": {"name": "a"}, "podSelector": {}}}),
            "spec.startWhen must have exactly one of jobRef and podSelector",
        ),
        (json!({"startWhen": {"jobRef": {"name": "A b"}}}), "spec.startWhen.jobRef.name"),
        (
            json!({"startWhen": {"jobRef": {"name": "a"}, "deadline": "9s"}}),
            "spec.startWhen.deadline must be between 10s and 24h",
        ),
        (
            json!({"startWhen": {"jobRef": {"name": "a"}, "deadline": "25h"}}),
            "spec.startWhen.deadline must be between 10s and 24h",
        ),
        (json!({"repeat": {}}), "spec.repeat must have exactly one of count and untilLoadEnds: true"),
        (
            json!({"repeat": {"untilLoadEnds": false}}),
            "spec.repeat must have exactly one of count and untilLoadEnds: true",
        ),
        (
            json!({"repeat": {"count": 2, "untilLoadEnds": true}, "startWhen": {"jobRef": {"name": "a"}}}),
            "spec.repeat must have exactly one of count and untilLoadEnds: true",
        ),
        (json!({"repeat": {"untilLoadEnds": true}}), "spec.repeat.untilLoadEnds requires spec.startWhen"),
        (json!({"repeat": {"count": 0}}), "spec.repeat.count"),
        (json!({"repeat": {"count": 51}}), "spec.repeat.count"),
        (
            json!({"repeat": {"count": 2, "interval": "1m"}}),
            "spec.repeat.interval counts from start to start and must be at least spec.duration",
        ),
        (json!({"repeat": {"count": 2, "interval": "25h"}}), "spec.repeat.interval must be at most 24h"),
        (json!({"compare": {}}), "spec.compare.revision"),
        (json!({"compare": {"revision": "a b"}}), "spec.compare.revision"),
        (
            json!({"compare": {"revision": "6d5c"}, "repeat": {"interval": "10m", "count": 3}}),
            "spec.compare does not allow spec.repeat",
        ),
        (
            json!({"compare": {"revision": "6d5c"}, "profiles": ["wall"]}),
            "spec.compare requires cpu in spec.profiles",
        ),
        (json!({"target": null}), "set spec.policyRef, spec.target or both"),
        (json!({"target": {}}), "exactly one of workload, podSelector and pods"),
        (
            json!({"target": {"pods": ["a"], "podSelector": {}}}),
            "exactly one of workload, podSelector and pods",
        ),
        (json!({"target": {"pods": []}}), "spec.target.pods"),
        (json!({"target": {"pods": ["A b"]}}), "spec.target.pods"),
        (json!({"target": {"workload": {"kind": "deployment", "name": "x"}}}), "spec.target.workload.kind"),
        (json!({"policyRef": {"name": ""}}), "spec.policyRef.name"),
        (json!({"policyRef": {"kind": "Wish", "name": "p"}}), "spec.policyRef.kind: Unsupported value"),
        (json!({"container": "App"}), "spec.container"),
        (json!({"duration": "5s"}), "spec.duration must be between 10s and 6m"),
        (json!({"duration": "1h"}), "spec.duration must be between 10s and 6m"),
        (json!({"duration": "two minutes"}), "spec.duration"),
        (json!({"startDeadline": "1s"}), "spec.startDeadline must be between 5s and 1h"),
        (json!({"resultTimeout": "1s"}), "spec.resultTimeout must be between 10s and spec.resultDeadline"),
        (json!({"resultDeadline": "999h"}), "spec.resultDeadline must be at most 168h"),
        (json!({"ttl": "1s"}), "spec.ttl must be at least 1m"),
        (json!({"frequencyHz": -5}), "spec.frequencyHz"),
        (json!({"trigger": "Boredom"}), "spec.trigger: Unsupported value"),
        (json!({"cause": "x".repeat(513)}), "spec.cause"),
        (json!({"context": {"traceId": "XYZ"}}), "spec.context.traceId"),
        (json!({"context": {"spanId": "1"}}), "spec.context.spanId"),
        (
            json!({"labels": (0..17).map(|n| (format!("l{n}"), json!("v"))).collect::<serde_json::Map<_, _>>()}),
            "spec.labels",
        ),
        (json!({"labels": {"k".repeat(64): "v"}}), "spec.labels: keys must have at most 63 letters"),
        (json!({"labels": {"k".repeat(40_000): "v"}}), "spec.labels: keys must have at most 63 letters"),
        (json!({"labels": {"": "v"}}), "spec.labels: keys must have at most 63 letters"),
        (json!({"labels": {"7th": "v"}}), "spec.labels: keys must have at most 63 letters"),
        (json!({"labels": {"a b": "v"}}), "spec.labels: keys must have at most 63 letters"),
        (json!({"labels": {"build\nid": "v"}}), "spec.labels: keys must have at most 63 letters"),
        (json!({"labels": {"build": "v".repeat(129)}}), "spec.labels.build"),
    ];
    for (spec, words) in &bad {
        rejects(&client, &session(spec), words).await?;
    }
    let repeated = object(
        "ProfileSession",
        "default",
        &"s".repeat(61),
        &json!({"target": {"pods": ["a"]}, "repeat": {"count": 2}}),
    );
    rejects(&client, &repeated, "at most 60 characters with spec.repeat").await?;
    Ok(())
}

#[tokio::test]
async fn a_field_that_there_is_not_is_refused_by_name() -> Result<()> {
    server().await?;
    for (spec, field) in [
        (json!({"destination": "nowhere"}), "spec.destination"),
        (json!({"agent": {"imag": "x"}}), "spec.agent.imag"),
    ] {
        let policy = policy(&spec).to_string();
        let Err(error) =
            chart::kubectl(&api_server()?, &["apply", "--dry-run=server", "-f", "-"], Some(&policy))
        else {
            anyhow::bail!("{field} was taken")
        };
        ensure!(format!("{error:#}").contains(&format!("unknown field \"{field}\"")), "{error:#}");
    }
    Ok(())
}

#[tokio::test]
async fn defaults_stand_in_what_is_stored() -> Result<()> {
    let client = server().await?;
    let stored = accepts(&client, &policy(&json!({}))).await?;
    let expected = json!({
        "selector": {}, "containers": {}, "agent": {"mode": "Sidecar", "existingPods": "AttachOnDemand"},
        "schedule": {"duration": "2m"}, "profiles": ["cpu"], "frequencyHz": 99, "destinations": ["default"],
        "sampling": {"percent": 100, "replicasPerWorkload": 1, "maxTargets": 50}, "suspend": false, "suspendBehavior": "Finish",
        "budget": {"maxConcurrent": 10, "minContainerCPU": "100m", "priority": 0},
        "session": {"startDeadline": "1m", "resultTimeout": "15m", "resultDeadline": "24h", "ttl": "168h", "history": {"succeeded": 10, "failed": 5}},
    });
    assert_eq!(stored["spec"], expected);
    let stored = accepts(&client, &session(&json!({}))).await?;
    assert_eq!(
        (&stored["spec"]["duration"], &stored["spec"]["trigger"], &stored["spec"]["cancel"]),
        (&json!("2m"), &json!("OnDemand"), &json!(false))
    );
    Ok(())
}

#[tokio::test]
async fn a_session_is_immutable_but_for_cancel() -> Result<()> {
    let client = server().await?;
    let api: Api<DynamicObject> =
        Api::namespaced_with(client.clone(), "default", &resource("ProfileSession"));
    let mut wanted = session(&json!({"policyRef": {"name": "p"}, "labels": {"a": "b"}}));
    wanted["metadata"] = json!({"generateName": "immutable-", "namespace": "default"});
    let name = create(&client, &wanted, false).await?.metadata.name.unwrap_or_default();
    let patch = |spec: Value| {
        let (api, name) = (api.clone(), name.clone());
        async move { api.patch(&name, &PatchParams::default(), &Patch::Merge(json!({"spec": spec}))).await }
    };
    let changes = [
        json!({"duration": "30s"}),
        json!({"target": {"pods": ["b"]}}),
        json!({"target": null}),
        json!({"policyRef": null}),
        json!({"policyRef": {"name": "q"}}),
        json!({"container": "x"}),
        json!({"frequencyHz": 5}),
        json!({"startDeadline": "30s"}),
        json!({"resultTimeout": "1m"}),
        json!({"resultDeadline": "1h"}),
        json!({"ttl": "1h"}),
        json!({"labels": {"a": "c"}}),
        json!({"context": {"note": "n"}}),
        json!({"compare": {"revision": "6d5c"}}),
        json!({"trigger": "Schedule"}),
        json!({"cause": "because"}),
        json!({"requestedBy": {"username": "eve"}}),
        json!({"startWhen": {"jobRef": {"name": "load"}}}),
        json!({"repeat": {"count": 3}}),
    ];
    for change in changes {
        let error = patch(change.clone()).await.err().map(|e| e.to_string()).unwrap_or_default();
        assert!(error.contains("immutable except for spec.cancel"), "{change}: {error}");
    }
    patch(json!({"cancel": true})).await?;
    let error = patch(json!({"cancel": false})).await.err().map(|e| e.to_string()).unwrap_or_default();
    assert!(error.contains("spec.cancel cannot be unset"), "{error}");
    api.delete(&name, &kube::api::DeleteParams::default()).await?;
    Ok(())
}

/// Every manifest in the README, in docs/ and in examples/ is one that the API server takes. Other kinds are
/// not asked about.
#[tokio::test]
async fn manifests_in_the_documents() -> Result<()> {
    let client = server().await?;
    let root = fleetprof_tests::root();
    let mut files = vec![root.join("README.md")];
    for folder in ["docs", "examples"] {
        for entry in std::fs::read_dir(root.join(folder))? {
            files.push(entry?.path());
        }
    }
    let mut seen = 0;
    for file in files.iter().filter(|f| f.is_file()) {
        let text = std::fs::read_to_string(file)?;
        let whole = file.extension().is_some_and(|e| e == "yaml");
        let blocks = if whole { vec![text.as_str()] } else { blocks(&text) };
        for block in blocks.iter().filter(|b| b.contains("apiVersion: fleetprof.dev/")) {
            let mut manifest: Value =
                serde_yaml::from_str(block).with_context(|| format!("{}: {block}", file.display()))?;
            if manifest["kind"] != "ClusterProfilingPolicy" {
                manifest["metadata"]["namespace"] = json!("default");
            }
            accepts(&client, &manifest).await.with_context(|| format!("{}: {block}", file.display()))?;
            seen += 1;
        }
    }
    ensure!(seen >= 11, "{seen} manifests");
    Ok(())
}

/// The blocks of a document between ```yaml and ```, and in its commands between <<'EOF' and EOF.
fn blocks(text: &str) -> Vec<&str> {
    let between = |from: &str, to: &str| {
        text.split(from).skip(1).filter_map(|rest| rest.split(to).next()).collect::<Vec<_>>()
    };
    [between("```yaml\n", "```"), between("<<'EOF'\n", "\nEOF")].concat()
}

/// Who checks a certificate asks for the short names.
#[test]
fn the_certificate_among_the_examples_has_the_names_that_are_asked_for() -> Result<()> {
    let text = std::fs::read_to_string(fleetprof_tests::root().join("examples/certificate.yaml"))?;
    let certificate: Value = serde_yaml::from_str(&text)?;
    let mut names: Vec<String> = serde_json::from_value(certificate["spec"]["dnsNames"].clone())?;
    names.sort();
    let asked_for = fleetprof_operator::tls::CertificateNames::of("fleetprof", "fleetprof").dns_names;
    assert_eq!(names, asked_for.into_iter().filter(|name| name.ends_with(".svc")).collect::<Vec<_>>());
    Ok(())
}
