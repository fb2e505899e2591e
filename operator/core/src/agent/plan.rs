//! Which of the wanted kinds of profiles does an agent capture, by what it offers?

pub use fleetprof_crds::wire::Offer;
use fleetprof_crds::wire::Problem;
use fleetprof_crds::{ProfileKind, Reason};

use super::Skip;

/// What is captured of the wanted kinds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// The kinds that are captured, in the order in which they are wanted; at least one.
    pub kinds: Vec<ProfileKind>,
    /// A sentence on those that are not; empty where all are.
    pub left_out: String,
}

/// What an agent offers that names no offers: agents captured CPU profiles before they named any.
#[must_use]
pub fn unnamed() -> Vec<Offer> {
    vec![Offer::good(ProfileKind::Cpu, "")]
}

/// Which of the wanted kinds are captured, and why the others are not.
///
/// # Errors
/// When none can: the problem of the first that is offered, else `UnsupportedRuntime` with what is offered.
pub fn plan(wanted: &[ProfileKind], offers: &[Offer]) -> Result<Planned, Skip> {
    let of = |kind: ProfileKind| offers.iter().filter(move |offer| offer.kind == kind);
    let can = |kind: &ProfileKind| of(*kind).any(|offer| offer.problem.is_none());
    let problem = |kind: &ProfileKind| of(*kind).find_map(|offer| offer.problem.as_ref());
    let (kinds, others): (Vec<ProfileKind>, Vec<ProfileKind>) = wanted.iter().copied().partition(|k| can(k));
    if !kinds.is_empty() {
        let why = |kind: &ProfileKind| (*kind, problem(kind));
        return Ok(Planned { kinds, left_out: left_out(others.iter().map(why)) });
    }
    if let Some(problem) = wanted.iter().find_map(problem) {
        return Err(Skip::new(problem.reason, problem.message.trim_end_matches('.')));
    }
    Err(Skip::new(Reason::UnsupportedRuntime, unsupported(wanted, offers)))
}

/// What is said of kinds that are left out while others are captured.
fn left_out<'a>(kinds: impl Iterator<Item = (ProfileKind, Option<&'a Problem>)>) -> String {
    let why = |(kind, problem): (ProfileKind, Option<&Problem>)| match problem {
        Some(problem) => format!("{kind} ({})", problem.message.trim_end_matches('.')),
        None => format!("{kind} (the agent does not support it for this container)"),
    };
    let said: Vec<String> = kinds.map(why).collect();
    match said.is_empty() {
        true => String::new(),
        false => format!("Not captured: {}.", said.join(", ")),
    }
}

fn unsupported(wanted: &[ProfileKind], offers: &[Offer]) -> String {
    let list = |kinds: &mut dyn Iterator<Item = ProfileKind>| {
        kinds.map(ProfileKind::name).collect::<Vec<_>>().join(", ")
    };
    let wanted = list(&mut wanted.iter().copied());
    match list(&mut offers.iter().filter(|o| o.problem.is_none()).map(|o| o.kind)) {
        none if none.is_empty() => {
            format!("the agent supports no profile type for this container, but {wanted} is required")
        }
        offered => format!("the agent supports {offered} for this container, but {wanted} is required"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wanted_and_offered_is_captured_else_it_is_said_why_not() {
        use ProfileKind::{Alloc, Cpu, Wall};
        let good = |kind| Offer::good(kind, "a");
        let bad = |kind| {
            let problem = Problem { reason: Reason::PermissionDenied, message: "Another user.".into() };
            Offer::refused(kind, "b", problem)
        };
        type Plan<'a> = Result<(Vec<ProfileKind>, &'a str), (Reason, &'a str)>;
        let cases: [(&[ProfileKind], Vec<Offer>, Plan); 8] = [
            (&[Cpu], unnamed(), Ok((vec![Cpu], ""))),
            (&[Wall, Cpu], vec![good(Cpu), good(Wall), good(Alloc)], Ok((vec![Wall, Cpu], ""))),
            (
                &[Cpu, Alloc],
                vec![good(Cpu)],
                Ok((vec![Cpu], "Not captured: alloc (the agent does not support it for this container).")),
            ),
            (
                &[Cpu, Alloc],
                vec![bad(Cpu), good(Alloc)],
                Ok((vec![Alloc], "Not captured: cpu (Another user).")),
            ),
            (&[Cpu], vec![bad(Cpu), good(Cpu)], Ok((vec![Cpu], ""))),
            (&[Wall, Cpu], vec![bad(Cpu)], Err((Reason::PermissionDenied, "Another user"))),
            (
                &[Alloc],
                vec![good(Cpu), good(Wall)],
                Err((
                    Reason::UnsupportedRuntime,
                    "the agent supports cpu, wall for this container, but alloc is required",
                )),
            ),
            (
                &[Cpu],
                vec![],
                Err((
                    Reason::UnsupportedRuntime,
                    "the agent supports no profile type for this container, but cpu is required",
                )),
            ),
        ];
        for (wanted, offers, expected) in cases {
            let plan = plan(wanted, &offers).map_err(|skip| (skip.reason, skip.cause));
            let expected = expected
                .map(|(kinds, said)| Planned { kinds, left_out: said.to_owned() })
                .map_err(|(reason, cause)| (reason, cause.to_owned()));
            assert_eq!(plan, expected, "{wanted:?} {offers:?}");
        }
    }
}
