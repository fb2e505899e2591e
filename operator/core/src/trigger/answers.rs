//! What is known of the queries of all policies? The series of their last answers, a number of bytes in all, of which a
//! namespace has its share.
//!
//! A policy's author decides how many series its queries return, and how many policies there are. A query that would go
//! beyond the share of its namespace is told so, and the others of the namespace keep what they have.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;

use super::place::namespace;
use super::promql::{Known, Problem, Series, follow};
use super::questions::Question;

/// Most bytes of a namespace: about 20,000 series, which are 20 queries that return as many as they may. Policies of the
/// cluster count as one namespace.
const MOST_OF_ONE: usize = 4 << 20;
/// Beyond so many bytes in all, a namespace has no more than an equal part of them. Those that had more before keep it,
/// so that twice as many are kept at most.
const MOST: usize = 16 << 20;

/// What is known of the queries of a policy, by name.
pub type KnownQueries = HashMap<String, Known>;

/// What is known of the queries of all policies.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    /// By uid.
    policies: HashMap<String, OfPolicy>,
}

#[derive(Clone, Debug, Default)]
struct OfPolicy {
    namespace: String,
    queries: Arc<KnownQueries>,
    /// Bytes of each.
    bytes: HashMap<String, usize>,
}

impl Answers {
    /// Takes in an answer of Prometheus. Of series that a policy of a namespace can make no use of, because they speak
    /// of another namespace, nothing is kept.
    pub fn take(&mut self, question: &Question, answer: Result<Vec<Series>, Problem>, now: Timestamp) {
        let answer = answer.map(|series| series.into_iter().filter(|one| is_own(question, one)).collect());
        let others = self.without(question);
        let of_policy = self.policies.entry(question.policy.clone()).or_default();
        let follow = |answer| follow(of_policy.queries.get(&question.name), &question.query, answer, now);
        let after = follow(answer);
        let after = match others.problem(after.bytes()) {
            Some(problem) if !after.since.is_empty() => follow(Err(problem)),
            _ => after,
        };
        of_policy.namespace.clone_from(&question.namespace);
        of_policy.bytes.insert(question.name.clone(), after.bytes());
        Arc::make_mut(&mut of_policy.queries).insert(question.name.clone(), after);
    }

    /// Forgets the answers to all other queries.
    pub fn keep(&mut self, to: &HashSet<Question>) {
        let asked: HashSet<_> = to.iter().map(|q| (q.policy.as_str(), q.name.as_str())).collect();
        self.policies.retain(|policy, known| {
            let is_asked = |name: &str| asked.contains(&(policy.as_str(), name));
            if !known.queries.keys().all(|name| is_asked(name)) {
                Arc::make_mut(&mut known.queries).retain(|name, _| is_asked(name));
                known.bytes.retain(|name, _| is_asked(name));
            }
            !known.queries.is_empty()
        });
    }

    /// What is known of the queries of the policy with this uid, by name.
    #[must_use]
    pub fn of(&self, policy_uid: &str) -> Arc<KnownQueries> {
        self.policies.get(policy_uid).map(|known| known.queries.clone()).unwrap_or_default()
    }

    /// What is kept beside the answer to `question`.
    fn without(&self, question: &Question) -> Others {
        let mut others = Others::default();
        let mut namespaces = HashSet::from([question.namespace.as_str()]);
        for (policy, known) in &self.policies {
            let is_other = |name: &str| *policy != question.policy || name != question.name;
            let bytes = known.bytes.iter().filter(|(name, _)| is_other(name)).map(|(_, bytes)| bytes).sum();
            others.all = others.all.saturating_add(bytes);
            if known.namespace == question.namespace {
                others.of_namespace = others.of_namespace.saturating_add(bytes);
            }
            namespaces.insert(&known.namespace);
        }
        others.namespaces = namespaces.len();
        others
    }
}

/// Bytes of all answers but one.
#[derive(Clone, Copy, Debug, Default)]
struct Others {
    all: usize,
    of_namespace: usize,
    namespaces: usize,
}

impl Others {
    /// Why so many bytes more are not kept.
    fn problem(&self, more: usize) -> Option<Problem> {
        let of_namespace = self.of_namespace.saturating_add(more);
        let is_full = self.all.saturating_add(more) > MOST;
        let part = MOST.checked_div(self.namespaces).unwrap_or(MOST);
        let share = if is_full { part.min(MOST_OF_ONE) } else { MOST_OF_ONE };
        (of_namespace > share).then(|| {
            Problem::Invalid(format!(
                "with the other queries of the namespace it returns more series than the {} KiB that are kept of \
                 them; make it more specific",
                share >> 10
            ))
        })
    }
}

/// Whether the policy of a query can make use of a series.
fn is_own(question: &Question, series: &Series) -> bool {
    question.namespace.is_empty()
        || namespace(|name| series.label(name)).is_none_or(|named| named == question.namespace)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERIES: usize = 1000;

    fn question(namespace: &str, policy: usize, name: usize) -> Question {
        let policy = format!("{namespace}-{policy}");
        Question { namespace: namespace.into(), policy, name: name.to_string(), query: "up".into() }
    }

    /// Series of a namespace, with as many bytes as are kept of any.
    fn series(namespace: &str) -> Vec<Series> {
        let one = |n: usize| {
            let long = "x".repeat(200);
            let labels = [("namespace", namespace.to_owned()), ("pod", format!("p{n}")), ("service", long)];
            Series::of(&labels.map(|(name, value)| (name.to_owned(), value)).into())
        };
        (0..SERIES).map(one).collect()
    }

    fn at() -> Timestamp {
        Timestamp::from_second(1_800_000_000).unwrap()
    }

    /// Bytes of the names that are kept, whatever else they take.
    fn held(answers: &Answers) -> usize {
        let all = answers.policies.values().flat_map(|known| known.queries.values());
        let value = |series: &Series| {
            ["namespace", "pod", "service"].map(|name| series.label(name).map_or(0, str::len))
        };
        all.flat_map(|known| known.since.keys()).flat_map(value).sum()
    }

    fn is_refused(answers: &Answers, question: &Question) -> bool {
        matches!(answers.of(&question.policy)[&question.name].problem, Some(Problem::Invalid(_)))
    }

    #[test]
    fn of_series_of_other_namespaces_a_policy_of_a_namespace_keeps_nothing() {
        let mut answers = Answers::default();
        answers.take(&question("shop", 0, 0), Ok(series("other")), at());
        assert_eq!(held(&answers), 0);
        answers.take(&question("shop", 0, 1), Ok(series("shop")), at());
        answers.take(&question("", 0, 0), Ok(series("other")), at());
        assert!(held(&answers) > 2 * SERIES * 200);
        let nameless = Series::of(&[("pod".to_owned(), "a".to_owned())].into());
        answers.take(&question("shop", 0, 2), Ok(vec![nameless]), at());
        assert_eq!(answers.of("shop-0")["2"].since.len(), 1, "its namespace is that of the policy");
    }

    #[test]
    fn however_many_policies_a_namespace_has_so_many_bytes_are_kept_of_its_series() {
        let mut answers = Answers::default();
        let quiet = question("quiet", 0, 0);
        answers.take(&quiet, Ok(series("quiet")), at());
        // 480,000 series, at least 100 MB.
        let loud = series("loud");
        for (policy, name) in (0..30).flat_map(|policy| (0..16).map(move |name| (policy, name))) {
            answers.take(&question("loud", policy, name), Ok(loud.clone()), at());
        }
        assert!(held(&answers) <= 2 * MOST_OF_ONE, "{} bytes are held", held(&answers));
        assert!(is_refused(&answers, &question("loud", 29, 15)) && !is_refused(&answers, &quiet));
        assert!(!is_refused(&answers, &question("loud", 0, 0)), "what came first stays");
        answers.take(&question("loud", 0, 0), Ok(series("loud")), at());
        assert!(
            !is_refused(&answers, &question("loud", 0, 0)),
            "nor does it lose its place when it is asked again"
        );
    }

    #[test]
    fn however_many_namespaces_there_are_so_many_bytes_are_kept_and_a_small_one_finds_room() {
        let mut answers = Answers::default();
        for n in 0..20 {
            let (loud, of_loud) = (format!("loud-{n}"), series(&format!("loud-{n}")));
            (0..16).for_each(|name| answers.take(&question(&loud, 0, name), Ok(of_loud.clone()), at()));
        }
        assert!(held(&answers) <= 2 * MOST, "{} bytes are held", held(&answers));
        let quiet = question("quiet", 0, 0);
        answers.take(&quiet, Ok(series("quiet")), at());
        assert!(!is_refused(&answers, &quiet));
    }

    #[test]
    fn what_is_counted_goes_with_the_query() {
        let mut answers = Answers::default();
        let all: Vec<Question> = (0..40).map(|name| question("shop", 0, name)).collect();
        let of_shop = series("shop");
        all.iter().for_each(|one| answers.take(one, Ok(of_shop.clone()), at()));
        assert!(is_refused(&answers, &all[39]));
        answers.keep(&all[39..].iter().cloned().collect());
        answers.take(&all[39], Ok(series("shop")), at());
        assert!(!is_refused(&answers, &all[39]));
        answers.keep(&HashSet::new());
        assert!(answers.policies.is_empty());
    }
}
