//! Which container of a pod is profiled? Shared by the webhook, the controllers and the tests.

use fleetprof_crds::names;
use fleetprof_crds::policy::Containers;

/// Common sidecars: proxies, secret injectors, log and metric collectors. They are only profiled if
/// `containers.include` or the default-container annotation selects them.
const KNOWN_SIDECARS: &[&str] = &[
    "aws-otel-collector",
    "aws-xray-daemon",
    "cloud-sql-proxy",
    "cloudsql-proxy",
    "config-reloader",
    "consul-dataplane",
    "container-agent",
    "dapr-sidecar",
    "daprd",
    "datadog-agent",
    "dynatrace-oneagent",
    "envoy",
    "envoy-sidecar",
    "filebeat",
    "fluent-bit",
    "fluentbit",
    "fluentd",
    "gke-gcsfuse-sidecar",
    "istio-proxy",
    "jaeger-agent",
    "kube-rbac-proxy",
    "kuma-sidecar",
    "linkerd-proxy",
    "oauth2-proxy",
    "otc-container",
    "otel-agent",
    "otel-collector",
    "opentelemetry-collector",
    "promtail",
    "queue-proxy",
    "tailscale",
    "vault-agent",
    "vector",
];

/// The container of a pod that `rules` pick, of its app containers' `names` in their order; `annotation` is
/// the value of [`names::DEFAULT_CONTAINER_ANNOTATION`]. `None` when the rules leave nothing.
///
/// 1. What `exclude` matches is out, and our own agent.
/// 2. With `include`: the first container that it matches.
/// 3. Without: the container that the annotation names, else the first that is not a known sidecar.
#[must_use]
pub fn choose_container<'a>(
    names: &[&'a str],
    annotation: Option<&str>,
    rules: &Containers,
) -> Option<&'a str> {
    let mut candidates =
        names.iter().copied().filter(|name| !is_agent(name) && barred_by(name, rules).is_none());
    if !rules.include.is_empty() {
        return candidates.next();
    }
    let named = candidates.clone().find(|name| annotation == Some(*name));
    named.or_else(|| candidates.find(|name| !KNOWN_SIDECARS.contains(name)))
}

/// The rule of a policy that excludes a container from profiling, even if a session names it.
#[must_use]
pub fn barred_by(name: &str, rules: &Containers) -> Option<String> {
    if let Some(glob) = rules.exclude.iter().find(|glob| matches_glob(glob, name)) {
        return Some(format!("it matches {glob:?} in containers.exclude of the policy"));
    }
    let included = rules.include.is_empty() || any_glob(&rules.include, name);
    (!included)
        .then(|| format!("it does not match containers.include of the policy ({})", rules.include.join(", ")))
}

fn is_agent(name: &str) -> bool {
    name == names::SIDECAR_NAME || name.starts_with(names::ATTACHED_PREFIX)
}

fn any_glob(globs: &[String], name: &str) -> bool {
    globs.iter().any(|glob| matches_glob(glob, name))
}

/// Whether `glob` (`*` any run, `?` any one byte) matches the whole of `text`.
/// Takes at most `glob.len() * text.len()` steps: only the last `*` is ever tried again.
#[must_use]
pub fn matches_glob(glob: &str, text: &str) -> bool {
    let (glob, text) = (glob.as_bytes(), text.as_bytes());
    let (mut g, mut t) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while let Some(byte) = text.get(t) {
        match glob.get(g) {
            Some(b'*') => {
                retry = Some((g, t));
                g += 1;
            }
            Some(c) if *c == b'?' || c == byte => {
                g += 1;
                t += 1;
            }
            _ => {
                let Some((star, from)) = retry else { return false };
                retry = Some((star, from + 1));
                g = star + 1;
                t = from + 1;
            }
        }
    }
    glob.get(g..).is_some_and(|rest| rest.iter().all(|c| *c == b'*'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rules(include: &[&str], exclude: &[&str]) -> Containers {
        let own = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
        Containers { include: own(include), exclude: own(exclude) }
    }

    /// (containers, annotation, rules, expected, sentence)
    type Case<'a> = (&'a [&'a str], Option<&'a str>, Containers, Option<&'a str>, &'a str);

    #[test]
    fn the_rules_pick_one_container() {
        let cases: &[Case] = &[
            (&["app"], None, rules(&[], &[]), Some("app"), "the only one"),
            (&["app", "other"], None, rules(&[], &[]), Some("app"), "the first one"),
            (&["istio-proxy", "app"], None, rules(&[], &[]), Some("app"), "a known sidecar is passed over"),
            (&["envoy"], None, rules(&[], &[]), None, "a known sidecar is never guessed"),
            (&["envoy"], Some("envoy"), rules(&[], &[]), Some("envoy"), "unless the annotation names it"),
            (&["envoy"], None, rules(&["envoy"], &[]), Some("envoy"), "or include does"),
            (&["a", "b"], Some("b"), rules(&[], &[]), Some("b"), "the annotation wins over the order"),
            (
                &["a", "b"],
                Some("gone"),
                rules(&[], &[]),
                Some("a"),
                "an annotation that names nothing is passed over",
            ),
            (&["a", "b"], Some("b"), rules(&[], &["b"]), Some("a"), "exclude wins over the annotation"),
            (&["a", "b"], Some("a"), rules(&["b"], &[]), Some("b"), "include wins over the annotation"),
            (
                &["web-1", "web-2"],
                None,
                rules(&["web-*"], &["*-1"]),
                Some("web-2"),
                "exclude wins over include",
            ),
            (&["a", "b"], None, rules(&["c"], &[]), None, "include matches nothing"),
            (&["a", "b"], None, rules(&[], &["*"]), None, "everything is excluded"),
            (
                &["fleetprof-agent", "app"],
                None,
                rules(&["*"], &[]),
                Some("app"),
                "the agent never profiles itself",
            ),
            (&[], None, rules(&[], &[]), None, "no container"),
        ];
        for (containers, annotation, rules, expected, sentence) in cases {
            assert_eq!(choose_container(containers, *annotation, rules), *expected, "{sentence}");
        }
    }

    #[test]
    fn a_container_that_is_asked_for_by_name_is_held_to_the_rules() {
        for (name, rules, rule) in [
            ("envoy", rules(&[], &[]), None),
            ("envoy", rules(&["envoy"], &[]), None),
            (
                "envoy",
                rules(&[], &["app", "env*"]),
                Some("it matches \"env*\" in containers.exclude of the policy"),
            ),
            (
                "envoy",
                rules(&["*"], &["envoy"]),
                Some("it matches \"envoy\" in containers.exclude of the policy"),
            ),
            (
                "envoy",
                rules(&["app", "web-*"], &[]),
                Some("it does not match containers.include of the policy (app, web-*)"),
            ),
        ] {
            assert_eq!(barred_by(name, &rules).as_deref(), rule);
        }
    }

    #[test]
    fn globs_match_whole_names() {
        for (glob, text, expected) in [
            ("app", "app", true),
            ("app", "apps", false),
            ("app*", "app", true),
            ("*", "", true),
            ("?", "", false),
            ("a?c", "abc", true),
            ("a*c", "abbbc", true),
            ("a*c", "abcd", false),
            ("*b*b*", "abab", true),
            ("*ab", "aab", true),
            ("", "", true),
            ("", "a", false),
        ] {
            assert_eq!(matches_glob(glob, text), expected, "{glob} {text}");
        }
    }

    #[test]
    fn a_hostile_glob_ends_soon() {
        let glob = "*a".repeat(1_000) + "b";
        assert!(!matches_glob(&glob, &"a".repeat(2_000)));
    }

    /// The definition, ignoring run time.
    fn by_definition(glob: &[u8], text: &[u8]) -> bool {
        match (glob.split_first(), text.split_first()) {
            (None, None) => true,
            (Some((b'*', rest)), _) => {
                by_definition(rest, text) || text.split_first().is_some_and(|(_, t)| by_definition(glob, t))
            }
            (Some((g, rest)), Some((t, text))) => (*g == b'?' || g == t) && by_definition(rest, text),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn globs_match_by_their_definition(glob in "[ab*?]{0,8}", text in "[ab]{0,10}") {
            prop_assert_eq!(matches_glob(&glob, &text), by_definition(glob.as_bytes(), text.as_bytes()));
        }

        #[test]
        fn the_choice_is_one_of_the_containers_and_obeys_the_rules(
            containers in prop::collection::vec("[ab]{1,3}|envoy", 0..5),
            annotation in prop::option::of("[ab]{1,3}"),
            include in prop::collection::vec("[ab*?]{1,3}", 0..2),
            exclude in prop::collection::vec("[ab*?]{1,3}", 0..2),
        ) {
            let names: Vec<&str> = containers.iter().map(String::as_str).collect();
            let rules = Containers { include, exclude };
            if let Some(chosen) = choose_container(&names, annotation.as_deref(), &rules) {
                prop_assert!(names.contains(&chosen));
                prop_assert!(!any_glob(&rules.exclude, chosen));
                prop_assert!(rules.include.is_empty() || any_glob(&rules.include, chosen));
            }
        }
    }
}
