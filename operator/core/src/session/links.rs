//! Where else can the results of a session be looked at? Links that an administrator wrote as templates, beside
//! those to the read API.
//!
//! `https://grafana.example.com/explore?ns=${namespace}&from=${from}`: a variable stands for a value of the session,
//! in a form that changes nothing about the URL around it. Which server is linked to is never up to a variable.

use fleetprof_crds::ProfileSession;
use fleetprof_crds::session_status::{Link, ProfileSessionStatus};

/// Most links.
const MOST: usize = 5;
/// Longest template, in bytes.
const LONGEST: usize = 1_024;
/// Longest name, in characters.
const LONGEST_NAME: usize = 40;
/// Longest link, in bytes; one that is longer is left out.
const LONGEST_LINK: usize = 2_048;

/// A link without the values of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkTemplate {
    name: String,
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Variable(Variable),
}

/// What a variable stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Variable {
    Cluster,
    Namespace,
    Session,
    Uid,
    Kind,
    Workload,
    Policy,
    Profile,
    From,
    To,
}

/// The variables by name.
const VARIABLES: [(&str, Variable); 10] = [
    ("cluster", Variable::Cluster),
    ("namespace", Variable::Namespace),
    ("session", Variable::Session),
    ("uid", Variable::Uid),
    ("kind", Variable::Kind),
    ("workload", Variable::Workload),
    ("policy", Variable::Policy),
    ("profile", Variable::Profile),
    ("from", Variable::From),
    ("to", Variable::To),
];

/// Reads templates by name and URL.
///
/// # Errors
/// A sentence without full stop that names the link and what is wrong with it.
pub fn templates<'a>(
    links: impl ExactSizeIterator<Item = (&'a str, &'a str)>,
) -> Result<Vec<LinkTemplate>, String> {
    if links.len() > MOST {
        return Err(format!("{} links, and the most is {MOST}", links.len()));
    }
    let read = |(name, url)| LinkTemplate::new(name, url).map_err(|error| format!("link {name:?}: {error}"));
    links.map(read).collect()
}

impl LinkTemplate {
    fn new(name: &str, url: &str) -> Result<Self, String> {
        let named = !name.trim().is_empty() && name.chars().count() <= LONGEST_NAME;
        if !named || name.chars().any(crate::text::is_unprintable) {
            return Err(format!("a name has 1 to {LONGEST_NAME} printable characters"));
        }
        if url.len() > LONGEST {
            return Err(format!("the URL has {} bytes, and the most is {LONGEST}", url.len()));
        }
        if url.chars().any(crate::text::is_unprintable) {
            return Err("the URL holds a character that is not printable".to_owned());
        }
        let parts = parts(url)?;
        has_fixed_server(parts.first())?;
        Ok(Self { name: name.to_owned(), parts })
    }

    /// The link of a session; `None` where a variable has no value.
    fn fill(&self, session: &ProfileSession, status: &ProfileSessionStatus, cluster: &str) -> Option<Link> {
        let mut url = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => url.push_str(text),
                Part::Variable(variable) => {
                    let value = value(*variable, session, status, cluster)?;
                    // As a part of a path they would lead elsewhere, however they are escaped.
                    if matches!(value.as_str(), "." | "..") {
                        return None;
                    }
                    url.push_str(&encoded(&value));
                }
            }
        }
        (url.len() <= LONGEST_LINK).then(|| Link { name: self.name.clone(), url })
    }
}

/// Adds the links to a session, in place of those that have the same name; none while nothing of it is stored.
pub(super) fn add(
    session: &ProfileSession,
    status: &mut ProfileSessionStatus,
    (templates, cluster): (&[LinkTemplate], &str),
) {
    if status.targets.iter().all(|target| target.profiles.is_empty()) {
        return;
    }
    let filled = templates.iter().filter_map(|template| template.fill(session, status, cluster));
    let filled: Vec<Link> = filled.collect();
    status.links.retain(|link| templates.iter().all(|template| template.name != link.name));
    status.links.extend(filled);
}

/// Text and variables in turn.
fn parts(url: &str) -> Result<Vec<Part>, String> {
    let (mut parts, mut rest) = (Vec::new(), url);
    while let Some((text, after)) = rest.split_once("${") {
        let Some((name, after)) = after.split_once('}') else {
            return Err("a ${ has no }".to_owned());
        };
        let known = VARIABLES.iter().find(|(known, _)| *known == name);
        let Some((_, variable)) = known else {
            let all = VARIABLES.map(|(name, _)| name).join(", ");
            return Err(format!("there is no variable {name:?}; use one of {all}"));
        };
        if !text.is_empty() {
            parts.push(Part::Text(tidy(text)));
        }
        parts.push(Part::Variable(*variable));
        rest = after;
    }
    if !rest.is_empty() {
        parts.push(Part::Text(tidy(rest)));
    }
    Ok(parts)
}

/// A URL of http or https with its server before the first variable, or a path on the API server.
fn has_fixed_server(first: Option<&Part>) -> Result<(), String> {
    let Some(Part::Text(text)) = first else {
        return Err("the URL must begin with https://, http:// or /apis/".to_owned());
    };
    if text.starts_with("/apis/") {
        return Ok(());
    }
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let rest = rest.ok_or("the URL must begin with https://, http:// or /apis/")?;
    let server = rest.split_once(['/', '?', '#']).map(|(server, _)| server);
    match server {
        Some(server) if !server.is_empty() && !server.contains('@') => Ok(()),
        _ => Err("the server must be written out, without user, and be followed by a path".to_owned()),
    }
}

fn value(
    variable: Variable,
    session: &ProfileSession,
    status: &ProfileSessionStatus,
    cluster: &str,
) -> Option<String> {
    let meta = &session.metadata;
    let app = || status.app.split_once('/');
    let millis = |time: &Option<_>| {
        let time: &k8s_openapi::apimachinery::pkg::apis::meta::v1::Time = time.as_ref()?;
        Some(time.0.as_millisecond().to_string())
    };
    match variable {
        Variable::Cluster => Some(cluster.to_owned()),
        Variable::Namespace => meta.namespace.clone(),
        Variable::Session => meta.name.clone(),
        Variable::Uid => meta.uid.clone(),
        Variable::Kind => app().map(|(kind, _)| kind.to_owned()),
        Variable::Workload => app().map(|(_, name)| name.to_owned()),
        Variable::Policy => session.spec.policy_ref.as_ref().map(|policy| policy.name.clone()),
        Variable::Profile => {
            let stored = status.targets.iter().flat_map(|target| &target.profiles).next();
            stored.map(|profile| profile.kind.to_string())
        }
        Variable::From => millis(&status.running_time).or_else(|| millis(&status.start_time)),
        Variable::To => millis(&status.capture_end_time).or_else(|| millis(&status.end_time)),
    }
}

/// A value in which nothing has a meaning in a URL: all but letters, digits, `-`, `.`, `_` and `~` is escaped.
#[must_use]
pub(super) fn encoded(value: &str) -> String {
    escaped(value, |byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
}

/// Escapes only what a URL cannot contain in an administrator's text, so that JSON can be written as it is.
fn tidy(text: &str) -> String {
    escaped(text, |byte| byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte))
}

fn escaped(text: &str, keep: impl Fn(u8) -> bool) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if keep(byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn session() -> ProfileSession {
        serde_json::from_value(json!({
            "apiVersion": "fleetprof.dev/v1alpha1", "kind": "ProfileSession",
            "metadata": {"name": "now", "namespace": "shop", "uid": "u-1"}, "spec": {},
            "status": {"app": "Deployment/orders", "phase": "Succeeded",
                "runningTime": "2026-11-30T12:00:00Z", "captureEndTime": "2026-11-30T12:02:00Z",
                "targets": [{"pod": "a", "profiles": [
                    {"type": "wall", "uri": "k", "bytes": 1, "samples": 1}]}]},
        }))
        .unwrap()
    }

    fn linked(urls: &[&str], change: impl FnOnce(&mut ProfileSessionStatus)) -> Vec<String> {
        let mut session = session();
        let mut status = session.status.take().unwrap();
        change(&mut status);
        let templates = templates(urls.iter().map(|url| ("view", *url))).unwrap();
        for _ in 0..2 {
            add(&session, &mut status, (&templates, "prod & more"));
        }
        status.links.into_iter().map(|link| link.url).collect()
    }

    #[test]
    fn variables_are_filled_in_and_cannot_change_the_url_around_them() {
        let url = "https://g.example.com/x?c=${cluster}&n=${namespace}&w=${kind}-${workload}&${from}-${to}#${profile}";
        let wanted = "https://g.example.com/x?c=prod%20%26%20more&n=shop&w=Deployment-orders\
                      &1796040000000-1796040120000#wall";
        assert_eq!(linked(&[url], |_| ()), [wanted]);
        let raw =
            "/apis/data.fleetprof.dev/v1alpha1/namespaces/${namespace}/profilesessions/${session}/profile";
        let wanted = "/apis/data.fleetprof.dev/v1alpha1/namespaces/shop/profilesessions/now/profile";
        assert_eq!(linked(&[raw], |_| ()), [wanted]);
        let hostile = |status: &mut ProfileSessionStatus| status.app = "X/a/../?b=#\"}é".into();
        assert_eq!(
            linked(&["https://g/?w=${workload}"], hostile),
            ["https://g/?w=a%2F..%2F%3Fb%3D%23%22%7D%C3%A9"]
        );
        for up in ["X/..", "X/."] {
            let upwards = |status: &mut ProfileSessionStatus| status.app = up.into();
            assert!(linked(&["https://g/d/abc/${workload}/view"], upwards).is_empty(), "{up}");
        }
    }

    #[test]
    fn json_may_be_written_as_it_is() {
        let url = r#"https://g/explore?panes={"a":"${namespace}"}&orgId=1"#;
        assert_eq!(linked(&[url], |_| ()), ["https://g/explore?panes=%7B%22a%22:%22shop%22%7D&orgId=1"]);
    }

    #[test]
    fn what_has_no_value_or_no_profile_has_no_link() {
        let urls = ["https://g/${policy}", "https://g/${workload}", "https://g/${uid}"];
        assert_eq!(linked(&urls, |status| status.app = "3 apps".into()), ["https://g/u-1"]);
        assert!(linked(&urls, |status| status.targets[0].profiles.clear()).is_empty());
        let long = format!("https://g/{}", "${workload}".repeat(90));
        let name = |n| move |status: &mut ProfileSessionStatus| status.app = format!("X/{}", "a".repeat(n));
        assert_eq!(linked(&[&long], name(20)).len(), 1);
        assert!(linked(&[&long], name(63)).is_empty(), "longer than a status should hold");
    }

    #[test]
    fn what_cannot_work_is_refused_with_the_name_and_the_cause() {
        let refused = |url: &str| templates([("view", url)].into_iter()).unwrap_err();
        let cases = [
            ("https://g/${pod}", "there is no variable \"pod\"; use one of cluster, namespace"),
            ("https://g/${namespace", "a ${ has no }"),
            ("https://${namespace}.example.com/", "the server must be written out"),
            ("https://user:password@g/", "without user"),
            ("https://g", "followed by a path"),
            ("${cluster}/x", "must begin with https://"),
            ("javascript:alert(1)//", "must begin with https://"),
            ("//g/x", "must begin with https://"),
            ("https://g/\u{202e}x", "not printable"),
        ];
        for (url, wanted) in cases {
            let error = refused(url);
            assert!(error.starts_with("link \"view\": ") && error.contains(wanted), "{url}: {error}");
        }
        assert!(refused(&format!("https://g/{}", "x".repeat(LONGEST))).contains("the most is 1024"));
        assert!(templates(vec![("a", "https://g/"); 6].into_iter()).unwrap_err().contains("the most is 5"));
        assert!(templates([(" ", "https://g/")].into_iter()).is_err());
    }
}
