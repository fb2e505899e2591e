//! Which requests of the page are passed on to the API server? Those that the panes need. Pure.
//!
//! | method | path | body |
//! |---|---|---|
//! | GET | policies and sessions, lists and single ones, watches | – |
//! | GET | the views of a session | – |
//! | POST | sessions of a namespace | a ProfileSession |
//! | PATCH | one session | `{"spec":{"cancel":true}}` and nothing else |
//! | PATCH | one policy | its schedule, triggers and sampling, and nothing else: `edits.rs` |
//! | POST | selfsubjectaccessreviews | a SelfSubjectAccessReview |
//!
//! The caller's rights allow more, such as reading Secrets. A page that was taken over could not use them.

use fleetprof_crds::names::{DATA_GROUP, GROUP, VERSION, VIEWS};
use http::Method;
use serde_json::{Value, json};

use super::edits::{self, Policy};
use crate::cluster::Ask;
use crate::paths;

/// The longest query.
const LONGEST_QUERY: usize = 4096;
/// The kinds of fleetprof.
const KINDS: [&str; 3] = ["profilesessions", "profilingpolicies", "clusterprofilingpolicies"];

/// The request to pass on, or why it is not passed on.
pub(super) fn allowed(method: &Method, path: &str, query: Option<&str>, body: &[u8]) -> Result<Ask, String> {
    let parts: Vec<&str> = path.split('/').collect();
    let ["", "apis", group, version, rest @ ..] = parts.as_slice() else {
        return Err(refusal(method, path));
    };
    if !rest.iter().all(|part| paths::name(part).is_ok()) || query.is_some_and(|q| q.len() > LONGEST_QUERY) {
        return Err(refusal(method, path));
    }
    let full = query.map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
    let ask = match (*group, *version, method.as_str()) {
        (GROUP, VERSION, "GET") if reads(rest) => Ask::get(full),
        (DATA_GROUP, VERSION, "GET") if views(rest) => Ask::get(full).accept("*/*"),
        (GROUP, VERSION, "POST") if matches!(rest, ["namespaces", _, "profilesessions"]) => {
            Ask::create(full, &object(body, "ProfileSession")?)
        }
        (GROUP, VERSION, "PATCH") if matches!(rest, ["namespaces", _, "profilesessions", _]) => {
            Ask::merge(full, &cancel(body)?)
        }
        (GROUP, VERSION, "PATCH") => {
            let policy = policy(rest).ok_or_else(|| refusal(method, path))?;
            edits::allowed(&policy, path, query, body)?
        }
        ("authorization.k8s.io", "v1", "POST") if *rest == ["selfsubjectaccessreviews"] => {
            Ask::create(full, &object(body, "SelfSubjectAccessReview")?)
        }
        _ => return Err(refusal(method, path)),
    };
    Ok(ask)
}

/// The policy of a path.
fn policy<'a>(rest: &[&'a str]) -> Option<Policy<'a>> {
    match *rest {
        ["namespaces", namespace, "profilingpolicies", name] => {
            Some(Policy { kind: "ProfilingPolicy", name, namespace: Some(namespace) })
        }
        ["clusterprofilingpolicies", name] => {
            Some(Policy { kind: "ClusterProfilingPolicy", name, namespace: None })
        }
        _ => None,
    }
}

/// Lists and single objects.
fn reads(rest: &[&str]) -> bool {
    match rest {
        [kind] | ["namespaces", _, kind] => KINDS.contains(kind),
        ["namespaces", _, kind, _] => KINDS[..2].contains(kind),
        [kind, _] => *kind == KINDS[2],
        _ => false,
    }
}

fn views(rest: &[&str]) -> bool {
    matches!(rest, ["namespaces", _, "profilesessions", _, view] if VIEWS.contains(view))
}

fn refusal(method: &Method, path: &str) -> String {
    let path: String = path.chars().take(200).collect();
    format!("the console does not pass {method} {path:?} on: its panes do not need it")
}

fn object(body: &[u8], kind: &str) -> Result<Value, String> {
    let object: Value =
        serde_json::from_slice(body).map_err(|error| format!("the request is not JSON: {error}"))?;
    match object.get("kind").and_then(Value::as_str) == Some(kind) {
        true => Ok(object),
        false => Err(format!("the request is not a {kind}: the console passes nothing else on here")),
    }
}

fn cancel(body: &[u8]) -> Result<Value, String> {
    let wanted = json!({"spec": {"cancel": true}});
    match serde_json::from_slice::<Value>(body).is_ok_and(|patch| patch == wanted) {
        true => Ok(wanted),
        false => Err("the console changes nothing of a session but spec.cancel".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUPS: &str = "/apis/fleetprof.dev/v1alpha1";
    const DATA: &str = "/apis/data.fleetprof.dev/v1alpha1/namespaces/shop/profilesessions/now-1";

    fn passes(method: Method, path: &str, body: &str) -> bool {
        let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
        allowed(&method, path, query, body.as_bytes()).is_ok()
    }

    #[test]
    fn what_the_panes_need_is_passed_on() {
        for path in [
            format!("{GROUPS}/profilesessions?watch=1&resourceVersion=5"),
            format!("{GROUPS}/namespaces/shop/profilingpolicies?limit=500"),
            format!("{GROUPS}/clusterprofilingpolicies"),
            format!("{GROUPS}/clusterprofilingpolicies/fleet"),
            format!("{GROUPS}/namespaces/shop/profilesessions/now-1"),
            format!("{DATA}/flamegraph?root=0.1"),
            format!("{DATA}/diff?base=now-0&format=flamegraph"),
            format!("{DATA}/profile"),
        ] {
            assert!(passes(Method::GET, &path, ""), "{path}");
        }
        let session = r#"{"kind": "ProfileSession", "spec": {}}"#;
        assert!(passes(
            Method::POST,
            &format!("{GROUPS}/namespaces/shop/profilesessions?dryRun=All"),
            session
        ));
        let one = format!("{GROUPS}/namespaces/shop/profilesessions/now-1");
        assert!(passes(Method::PATCH, &one, r#"{"spec":{"cancel":true}}"#));
        let review = r#"{"kind": "SelfSubjectAccessReview"}"#;
        assert!(passes(Method::POST, "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review));
    }

    #[test]
    fn paths_outside_the_list_are_refused() {
        for path in [
            "/",
            "",
            "/api",
            "/api/v1/secrets",
            "/api/v1/namespaces/shop/secrets/token",
            "/apis",
            "/version",
            "/openapi/v2",
            "/metrics",
            "/apis/apps/v1/deployments",
            "/apis/fleetprof.dev/v1beta1/profilesessions",
            "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
            "apis/fleetprof.dev/v1alpha1/profilesessions",
        ] {
            assert!(!passes(Method::GET, path, ""), "{path}");
        }
        for path in [
            "nodes",
            "namespaces/shop/secrets",
            "namespaces/shop/profilesessions/a/status",
            "profilesessions/",
        ] {
            assert!(!passes(Method::GET, &format!("{GROUPS}/{path}"), ""), "{path}");
        }
        assert!(!passes(Method::GET, &format!("{DATA}/exec"), "") && !passes(Method::GET, DATA, ""));
    }

    #[test]
    fn ways_around_the_list_are_refused() {
        for path in [
            "namespaces/../../../../api/v1/secrets",
            "namespaces/./profilesessions",
            "namespaces//profilesessions",
            "namespaces/..%2f..%2f/profilesessions",
            "namespaces/%2e%2e/profilesessions",
            "namespaces/shop/profilesessions/..",
            "namespaces/shop/profilesessions/a%3fb",
            "namespaces/shop/profilesessions/a;b",
            "namespaces/shop/profilesessions/a\\b",
            "namespaces/SHOP/profilesessions",
            "namespaces/shop/profilesessions/a#b",
            "profilesessions%00",
        ] {
            assert!(!passes(Method::GET, &format!("{GROUPS}/{path}"), ""), "{path}");
        }
        let long = format!("{GROUPS}/profilesessions?continue={}", "x".repeat(LONGEST_QUERY));
        assert!(!passes(Method::GET, &long, ""));
    }

    #[test]
    fn only_these_writes_are_passed_on() {
        let all = format!("{GROUPS}/namespaces/shop/profilesessions");
        let one = format!("{all}/now-1");
        let session = r#"{"kind": "ProfileSession"}"#;
        for method in
            [Method::DELETE, Method::PUT, Method::HEAD, Method::OPTIONS, Method::CONNECT, Method::PATCH]
        {
            assert!(!passes(method.clone(), &all, session), "{method}");
        }
        assert!(!passes(Method::DELETE, &one, "") && !passes(Method::PUT, &one, session));
        assert!(!passes(Method::POST, &all, r#"{"kind": "Secret"}"#) && !passes(Method::POST, &all, "kind"));
        assert!(!passes(Method::POST, &format!("{GROUPS}/profilesessions"), session), "needs a namespace");
        assert!(!passes(Method::POST, &format!("{GROUPS}/namespaces/shop/profilingpolicies"), session));
        for patch in [
            r#"{"spec":{"cancel":false}}"#,
            r#"{"spec":{"cancel":true,"ttl":"1h"}}"#,
            r#"{"spec":{"cancel":true},"metadata":{"finalizers":["a"]}}"#,
            r#"[{"op":"remove","path":"/spec"}]"#,
            "",
        ] {
            assert!(!passes(Method::PATCH, &one, patch), "{patch}");
        }
    }

    #[test]
    fn only_whole_policies_are_changed_and_only_by_patches() {
        let one = format!("{GROUPS}/namespaces/shop/profilingpolicies/all");
        let change = r#"{"metadata": {"resourceVersion": "7"}, "spec": {"triggers": {"cpu": null}}}"#;
        assert!(passes(Method::PATCH, &one, change));
        assert!(passes(Method::PATCH, &format!("{GROUPS}/clusterprofilingpolicies/fleet"), change));
        for path in [
            format!("{one}/status"),
            format!("{GROUPS}/namespaces/shop/profilingpolicies"),
            format!("{GROUPS}/namespaces/shop/clusterprofilingpolicies/all"),
            format!("{GROUPS}/profilingpolicies/all"),
            format!("{GROUPS}/namespaces/shop/profilesessions/all"),
        ] {
            assert!(!passes(Method::PATCH, &path, change), "{path}");
        }
        for method in [Method::PUT, Method::POST, Method::DELETE] {
            assert!(!passes(method.clone(), &one, change), "{method}");
        }
    }
}
