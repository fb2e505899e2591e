//! What can be captured of a container, by what its programs offer? No I/O.
//!
//! The offers of a container are those of its main work: of the program of its busiest process, and of every
//! other one that uses a tenth of its CPU time, see [`super::choose::working`]. A container of Erlang has
//! helpers of machine code, whose wall time could be captured and says nothing. Before CPU time tells who
//! works, a program of a runtime goes before those of machine code, which may be the shell that starts it.

use fleetprof_crds::wire::Offer;

use super::inspect::Seen;
use crate::capture::collector;
use crate::capture::runtime::Runtime;

/// The offers of a container, of whose programs this was seen; whether CPU time tells that they do its work.
#[must_use]
pub fn of_container(programs: Vec<Seen>, is_proven: bool) -> Vec<Offer> {
    let has_runtime = !is_proven && programs.iter().any(|seen| !is_machine_code(seen));
    let counts = |seen: &Seen| !has_runtime || !is_machine_code(seen);
    collector::best(programs.into_iter().filter(counts).flat_map(|seen| seen.offers))
}

fn is_machine_code(seen: &Seen) -> bool {
    seen.runtime.is_empty()
        || [Runtime::Native, Runtime::Unknown].iter().any(|r| r.to_string() == seen.runtime)
}

#[cfg(test)]
mod tests {
    use fleetprof_crds::ProfileKind::{self, Cpu, Heap, Wall};
    use fleetprof_crds::Reason;
    use fleetprof_crds::wire::Problem;

    use super::*;

    fn seen(runtime: &str, kinds: &[ProfileKind]) -> Seen {
        let offers = kinds.iter().map(|kind| Offer::good(*kind, runtime)).collect();
        Seen { runtime: runtime.into(), offers }
    }

    fn offered(programs: Vec<Seen>, is_proven: bool) -> Vec<(ProfileKind, String)> {
        of_container(programs, is_proven).into_iter().map(|offer| (offer.kind, offer.collector)).collect()
    }

    #[test]
    fn a_container_offers_what_the_programs_offer_that_do_its_work() {
        let beam = || seen("Erlang", &[Cpu]);
        let helper = || seen("Native", &[Cpu, Wall]);
        let go = || seen("Go 1.26", &[Cpu, Heap]);
        let of = |kind, runtime: &str| (kind, runtime.to_owned());
        assert_eq!(offered(vec![beam()], true), [of(Cpu, "Erlang")]);
        assert_eq!(offered(vec![beam(), helper()], false), [of(Cpu, "Erlang")], "nobody has worked yet");
        assert_eq!(offered(vec![helper(), beam()], false), [of(Cpu, "Erlang")], "the shell was busier");
        assert_eq!(
            offered(vec![beam(), helper()], true),
            [of(Cpu, "Erlang"), of(Wall, "Native")],
            "both work"
        );
        assert_eq!(offered(vec![helper(), seen("Unknown", &[Cpu])], false).len(), 2);
        assert_eq!(offered(vec![beam(), go()], false), [of(Cpu, "Erlang"), of(Heap, "Go 1.26")]);
        assert_eq!(offered(vec![Seen::default()], false), []);
    }

    #[test]
    fn what_one_of_the_working_programs_can_give_is_offered() {
        let problem = Problem { reason: Reason::PermissionDenied, message: "no".into() };
        let refused = Seen { runtime: "JVM".into(), offers: vec![Offer::refused(Heap, "jfr", problem)] };
        assert_eq!(offered(vec![refused, seen("Go 1.26", &[Heap])], true), [(Heap, "Go 1.26".to_owned())]);
    }
}
