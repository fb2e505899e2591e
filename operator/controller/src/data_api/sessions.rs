//! Which session is meant, and is there anything to read of it?

use fleetprof_crds::session_status::{ProfileSessionStatus, TargetStatus};
use fleetprof_crds::{ProfileKind, ProfileSession, UnknownKind, names};
use futures::FutureExt;
use futures::future::BoxFuture;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};

use super::status::Refusal;
use crate::client::kept;

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

    /// Those sessions of rollouts in the namespace that `picks`.
    ///
    /// # Errors
    /// A sentence, when they could not be looked up.
    fn rollouts<'a>(&'a self, namespace: &'a str, picks: Picks<'a>) -> BoxFuture<'a, Rollouts>;
}

/// Which sessions are wanted.
pub type Picks<'a> = &'a (dyn Fn(&ProfileSession) -> bool + Send + Sync);
/// Sessions, or a sentence that says why there are none.
pub type Rollouts = Result<Vec<ProfileSession>, String>;

/// Sessions of rollouts that are looked through at a time; each may have 60 KiB.
const PAGE: u32 = 200;

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
            let failed = |error: kube::Error| format!("failed to get the session ({error}): try again");
            api.get_opt(name).await.map_err(failed)
        }
        .boxed()
    }

    fn rollouts<'a>(&'a self, namespace: &'a str, picks: Picks<'a>) -> BoxFuture<'a, Rollouts> {
        async move {
            let api: Api<ProfileSession> = Api::namespaced(self.0.clone(), namespace);
            let params = ListParams::default().labels(names::REVISION_LABEL).limit(PAGE);
            let failed = |error: kube::Error| {
                format!(
                    "failed to list the sessions of rollouts ({error}): name one with base=NAME, or try again"
                )
            };
            let pick = |session: ProfileSession| picks(&session).then_some(session);
            kept(&api, params, usize::MAX, pick).await.map_err(failed)
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

/// The kind of profile that is meant: the one that is asked for, else the first of the session.
///
/// # Errors
/// 400: no kind is called so. 404: the session asked for none that this version knows.
pub(super) fn kind_of(session: &ProfileSession, asked: Option<&str>) -> Result<ProfileKind, Refusal> {
    if let Some(name) = asked {
        return name.parse().map_err(|error: UnknownKind| Refusal::bad_request(error.to_string()));
    }
    session.spec.profiles.iter().copied().find(|kind| kind.is_known()).ok_or_else(|| {
        Refusal::not_found("this version knows none of the session's profiles: say which one with ?type=")
    })
}

/// Whether the session has ended and holds samples of that kind, of `pod` if one is named.
///
/// # Errors
/// 409: it has not ended. 404: there is nothing to read, and why.
pub(super) fn readable(
    session: &ProfileSession,
    kind: ProfileKind,
    pod: Option<&str>,
) -> Result<(), Refusal> {
    let (name, namespace) = (session.name_any(), session.namespace().unwrap_or_default());
    let status = session.status.clone().unwrap_or_default();
    let phase = status.phase.as_str();
    if !status.phase.is_terminal() {
        return Err(Refusal::conflict(format!(
            "profilesession \"{name}\" is {phase}: profiles are available once it has ended; wait with \
             kubectl wait --for=condition=Complete --timeout=10m profilesessions/{name} -n {namespace}"
        )));
    }
    let stored: Vec<&TargetStatus> =
        status.targets.iter().filter(|target| has_samples(target, kind)).collect();
    match pod {
        _ if stored.is_empty() => Err(Refusal::not_found(match other_kinds(&status) {
            kinds if kinds.is_empty() => nothing(&name, &status),
            kinds => format!("profilesession \"{name}\" holds no {kind} samples: use one of type={kinds}"),
        })),
        Some(pod) if stored.iter().all(|target| target.pod != pod) => {
            let pods: Vec<&str> = stored.iter().map(|target| target.pod.as_str()).collect();
            let pod: String = pod.chars().take(253).collect();
            Err(Refusal::not_found(format!(
                "profilesession \"{name}\" has no samples of pod {pod:?}: use one of {}, or omit pod for all",
                pods.join(", ")
            )))
        }
        _ => Ok(()),
    }
}

/// The name of the last session before this one that profiled another revision of the same workload.
///
/// # Errors
/// 400: the session is not of a rollout. 404: there is no such session with samples of that kind.
pub(super) fn previous(
    session: &ProfileSession,
    others: &[ProfileSession],
    kind: ProfileKind,
) -> Result<String, Refusal> {
    let name = session.name_any();
    let Some(revision) = session.labels().get(names::REVISION_LABEL) else {
        return Err(Refusal::bad_request(format!(
            "profilesession \"{name}\" is not of a rollout, so nothing precedes it: name a session to \
             compare it with by base=NAME"
        )));
    };
    let comparable = |other: &&ProfileSession| {
        other.labels().get(names::REVISION_LABEL).is_some_and(|label| label != revision)
            && is_of_same_workload(session, other)
            && other.creation_timestamp() < session.creation_timestamp()
            && readable(other, kind, None).is_ok()
    };
    let last = others.iter().filter(comparable).max_by_key(|other| other.creation_timestamp());
    last.map(ResourceExt::name_any).ok_or_else(|| {
        Refusal::not_found(format!(
            "no session with {kind} samples of another revision precedes profilesession \"{name}\": name one \
             to compare it with by base=NAME"
        ))
    })
}

/// Whether both sessions are of rollouts of one workload.
pub(super) fn is_of_same_workload(session: &ProfileSession, other: &ProfileSession) -> bool {
    let workload = |of: &ProfileSession| of.annotations().get(names::WORKLOAD_ANNOTATION).cloned();
    workload(session) == workload(other)
}

fn has_samples(target: &TargetStatus, kind: ProfileKind) -> bool {
    target.profiles.iter().any(|profile| profile.kind == kind && profile.samples > 0)
}

/// The kinds that some target holds samples of.
fn other_kinds(status: &ProfileSessionStatus) -> String {
    let held = |kind: &ProfileKind| status.targets.iter().any(|target| has_samples(target, *kind));
    let names: Vec<&str> =
        ProfileKind::ALL.iter().filter(|kind| held(kind)).map(|kind| kind.name()).collect();
    names.join(", ")
}

fn nothing(name: &str, status: &ProfileSessionStatus) -> String {
    let why = match (status.message.is_empty(), status.reason) {
        (false, _) => format!(" ({})", status.message.trim_end_matches('.')),
        (true, Some(reason)) => format!(" ({reason})"),
        (true, None) => String::new(),
    };
    let advice = status.reason.map(fleetprof_crds::Reason::advice).filter(|advice| !advice.is_empty());
    let advice = advice.unwrap_or("check its status.targets, and create a new session");
    format!("profilesession \"{name}\" ended {} without samples{why}: {advice}", status.phase.as_str())
}

#[cfg(test)]
mod tests {
    use fleetprof_crds::Reason;
    use fleetprof_crds::session_status::Phase;

    use super::super::tests::fixtures::{rollout as of_rollout, session};
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
            let got = readable(&session(phase, targets), ProfileKind::Cpu, pod);
            assert_eq!(got.as_ref().map_or_else(|refusal| refusal.code().as_u16(), |()| 200), code, "{case}");
            assert!(got.err().is_none_or(|refusal| refusal.message().contains(": ")), "{case}");
        }
    }

    #[test]
    fn what_to_do_is_said() {
        let mut idle = session(Phase::Succeeded, &[]);
        idle.status.as_mut().unwrap().reason = Some(Reason::NoSamples);
        let refusal = readable(&idle, ProfileKind::Cpu, None).unwrap_err();
        assert!(refusal.message().ends_with("profile the target under load"), "{}", refusal.message());
        let refusal =
            readable(&session(Phase::Succeeded, &[("a", 1), ("b", 1)]), ProfileKind::Cpu, Some("x\u{1b}"))
                .unwrap_err();
        assert_eq!(
            refusal.message(),
            "profilesession \"now\" has no samples of pod \"x\\u{1b}\": use one of a, b, or omit pod for all"
        );
    }

    #[test]
    fn the_first_kind_of_the_session_is_read_unless_another_is_asked_for() {
        let mut session = session(Phase::Succeeded, &[("a", 9)]);
        session.spec.profiles = vec![ProfileKind::Unknown, ProfileKind::Wall, ProfileKind::Cpu];
        assert_eq!(kind_of(&session, None).unwrap(), ProfileKind::Wall);
        assert_eq!(kind_of(&session, Some("cpu")).unwrap(), ProfileKind::Cpu);
        assert_eq!(kind_of(&session, Some("energy")).unwrap_err().code().as_u16(), 400);
        let refusal = readable(&session, ProfileKind::Wall, None).unwrap_err();
        assert!(refusal.message().ends_with("holds no wall samples: use one of type=cpu"));
        session.spec.profiles = vec![ProfileKind::Unknown];
        assert_eq!(kind_of(&session, None).unwrap_err().code().as_u16(), 404, "never read as another kind");
    }

    #[test]
    fn a_rollout_is_compared_with_the_last_session_of_another_revision() {
        let rollout = |name: &str, revision: &str, workload: &str, created: i64| {
            let mut session = session(Phase::Succeeded, &[("a", 9)]);
            session.metadata.name = Some(name.into());
            of_rollout(&mut session, revision, created);
            session.annotations_mut().insert(names::WORKLOAD_ANNOTATION.into(), workload.into());
            session
        };
        let orders = "Deployment/orders";
        let now = rollout("now", "r3", orders, 50);
        let mut empty = rollout("empty", "r2", orders, 45);
        empty.status.as_mut().unwrap().targets.clear();
        let mut others = vec![
            rollout("first", "r1", orders, 10),
            rollout("same", "r3", orders, 40),
            rollout("other-app", "r2", "Deployment/cart", 41),
            rollout("later", "r4", orders, 60),
            empty,
            now.clone(),
        ];
        let found = |others: &[ProfileSession]| previous(&now, others, ProfileKind::Cpu);
        assert_eq!(found(&others), Ok("first".to_owned()));
        others.push(rollout("second", "r2", orders, 30));
        assert_eq!(found(&others), Ok("second".to_owned()));
        assert_eq!(found(&[]).unwrap_err().code().as_u16(), 404);
        assert_eq!(previous(&now, &others, ProfileKind::Wall).unwrap_err().code().as_u16(), 404);
        let on_demand = session(Phase::Succeeded, &[("a", 9)]);
        let refusal = previous(&on_demand, &others, ProfileKind::Cpu).unwrap_err();
        assert!(refusal.code().as_u16() == 400 && refusal.message().contains("base=NAME"));
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
