//! Where is what on the API server?

use fleetprof_crds::names::{DATA_GROUP, GROUP, SYMBOLS, SYMBOLS_CONTENT, VERSION};

use crate::exit::Failure;

/// The sessions of a namespace, or of all.
pub(crate) fn sessions(namespace: Option<&str>) -> String {
    kind(namespace, "profilesessions")
}

/// One session.
pub(crate) fn session(namespace: &str, name: &str) -> String {
    format!("{}/{name}", sessions(Some(namespace)))
}

/// The policies of a namespace, or of all.
pub(crate) fn policies(namespace: Option<&str>) -> String {
    kind(namespace, "profilingpolicies")
}

/// The policies of the cluster.
pub(crate) fn cluster_policies() -> String {
    kind(None, "clusterprofilingpolicies")
}

/// What can be read of a session, such as `top`.
pub(crate) fn view(namespace: &str, name: &str, view: &str, query: &[(&str, &str)]) -> String {
    let path = format!("/apis/{DATA_GROUP}/{VERSION}/namespaces/{namespace}/profilesessions/{name}/{view}");
    with(&path, query)
}

/// The uploaded files with symbols.
pub(crate) fn symbols() -> String {
    format!("/apis/{DATA_GROUP}/{VERSION}/{SYMBOLS}")
}

/// What a file with symbols is sent to; a build id is hex digits.
pub(crate) fn symbols_content(build_id: &str, query: &[(&str, &str)]) -> String {
    with(&format!("{}/{build_id}/{SYMBOLS_CONTENT}", symbols()), query)
}

/// The path with a query, if there is anything to ask.
pub(crate) fn with(path: &str, query: &[(&str, &str)]) -> String {
    match query.is_empty() {
        true => path.to_owned(),
        false => {
            let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
            format!("{path}?{query}")
        }
    }
}

fn kind(namespace: Option<&str>, plural: &str) -> String {
    match namespace {
        Some(namespace) => format!("/apis/{GROUP}/{VERSION}/namespaces/{namespace}/{plural}"),
        None => format!("/apis/{GROUP}/{VERSION}/{plural}"),
    }
}

/// Reads the name of an object; anything else could lead to another path.
pub(crate) fn name(text: &str) -> Result<String, String> {
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
    let ends = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    match text.len() <= 253 && text.starts_with(ends) && text.ends_with(ends) && text.chars().all(legal) {
        true => Ok(text.to_owned()),
        false => Err("a name has lower-case letters, digits, - and .".to_owned()),
    }
}

/// Reads the name of a session, as `kubectl get -o name` prints it or alone.
pub(crate) fn session_name(text: &str) -> Result<String, String> {
    let kinds = ["profilesession.fleetprof.dev/", "profilesession/", "profilesessions/", "psess/"];
    name(kinds.iter().find_map(|kind| text.strip_prefix(kind)).unwrap_or(text))
}

/// The namespace, if it may be in a path.
///
/// # Errors
/// It is not a name.
pub(crate) fn namespace(text: &str) -> Result<&str, Failure> {
    name(text)
        .map(|_| text)
        .map_err(|error| Failure::usage(format!("{text:?} cannot be a namespace: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_leave_its_path() {
        assert_eq!(session_name("profilesession.fleetprof.dev/now-1").as_deref(), Ok("now-1"));
        for bad in ["", "a/b", "../a", "a?b", "A", "a b", "-a", "a."] {
            assert!(session_name(bad).is_err() && namespace(bad).is_err(), "{bad}");
        }
        assert_eq!(
            view("shop", "now-1", "top", &[("n", "5"), ("pod", "a&b")]),
            "/apis/data.fleetprof.dev/v1alpha1/namespaces/shop/profilesessions/now-1/top?n=5&pod=a%26b"
        );
    }
}
