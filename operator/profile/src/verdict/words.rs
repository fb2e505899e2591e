//! How is a verdict said to people?

use super::{Enough, FunctionChange, Outcome, Revision, Verdict, What, Why};
use crate::text::printable;

impl Verdict {
    /// The verdict in a few sentences: what came of it, where, how sure, and what could have been seen or
    /// would be enough. Names are made safe for a terminal and are at most 80 characters long.
    #[must_use]
    pub fn message(&self) -> String {
        let mut sentences = vec![self.result()];
        sentences.extend(self.explained());
        sentences.push(self.compared());
        sentences.push(match self.smallest {
            Some(smallest) => format!(
                "A function of 5 % that takes {:.1} percentage points more would be found in 4 of 5 such \
                 comparisons.",
                100.0 * smallest
            ),
            None => "No change could have been found, however large.".to_owned(),
        });
        sentences.join(" ")
    }

    fn result(&self) -> String {
        match self.outcome {
            Outcome::Regressed => {
                let rose = self.functions.iter().filter(|function| function.what == What::Rose);
                let rose: Vec<String> = rose.map(FunctionChange::words).collect();
                format!("The new revision is slower: {}.", rose.join("; "))
            }
            Outcome::NotRegressed => "No function got slower by enough to count.".to_owned(),
            Outcome::Inconclusive(why) => self.undecided(why),
        }
    }

    fn undecided(&self, why: Why) -> String {
        let enough = self.enough.unwrap_or_default();
        let Enough { old_pods, new_pods, old_moments, samples_per_pod } = enough;
        let pods =
            format!("{new_pods} pods of the new revision and {old_pods} of the old one at the same time");
        match (why, old_moments, samples_per_pod) {
            (Why::FewPods, ..) => format!("There are too few pods for a verdict: capture {pods}."),
            (Why::FewMoments, Some(moments), _) => format!(
                "The revisions were captured at different times: capture {pods}, or the old one at {moments} \
                 times."
            ),
            (Why::FewMoments, None, _) => {
                format!("The revisions were captured at different times: capture {pods}.")
            }
            (Why::NotEnoughSamples, _, Some(samples)) => format!(
                "There are too few samples for a verdict: capture {samples} of each pod, by longer captures or \
                 a higher frequency."
            ),
            (Why::NotEnoughSamples, _, None) => {
                format!("The pods differ too much from each other for a verdict: capture {pods}.")
            }
            (Why::DifferentLoad, ..) => format!(
                "The new revision had {:.1} times the load of the old one: compare both under the same load.",
                self.load.unwrap_or(1.0)
            ),
            (Why::LowCoverage, ..) => "Too little of the CPU time is in the profiles, or much less of one \
                                       revision than of the other: see the targets' coverage and its reason."
                .to_owned(),
        }
    }

    /// What rose without a regression, if that is all there is.
    fn explained(&self) -> Option<String> {
        let named = |what: What| {
            let names = self.functions.iter().filter(|f| f.what == what).map(FunctionChange::words);
            let names: Vec<String> = names.collect();
            (!names.is_empty()).then(|| names.join("; "))
        };
        if self.outcome != Outcome::NotRegressed {
            return None;
        }
        let moved = named(What::Moved).map(|names| format!("Cost moved between functions: {names}."));
        let share = || {
            let names = named(What::ShareOnly)?;
            Some(format!("Shares rose since other functions got cheaper: {names}."))
        };
        moved.or_else(share)
    }

    fn compared(&self) -> String {
        let side = |Revision { pods, samples, .. }: &Revision| {
            format!("{pods} {} ({samples} samples)", if *pods == 1 { "pod" } else { "pods" })
        };
        let p = self.p.map(|p| format!(" (p = {p:.3})")).unwrap_or_default();
        format!("Compared {} with {} of the old revision{p}.", side(&self.new), side(&self.old))
    }
}

impl FunctionChange {
    /// Such as `digest (auth.py) 5.0 % → 7.1 % of CPU time, 0.050 → 0.071 cores by pod`.
    fn words(&self) -> String {
        let name: String = printable(&self.name).chars().take(80).collect();
        let file = match self.file.as_str() {
            "" => String::new(),
            file => format!(" ({})", printable(file).chars().take(80).collect::<String>()),
        };
        let with = if self.cumulative { " with what it calls" } else { "" };
        let cores = match (self.old_cores, self.new_cores) {
            (Some(old), Some(new)) => format!(", {old:.3} → {new:.3} cores by pod"),
            _ => String::new(),
        };
        let (old, new) = (100.0 * self.old_share, 100.0 * self.new_share);
        format!("{name}{file}{with} {old:.1} % → {new:.1} % of CPU time{cores}")
    }
}
