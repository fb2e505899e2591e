//! How is a trend said to people?

use super::settings::{LEAST_SESSIONS, MOST_SESSIONS};
use super::{Growth, Outcome, Trend, What, Why};
use crate::kind::ProfileKind;
use crate::text::printable;

impl Trend {
    /// The trend in a few sentences: what came of it, where, how sure, and what could have been seen or would be
    /// enough. Names are made safe for a terminal and are at most 80 characters long.
    #[must_use]
    pub fn message(&self) -> String {
        let mut sentences = vec![self.result()];
        if self.p.is_some() {
            sentences.push(self.looked());
            sentences.push(self.visible());
        }
        sentences.join(" ")
    }

    const fn subject(&self) -> &'static str {
        match self.kind {
            ProfileKind::Cpu => "CPU time by pod",
            _ => "memory by pod",
        }
    }

    fn result(&self) -> String {
        let subject = self.subject();
        let unsteady = || self.words(What::NotSteady);
        match self.outcome {
            Outcome::Growing => format!("Growth in {subject}: {}.", self.words(What::Grows)),
            Outcome::NotGrowing => format!("No growth in {subject} that counts."),
            Outcome::Inconclusive(Why::FewSessions) => format!(
                "Only {} sessions have a usable profile of {subject}; at least {LEAST_SESSIONS} are needed.",
                self.sessions
            ),
            Outcome::Inconclusive(Why::NotSteady) => format!(
                "A rise in {subject} is not steady, as with a step, a cache that fills, or the time of day: {}. \
                 If sessions are of different hours, look at one session a day.",
                unsteady()
            ),
            Outcome::Inconclusive(Why::DifferentLoad) => format!(
                "The load changed by a factor of {:.2} over the sessions, so growth in {subject} cannot be told \
                 from load.",
                self.load.unwrap_or(1.0)
            ),
            Outcome::Inconclusive(Why::NotEnoughSamples) => match self.enough {
                Some(sessions) => {
                    format!(
                        "The sessions differ too much to see growth in {subject}: set growth.sessions to {sessions}."
                    )
                }
                None => format!(
                    "The sessions differ too much to see growth in {subject}, even in {MOST_SESSIONS} of them: \
                     capture more pods in each, for longer, or at the same hour."
                ),
            },
        }
    }

    fn words(&self, what: What) -> String {
        let of = self.functions.iter().filter(|growth| growth.what == what);
        of.map(|growth| growth.words(self.kind)).collect::<Vec<_>>().join("; ")
    }

    fn looked(&self) -> String {
        let (sessions, captures) = (self.sessions, self.captures);
        let p = self.p.map(|p| format!(" (p = {p:.4})")).unwrap_or_default();
        let unknown = if self.load.is_none() { " How the load changed is not known." } else { "" };
        format!("Looked at {captures} captures in {sessions} sessions{p}.{unknown}")
    }

    fn visible(&self) -> String {
        match self.smallest {
            Some(smallest) => format!(
                "A function that uses 5 % of the total would be found in 4 of 5 such looks if it grew by {:.1} % of \
                 the total.",
                100.0 * smallest
            ),
            None => "No growth could have been found, however large.".to_owned(),
        }
    }
}

impl Growth {
    /// Such as `put (cache.py) 12.0 MiB → 31.5 MiB`.
    fn words(&self, kind: ProfileKind) -> String {
        let short = |text: &str| printable(text).chars().take(80).collect::<String>();
        let file = if self.file.is_empty() { String::new() } else { format!(" ({})", short(&self.file)) };
        let with = if self.cumulative { " with what it calls" } else { "" };
        let (from, to) = (amount(kind, self.from), amount(kind, self.to));
        format!("{}{file}{with} {from} → {to}", short(&self.name))
    }
}

/// An amount by pod, such as `0.125 cores` or `12.5 MiB`.
#[must_use]
pub fn amount(kind: ProfileKind, amount: f64) -> String {
    const MIB: f64 = 1_048_576.0;
    match kind {
        ProfileKind::Cpu => format!("{amount:.3} cores"),
        _ if amount >= 0.1 * MIB => format!("{:.1} MiB", amount / MIB),
        _ => format!("{:.1} KiB", amount / 1_024.0),
    }
}
