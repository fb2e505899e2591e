//! What did a capture find out, before it is judged? The workers of a container's users bring theirs to the one
//! that started them, since only all of them together tell how much of the container is in the profile.

use fleetprof_crds::ProfileKind;
use serde::{Deserialize, Serialize};

use super::protocol::{CaptureRequest, Failure, FailureReason};
use super::verdict::{Facts, OfKind, Verdict, judge, judge_without_cpu, said_of_kinds};

/// What there is to judge at the end of a capture.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Findings {
    /// What is known of CPU time.
    pub facts: Facts,
    /// What came of each kind that was asked for.
    pub kinds: Vec<OfKind>,
    /// What the frames do not show, and what helps.
    pub lacking: Option<String>,
}

impl Findings {
    /// Why the profile holds little, and what is said of one that does not.
    ///
    /// # Errors
    /// There is no profile.
    pub fn judged(&self, request: &CaptureRequest) -> Result<(Option<String>, Option<String>), Failure> {
        let kinds = &self.kinds;
        let verdict = match kinds.iter().any(|of| of.kind == ProfileKind::Cpu) {
            true => judge(&self.facts),
            false => judge_without_cpu(kinds),
        };
        let has_others = kinds.iter().any(|of| of.samples > 0);
        match verdict {
            Verdict::Good(note) => Ok((None, joined(said_of_kinds(kinds, note), self.lacking.clone()))),
            Verdict::Low(why) => Ok((Some(why), None)),
            Verdict::Idle if has_others => Ok((None, said_of_kinds(kinds, None))),
            Verdict::Missed(failure) if has_others => Ok((Some(failure.message), None)),
            Verdict::Idle => Err(self.idle(request)),
            Verdict::Missed(failure) => Err(failure),
        }
    }

    fn idle(&self, request: &CaptureRequest) -> Failure {
        let ms = request.duration_ms;
        let who = match &request.container {
            Some(_) => "the container".to_owned(),
            None => format!("process {}", request.pid),
        };
        let nothing: Vec<&str> = self.kinds.iter().map(|of| of.kind.nothing()).collect();
        let nothing = nothing.join(" and ");
        let advice: String =
            self.kinds.iter().filter_map(|of| of.advice.as_ref()).map(|a| format!("; {a}")).collect();
        let text = format!("{who} {nothing} during the capture of {ms} ms; profile it under load{advice}");
        Failure::new(FailureReason::NoSamples, text)
    }

    /// Adds what another worker of the same container found.
    pub fn join(&mut self, other: Self) {
        let (facts, more) = (&mut self.facts, other.facts);
        facts.samples = facts.samples.saturating_add(more.samples);
        facts.profiled = facts.profiled.saturating_add(more.profiled);
        // Each read the count of the whole container.
        facts.used = facts.used.max(more.used);
        facts.period = facts.period.max(more.period);
        facts.turns = facts.turns.saturating_add(more.turns);
        facts.missed = facts.missed.saturating_add(more.missed);
        facts.left_out = facts.left_out.saturating_add(more.left_out);
        facts.refused = facts.refused.saturating_add(more.refused);
        facts.obstacle = facts.obstacle.take().or(more.obstacle);
        facts.unseen_kernel = facts.unseen_kernel.saturating_add(more.unseen_kernel);
        facts.advice = facts.advice.take().or(more.advice);
        self.lacking = self.lacking.take().or(other.lacking);
        for of in other.kinds {
            match self.kinds.iter_mut().find(|known| known.kind == of.kind) {
                Some(known) => {
                    known.samples = known.samples.saturating_add(of.samples);
                    known.failure = known.failure.take().or(of.failure);
                    known.advice = known.advice.take().or(of.advice);
                }
                None => self.kinds.push(of),
            }
        }
    }
}

/// Two sentences, where there are two.
fn joined(one: Option<String>, other: Option<String>) -> Option<String> {
    let both: Vec<String> = one.into_iter().chain(other).collect();
    (!both.is_empty()).then(|| both.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn request() -> CaptureRequest {
        let text = r#"{"pid":7,"container":"c","profiles":["cpu"],"durationMs":1000,"frequencyHz":99,
            "sliceMs":1000,"outputDir":"/tmp"}"#;
        serde_json::from_str(text).unwrap()
    }

    fn of(samples: u64, profiled_ms: u64) -> Findings {
        let facts = Facts {
            samples,
            profiled: profiled_ms * MS,
            used: Some(2000 * MS),
            period: 10 * MS,
            turns: 99,
            ..Facts::default()
        };
        let cpu = OfKind { kind: ProfileKind::Cpu, samples, failure: None, advice: None };
        Findings { facts, kinds: vec![cpu], lacking: None }
    }

    #[test]
    fn what_is_little_of_a_container_for_one_user_may_be_all_of_it_together() {
        let (root, mut both) = (of(5, 50), of(180, 1800));
        let (low, _) = root.judged(&request()).unwrap();
        assert!(low.unwrap().contains("(50 of 2000 ms)"));
        both.join(root);
        assert_eq!(both.judged(&request()), Ok((None, None)));
        assert_eq!((both.kinds[0].samples, both.facts.used), (185, Some(2000 * MS)));
    }

    #[test]
    fn what_one_user_was_refused_is_said_of_the_container() {
        let mut all = of(5, 50);
        let obstacle = Some(Failure::new(FailureReason::NotDumpable, "it changed its user"));
        let facts = Facts { refused: 2, obstacle, ..Facts::default() };
        all.join(Findings { facts, ..Findings::default() });
        let (low, note) = all.judged(&request()).unwrap();
        let low = low.unwrap();
        assert!(low.contains("2 processes could not be captured: it changed its user"), "{low}");
        assert_eq!(note, None);
        assert_eq!(serde_json::from_str::<Findings>(&serde_json::to_string(&all).unwrap()).unwrap(), all);
    }
}
