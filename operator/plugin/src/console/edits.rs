//! Which changes of policies are passed on? When a policy profiles, and nothing else of it. Pure.
//!
//! | change | sent as |
//! |---|---|
//! | fields of the schedule, the triggers and the sampling | server-side apply, in the name of the console |
//! | triggers that somebody else has set are taken away | a merge patch of nulls: an apply cannot take them away |
//!
//! Both name the version of the policy that was looked at: an apply of an older one could take away what another
//! console has set meanwhile.

use serde_json::Value;

use crate::cluster::Ask;
use crate::paths;

/// The field manager of what the page applies.
const MANAGER: &str = "fleetprof-console";
/// What the page may set of a spec. Not, for example, whom the policy selects, or its agent's image.
const EDITABLE: [&str; 5] = ["schedule", "triggers", "sampling", "frequencyHz", "suspend"];

/// The policy of a path.
pub(super) struct Policy<'a> {
    pub(super) kind: &'a str,
    pub(super) name: &'a str,
    /// None for one of the cluster.
    pub(super) namespace: Option<&'a str>,
}

/// The change to pass on, or why it is not passed on.
pub(super) fn allowed(
    policy: &Policy<'_>,
    path: &str,
    query: Option<&str>,
    body: &[u8],
) -> Result<Ask, String> {
    let change: Value =
        serde_json::from_slice(body).map_err(|error| format!("the request is not JSON: {error}"))?;
    if removes(&change) {
        return Ok(Ask::merge(with_options(path, query, &[])?, &change));
    }
    match applies(policy, &change) {
        true => Ok(Ask::apply(with_options(path, query, &[("force", "true")])?, &change)),
        false => Err(format!(
            "the console sets nothing of a policy but {} of the spec, of a named version",
            EDITABLE.join(", ")
        )),
    }
}

/// The path under the console's own name, with the options that the page has: a dry run, and `more`.
fn with_options(path: &str, query: Option<&str>, more: &[(&str, &str)]) -> Result<String, String> {
    let mut wanted = vec![("fieldManager", MANAGER), ("fieldValidation", "Strict")];
    let known: Vec<_> = [("dryRun", "All")].iter().chain(more).copied().collect();
    for (key, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        let option = known.iter().find(|option| **option == (&*key, &*value));
        wanted.push(*option.ok_or_else(|| format!("the console changes no policy with the option {key:?}"))?);
    }
    Ok(paths::with(path, &wanted))
}

/// Whether it is the policy of the path, of a version, with nothing but what the page may set.
fn applies(policy: &Policy<'_>, change: &Value) -> bool {
    let metadata = &change["metadata"];
    only(change, &["apiVersion", "kind", "metadata", "spec"])
        && change["kind"] == policy.kind
        && only(metadata, &["name", "namespace", "resourceVersion"])
        && metadata["name"] == policy.name
        && metadata.get("namespace").and_then(Value::as_str) == policy.namespace
        && has_version(metadata)
        && only(&change["spec"], &EDITABLE)
}

/// Whether it takes triggers away, of a version, and does nothing else.
fn removes(change: &Value) -> bool {
    only(change, &["metadata", "spec"])
        && only(&change["metadata"], &["resourceVersion"])
        && has_version(&change["metadata"])
        && only(&change["spec"], &["triggers"])
        && change["spec"]["triggers"].as_object().is_some_and(|triggers| {
            triggers.iter().all(|(name, of)| of.is_null() || (name == "pressure" && only_nulls(of)))
        })
}

fn only_nulls(value: &Value) -> bool {
    value.as_object().is_some_and(|fields| fields.values().all(Value::is_null))
}

fn has_version(metadata: &Value) -> bool {
    metadata["resourceVersion"].as_str().is_some_and(|version| !version.is_empty())
}

/// Whether it is an object with no other keys.
fn only(value: &Value, known: &[&str]) -> bool {
    value.as_object().is_some_and(|fields| fields.keys().all(|key| known.contains(&key.as_str())))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const PATH: &str = "/apis/fleetprof.dev/v1alpha1/namespaces/shop/profilingpolicies/all";
    const SHOP: Policy<'_> = Policy { kind: "ProfilingPolicy", name: "all", namespace: Some("shop") };

    fn passes(query: &str, change: &Value) -> bool {
        allowed(&SHOP, PATH, Some(query), change.to_string().as_bytes()).is_ok()
    }

    /// A policy as the page applies it.
    fn applied() -> Value {
        json!({
            "apiVersion": "fleetprof.dev/v1alpha1", "kind": "ProfilingPolicy",
            "metadata": {"name": "all", "namespace": "shop", "resourceVersion": "7"},
            "spec": {"schedule": {"every": "1h"}, "triggers": {"cpu": {"threshold": 70}}, "frequencyHz": 99},
        })
    }

    #[test]
    fn a_policy_is_applied_under_the_name_of_the_console() {
        let body = applied().to_string();
        let ask = allowed(&SHOP, PATH, Some("dryRun=All&force=true"), body.as_bytes()).unwrap();
        let own = "fieldManager=fleetprof-console&fieldValidation=Strict";
        assert_eq!(ask.path(), format!("{PATH}?{own}&dryRun=All&force=true"));
        assert_eq!(allowed(&SHOP, PATH, None, body.as_bytes()).unwrap().path(), format!("{PATH}?{own}"));
        let mut fleet = applied();
        fleet["kind"] = json!("ClusterProfilingPolicy");
        fleet["metadata"] = json!({"name": "all", "resourceVersion": "7"});
        let of_cluster = Policy { kind: "ClusterProfilingPolicy", name: "all", namespace: None };
        assert!(allowed(&of_cluster, PATH, None, fleet.to_string().as_bytes()).is_ok());
        assert!(!passes("", &fleet), "of another kind than that of the path");
    }

    #[test]
    fn triggers_are_taken_away_and_nothing_is_set_with_it() {
        let removed = |spec: Value| json!({"metadata": {"resourceVersion": "7"}, "spec": spec});
        let both = json!({"triggers": {"cpu": null, "pressure": {"io": null}}});
        assert!(passes("dryRun=All", &removed(both.clone())));
        assert!(!passes("force=true", &removed(both.clone())), "a merge patch takes no force");
        for spec in [
            json!({"triggers": {"cpu": {"threshold": 1}}}),
            json!({"triggers": {"pressure": {"io": {"threshold": 5}}}}),
            json!({"triggers": {"alerts": []}}),
            json!({"triggers": null}),
            json!({"selector": null}),
            json!({"triggers": {"cpu": null}, "agent": null}),
            json!(null),
        ] {
            assert!(!passes("", &removed(spec.clone())), "{spec}");
        }
        assert!(!passes("", &json!({"spec": both})), "without a version");
        let named = json!({"metadata": {"resourceVersion": "7", "labels": {}}, "spec": both});
        assert!(!passes("", &named), "{named}");
    }

    #[test]
    fn nothing_else_of_a_policy_is_changed() {
        for query in ["fieldManager=kubectl", "dryRun=Some", "force=1", "fieldValidation=Ignore", "x", "%00"]
        {
            assert!(!passes(query, &applied()), "{query}");
        }
        type Change = fn(&mut Value);
        let changes: [Change; 12] = [
            |policy| policy["spec"]["selector"] = json!({}),
            |policy| policy["spec"]["agent"] = json!({"image": "evil"}),
            |policy| policy["spec"]["destinations"] = json!(["evil"]),
            |policy| policy["spec"] = json!([]),
            |policy| policy["status"] = json!({}),
            |policy| policy["metadata"]["finalizers"] = json!(["a"]),
            |policy| policy["metadata"]["name"] = json!("other"),
            |policy| policy["metadata"]["namespace"] = json!("other"),
            |policy| policy["metadata"] = json!({"name": "all", "resourceVersion": "7"}),
            |policy| policy["metadata"]["resourceVersion"] = json!(""),
            |policy| policy["metadata"]["resourceVersion"] = json!(7),
            |policy| policy["kind"] = json!("ClusterProfilingPolicy"),
        ];
        for change in changes {
            let mut changed = applied();
            change(&mut changed);
            assert!(!passes("", &changed), "{changed}");
        }
        for body in ["", "kind: ProfilingPolicy", r#"[{"op": "remove", "path": "/spec"}]"#, "null", "{}"] {
            assert!(allowed(&SHOP, PATH, None, body.as_bytes()).is_err(), "{body}");
        }
    }
}
