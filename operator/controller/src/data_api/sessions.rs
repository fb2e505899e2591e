//! Which session is meant, and is there anything to read of it?

use fleetprof_crds::ProfileSession;
use fleetprof_crds::session_status::{ProfileSessionStatus, TargetStatus};
use futures::FutureExt;
use futures::future::BoxFuture;
use kube::{Api, Client, ResourceExt};

use super::status::Refusal;

/// Finds sessions.
pub trait Sessions: Send + Sync + 'static {
    /// The session of that name, or nothing.
    ///
    /// # Errors
    /// A sentence, when it could not be looked up.
    fn session<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Option<ProfileSession>, String>>;
}

/// Looks sessions up at the API server.
pub struct SessionsByApi(Client);

impl SessionsByApi {
    /// Looks up as `client`, which needs `get profilesessions`.
    #[must_use]
    pub const fn new(client: Client) -> Self {
        Self(client)
    }
}

impl Sessions for SessionsByApi {
    fn session<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Option<ProfileSession>, String>> {
        async move {
            let api: Api<ProfileSession> = Api::namespaced(self.0.clone(), namespace);
            let failed =
                |error: kube::Error| format!("the session could not be looked up ({error}): try again");
            api.get_opt(name).await.map_err(failed)
        }
        .boxed()
    }
}

/// Whether a text can be the name of a Kubernetes object. Nothing else may go into a path at the API server.
pub(super) fn is_name(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
    let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let bytes = text.as_bytes();
    bytes.len() <= 253
        && bytes.iter().all(|b| inner(*b))
        && edge(bytes.first())
        && edge(bytes.last())
        && !text.contains("..")
}

/// Whether the session has ended and holds samples, of `pod` if one is named.
///
/// # Errors
/// 409: it has not ended. 404: there is nothing to read, and why.
pub(super) fn readable(session: &ProfileSession, pod: Option<&str>) -> Result<(), Refusal> {
    let (name, namespace) = (session.name_any(), session.namespace().unwrap_or_default());
    let status = session.status.clone().unwrap_or_default();
    let phase = status.phase.as_str();
    if !status.phase.is_terminal() {
        return Err(Refusal::conflict(format!(
            "profilesession \"{name}\" is {phase}: its profile can be read once it has ended; wait with \
             kubectl wait --for=condition=Complete --timeout=10m profilesessions/{name} -n {namespace}"
        )));
    }
    let stored: Vec<&TargetStatus> = status.targets.iter().filter(|target| has_samples(target)).collect();
    match pod {
        _ if stored.is_empty() => Err(Refusal::not_found(nothing(&name, &status))),
        Some(pod) if stored.iter().all(|target| target.pod != pod) => {
            let pods: Vec<&str> = stored.iter().map(|target| target.pod.as_str()).collect();
            let pod: String = pod.chars().take(253).collect();
            Err(Refusal::not_found(format!(
                "profilesession \"{name}\" holds no samples of pod {pod:?}: use one of {}, or leave pod out \
                 for all of them",
                pods.join(", ")
            )))
        }
        _ => Ok(()),
    }
}

fn has_samples(target: &TargetStatus) -> bool {
    target.profiles.iter().any(|profile| profile.samples > 0)
}

fn nothing(name: &str, status: &ProfileSessionStatus) -> String {
    let why = match (status.message.is_empty(), status.reason) {
        (false, _) => format!(" ({})", status.message.trim_end_matches('.')),
        (true, Some(reason)) => format!(" ({reason})"),
        (true, None) => String::new(),
    };
    let advice = status.reason.map(fleetprof_crds::Reason::advice).filter(|advice| !advice.is_empty());
    let advice = advice.unwrap_or("see its status.targets, and create a new session");
    format!("profilesession \"{name}\" ended {} without samples{why}: {advice}", status.phase.as_str())
}

#[cfg(test)]
mod tests {
    use fleetprof_crds::Reason;
    use fleetprof_crds::session_status::Phase;

    use super::super::tests::fixtures::session;
    use super::*;

    #[test]
    fn a_session_is_read_once_it_has_ended_with_samples() {
        #[allow(clippy::type_complexity)] // A table; its rows are read, not passed on.
        let cases: [(&str, Phase, &[(&str, i64)], Option<&str>, u16); 8] = [
            ("ended", Phase::Succeeded, &[("a", 9)], None, 200),
            ("some ended", Phase::PartiallySucceeded, &[("a", 9), ("b", 0)], Some("a"), 200),
            ("cancelled, but with data", Phase::Cancelled, &[("a", 9)], None, 200),
            ("still running", Phase::Running, &[("a", 9)], None, 409),
            ("not begun", Phase::Pending, &[], Some("a"), 409),
            ("failed", Phase::Failed, &[], None, 404),
            ("idle", Phase::Succeeded, &[("a", 0)], None, 404),
            ("another pod", Phase::Succeeded, &[("a", 9), ("b", 0)], Some("b"), 404),
        ];
        for (case, phase, targets, pod, code) in cases {
            let got = readable(&session(phase, targets), pod);
            assert_eq!(got.as_ref().map_or_else(|refusal| refusal.code().as_u16(), |()| 200), code, "{case}");
            assert!(got.err().is_none_or(|refusal| refusal.message().contains(": ")), "{case}");
        }
    }

    #[test]
    fn what_to_do_is_said() {
        let mut idle = session(Phase::Succeeded, &[]);
        idle.status.as_mut().unwrap().reason = Some(Reason::NoSamples);
        let refusal = readable(&idle, None).unwrap_err();
        assert!(refusal.message().ends_with("profile it under load"), "{}", refusal.message());
        let refusal =
            readable(&session(Phase::Succeeded, &[("a", 1), ("b", 1)]), Some("x\u{1b}")).unwrap_err();
        assert_eq!(
            refusal.message(),
            "profilesession \"now\" holds no samples of pod \"x\\u{1b}\": use one of a, b, or leave pod out \
             for all of them"
        );
    }

    #[test]
    fn only_names_of_objects_are_looked_up() {
        for good in ["a", "now-x7", "a.b-c.9"] {
            assert!(is_name(good), "{good}");
        }
        for bad in [
            "",
            ".",
            "..",
            "a/b",
            "../secrets",
            "A",
            "a b",
            "-a",
            "a-",
            "a..b",
            "ü",
            "a?b",
            "a%2fb",
            &"a".repeat(254),
        ] {
            assert!(!is_name(bad), "{bad}");
        }
    }
}
