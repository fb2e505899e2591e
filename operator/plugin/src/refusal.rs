//! What does a refusal of the API server mean to the caller? A 403 becomes the role that is missing and the
//! command that grants it.

use fleetprof_core::text::printable;
use fleetprof_crds::names::{SYMBOLS, SYMBOLS_ROLE};
use serde_json::Value;

use crate::exit::Failure;

/// The failure for an answer with this HTTP status.
pub(crate) fn of(status: u16, path: &str, body: &[u8]) -> Failure {
    let object: Value = serde_json::from_slice(body).unwrap_or_default();
    let message = object["message"].as_str().map(str::to_owned);
    let named = message.is_some();
    let message = message.unwrap_or_else(|| {
        let text: String = String::from_utf8_lossy(body).chars().take(300).collect();
        format!("HTTP {status} for {path}: {}", printable(text.trim()))
    });
    let said = match status {
        401 => format!(
            "{message}: the API server does not accept your credentials; log in again, or check kubectl auth \
             whoami"
        ),
        403 => forbidden(&message),
        404 if !named || message.contains("could not find the requested resource") => absent(path),
        // A leader change has a message of its own; without one, nobody answers.
        503 if !named && path.contains("/data.fleetprof.dev/") => format!(
            "{message}: fleetprof's read API is not available; check kubectl get apiservice \
             v1alpha1.data.fleetprof.dev"
        ),
        _ => message,
    };
    Failure::refused(status, said)
}

fn absent(path: &str) -> String {
    match path.contains("fleetprof.dev/") {
        true => format!(
            "the cluster does not serve {}: install fleetprof, or choose another cluster with --context",
            path.split('?').next().unwrap_or(path)
        ),
        false => format!("the cluster does not serve {path}"),
    }
}

/// What RBAC refuses.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Denied<'a> {
    pub(crate) user: &'a str,
    pub(crate) verb: &'a str,
    pub(crate) resource: &'a str,
    pub(crate) group: &'a str,
    /// Nothing: at the scope of the cluster.
    pub(crate) namespace: Option<&'a str>,
}

/// The message with the role that is missing; as it is where it is not one of RBAC. The gate's own messages
/// name role and command already.
fn forbidden(message: &str) -> String {
    let Some(denied) = denied(message) else { return message.to_owned() };
    let Denied { user, verb, resource, group, namespace } = &denied;
    let place = namespace.map_or_else(|| "cluster-wide".to_owned(), |name| format!("in namespace {name}"));
    let name = if group.is_empty() { (*resource).to_owned() } else { format!("{resource}.{group}") };
    let refused = format!("user {user} may not {verb} {name} {place}");
    match role(&denied) {
        Some(role) => format!(
            "{refused}; the ClusterRole {role} grants it: ask an administrator to run\n  {}",
            command(role, &denied)
        ),
        None => format!("{refused}; ask an administrator for this permission"),
    }
}

/// Reads `… User "ada" cannot list resource "profilesessions" in API group "fleetprof.dev" in the namespace
/// "shop"`.
fn denied(message: &str) -> Option<Denied<'_>> {
    let after = |text: &str| message.split_once(text).map(|(_, rest)| rest);
    let quoted = |text: &str| after(text).and_then(|rest| rest.split('"').next());
    Some(Denied {
        user: quoted("User \"")?,
        verb: after("\" cannot ")?.split(' ').next()?,
        resource: quoted(" resource \"")?,
        group: quoted("in API group \"").unwrap_or_default(),
        namespace: quoted("in the namespace \""),
    })
}

/// The smallest role of the chart, or of Kubernetes, that grants it; `None` where none is known to.
pub(crate) fn role(denied: &Denied<'_>) -> Option<&'static str> {
    let reads = matches!(denied.verb, "get" | "list" | "watch");
    Some(match (denied.group, denied.resource) {
        ("data.fleetprof.dev", resource) if resource.starts_with(SYMBOLS) => SYMBOLS_ROLE,
        ("data.fleetprof.dev", _) => "fleetprof-viewer",
        ("fleetprof.dev", _) if reads => "fleetprof-viewer",
        ("fleetprof.dev", "profilesessions") => "fleetprof-runner",
        ("fleetprof.dev", _) if denied.verb == "profile" => "fleetprof-runner",
        ("fleetprof.dev", "profilingpolicies") => "fleetprof-admin",
        ("fleetprof.dev", _) => "fleetprof-cluster-admin",
        (_, "pods/ephemeralcontainers") => "fleetprof-attacher",
        ("authorization.k8s.io" | "authentication.k8s.io", _) => "system:basic-user",
        ("" | "apps", _) if reads && denied.namespace.is_some() => "view",
        _ => return None,
    })
}

/// The command that binds the role.
pub(crate) fn command(role: &str, denied: &Denied<'_>) -> String {
    let account = denied.user.strip_prefix("system:serviceaccount:");
    let subject = match account {
        Some(account) => format!("--serviceaccount={}", quoted(account)),
        None => format!("--user={}", quoted(denied.user)),
    };
    let name: String =
        account.unwrap_or(denied.user).chars().map(|c| if is_plain(c) { c } else { '-' }).collect();
    let name = name.to_lowercase();
    let name =
        format!("{}-{}", role.replace(':', "-"), name.trim_matches(|c: char| !c.is_ascii_alphanumeric()));
    match denied.namespace {
        Some(namespace) => {
            let namespace = quoted(namespace);
            format!("kubectl create rolebinding {name} --clusterrole={role} {subject} -n {namespace}")
        }
        None => format!("kubectl create clusterrolebinding {name} --clusterrole={role} {subject}"),
    }
}

const fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '.')
}

/// A word that a shell takes as it is.
pub(crate) fn quoted(word: &str) -> String {
    let plain = |c: char| is_plain(c) || matches!(c, '/' | ':' | '@' | '_' | '=' | '%' | '+' | ',');
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn said(status: u16, path: &str, message: &str) -> String {
        of(status, path, json!({"kind": "Status", "message": message}).to_string().as_bytes()).to_string()
    }

    fn rbac(user: &str, verb: &str, resource: &str, group: &str, place: &str) -> String {
        said(
            403,
            "/",
            &format!(
                "{resource}.{group} is forbidden: User \"{user}\" cannot {verb} resource \"{resource}\" in API group \"{group}\" {place}"
            ),
        )
    }

    #[test]
    fn a_403_names_the_role_and_the_command() {
        let shop = "in the namespace \"shop\"";
        assert_eq!(
            rbac("ada", "list", "profilesessions", "fleetprof.dev", shop),
            "user ada may not list profilesessions.fleetprof.dev in namespace shop; the ClusterRole fleetprof-viewer \
             grants it: ask an administrator to run\n  kubectl create rolebinding fleetprof-viewer-ada \
             --clusterrole=fleetprof-viewer --user=ada -n shop"
        );
        let cases = [
            ("create", "profilesessions", "fleetprof.dev", "fleetprof-runner"),
            ("patch", "profilesessions", "fleetprof.dev", "fleetprof-runner"),
            ("profile", "clusterprofilingpolicies", "fleetprof.dev", "fleetprof-runner"),
            ("create", "profilingpolicies", "fleetprof.dev", "fleetprof-admin"),
            ("create", "clusterprofilingpolicies", "fleetprof.dev", "fleetprof-cluster-admin"),
            ("get", "profilesessions/top", "data.fleetprof.dev", "fleetprof-viewer"),
            ("create", "symbols/content", "data.fleetprof.dev", "fleetprof-symbols"),
            ("list", "symbols", "data.fleetprof.dev", "fleetprof-symbols"),
            ("patch", "pods/ephemeralcontainers", "", "fleetprof-attacher"),
            ("list", "pods", "", "view"),
        ];
        for (verb, resource, group, role) in cases {
            let said = rbac("ada", verb, resource, group, shop);
            assert!(said.contains(&format!("--clusterrole={role} ")), "{verb} {resource}: {said}");
        }
    }

    #[test]
    fn the_command_can_be_pasted_into_a_shell() {
        let whole = "at the cluster scope";
        let account =
            rbac("system:serviceaccount:ci:gate", "list", "clusterprofilingpolicies", "fleetprof.dev", whole);
        assert!(
            account.ends_with(
                "kubectl create clusterrolebinding fleetprof-viewer-ci-gate --clusterrole=fleetprof-viewer \
                 --serviceaccount=ci:gate"
            ),
            "{account}"
        );
        let odd = rbac(
            "$(reboot) o'neill",
            "list",
            "profilesessions",
            "fleetprof.dev",
            "in the namespace \"shop\"",
        );
        assert!(odd.contains(r"--user='$(reboot) o'\''neill' -n shop"), "{odd}");
        assert_eq!((quoted("ada@example.com"), quoted("")), ("ada@example.com".into(), "''".into()));
    }

    #[test]
    fn other_refusals_keep_their_words() {
        let gate = "user ada may not profile under the policy p: the verb profile is missing";
        assert_eq!(said(403, "/", gate), gate);
        assert_eq!(said(404, "/x", "profilesessions \"a\" not found"), "profilesessions \"a\" not found");
        let absent = of(404, "/apis/fleetprof.dev/v1alpha1/profilesessions?limit=5", b"404 page not found\n");
        assert_eq!(absent.status(), Some(404));
        assert!(
            absent
                .to_string()
                .starts_with("the cluster does not serve /apis/fleetprof.dev/v1alpha1/profilesessions:")
        );
        assert!(
            of(503, "/apis/data.fleetprof.dev/v1alpha1/x", b"service unavailable")
                .to_string()
                .contains("kubectl get apiservice")
        );
        let busy = "the operator has no leader: try again";
        assert_eq!(said(503, "/apis/data.fleetprof.dev/v1alpha1/x", busy), busy);
        assert!(said(401, "/", "Unauthorized").contains("log in again"));
    }

    #[test]
    fn no_role_is_named_that_does_not_grant_it() {
        let said = said(
            403,
            "/",
            "users \"eve\" is forbidden: User \"ada\" cannot impersonate resource \"users\" in API group \"\" at the \
             cluster scope",
        );
        assert!(said.ends_with("ask an administrator for this permission"), "{said}");
        let denied =
            |resource, group, namespace| Denied { user: "a", verb: "list", resource, group, namespace };
        assert_eq!(role(&denied("pods", "", Some("shop"))), Some("view"));
        assert_eq!(role(&denied("nodes", "", None)), None);
    }

    #[test]
    fn accounts_and_namespaces_are_quoted_as_users_are() {
        let denied = Denied {
            user: "system:serviceaccount:$(reboot)",
            verb: "list",
            resource: "profilesessions",
            group: "fleetprof.dev",
            namespace: Some("$(reboot)"),
        };
        let command = command("fleetprof-viewer", &denied);
        assert!(command.contains("--serviceaccount='$(reboot)' -n '$(reboot)'"), "{command}");
    }

    #[test]
    fn an_answer_that_is_not_of_kubernetes_drives_no_terminal() {
        let said = of(502, "/x", b"\x1b]0;mine\x07\r\nBad gateway").to_string();
        assert_eq!(said, "HTTP 502 for /x: ]0;mine Bad gateway");
    }
}
