//! Which of the wanted kinds of profiles does an agent capture, by what it offers?

use fleetprof_crds::wire::Problem;
use fleetprof_crds::{ProfileKind, Reason};

use super::Skip;

/// What an agent can capture of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The kind.
    pub kind: ProfileKind,
    /// Why it cannot be captured now, where that is known already.
    pub problem: Option<Problem>,
}

/// What an agent offers that names no offers: agents captured CPU profiles before they named any.
#[must_use]
pub fn unnamed() -> Vec<Offer> {
    vec![Offer { kind: ProfileKind::Cpu, problem: None }]
}

/// The wanted kinds that can be captured, in the order in which they are wanted.
///
/// # Errors
/// When none can: the problem of the first that is offered, else `UnsupportedRuntime` with what is offered.
pub fn plan(wanted: &[ProfileKind], offers: &[Offer]) -> Result<Vec<ProfileKind>, Skip> {
    let offer = |kind: &ProfileKind| offers.iter().find(|o| o.kind == *kind);
    let can = |kind: &&ProfileKind| offer(kind).is_some_and(|o| o.problem.is_none());
    let kinds: Vec<ProfileKind> = wanted.iter().filter(can).copied().collect();
    if !kinds.is_empty() {
        return Ok(kinds);
    }
    if let Some(problem) = wanted.iter().filter_map(offer).find_map(|o| o.problem.as_ref()) {
        return Err(Skip::new(problem.reason, problem.message.trim_end_matches('.')));
    }
    let list = |kinds: &mut dyn Iterator<Item = ProfileKind>| {
        kinds.map(ProfileKind::name).collect::<Vec<_>>().join(", ")
    };
    let wanted = list(&mut wanted.iter().copied());
    let cause = match list(&mut offers.iter().filter(|o| o.problem.is_none()).map(|o| o.kind)) {
        none if none.is_empty() => {
            format!("the agent supports no profile type for this container, but {wanted} is required")
        }
        offered => format!("the agent supports {offered} for this container, but {wanted} is required"),
    };
    Err(Skip::new(Reason::UnsupportedRuntime, cause))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wanted_and_offered_is_captured_else_it_is_said_why_not() {
        use ProfileKind::{Alloc, Cpu, Wall};
        let good = |kind| Offer { kind, problem: None };
        let bad = |kind| {
            let problem = Problem { reason: Reason::PermissionDenied, message: "Another user.".into() };
            Offer { kind, problem: Some(problem) }
        };
        type Plan<'a> = Result<Vec<ProfileKind>, (Reason, &'a str)>;
        let cases: [(&[ProfileKind], Vec<Offer>, Plan); 7] = [
            (&[Cpu], unnamed(), Ok(vec![Cpu])),
            (&[Wall, Cpu], vec![good(Cpu), good(Wall), good(Alloc)], Ok(vec![Wall, Cpu])),
            (&[Cpu, Alloc], vec![good(Cpu)], Ok(vec![Cpu])),
            (&[Cpu, Alloc], vec![bad(Cpu), good(Alloc)], Ok(vec![Alloc])),
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
            assert_eq!(plan, expected.map_err(|(r, c)| (r, c.to_owned())), "{wanted:?} {offers:?}");
        }
    }
}
