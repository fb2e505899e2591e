//! Which query runs next? Namespaces take turns, and a slow query pauses in proportion to its duration.
//!
//! ```text
//! due ─► running: a few at once, fewer per namespace ─► answered ─► due after 15 s, or 16 times its duration
//! ```
//! So slow queries of one namespace delay each other, and put no more load on the server than a few at a
//! time; a query of another namespace soon finds a place.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

/// From one start of a query to its next.
pub const EVERY: Duration = Duration::from_secs(15);
/// Queries that are asked at once.
pub const AT_ONCE: usize = 4;
/// Of them, those of one namespace.
pub const EACH: usize = 2;
/// A query is asked at most for this part of the time.
const PART: u32 = 16;

/// A query of a policy.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Question {
    /// Of the policy; empty for policies of the cluster, which take turns as one namespace does.
    pub namespace: String,
    /// Uid of the policy.
    pub policy: String,
    /// Of the trigger.
    pub name: String,
    /// PromQL.
    pub query: String,
}

/// All queries, and when each is due. Times are those of a clock that never jumps.
#[derive(Debug, Default)]
pub struct Questions {
    namespaces: BTreeMap<String, Namespace>,
    /// Turns that were given so far.
    turns: u64,
}

#[derive(Debug, Default)]
struct Namespace {
    questions: HashMap<Question, State>,
    /// The last turn that it had.
    turn: u64,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Due(Duration),
    AskedAt(Duration),
}

impl Namespace {
    fn asked(&self) -> usize {
        self.questions.values().filter(|state| matches!(state, State::AskedAt(_))).count()
    }

    /// The query that has been due for longest.
    fn due(&self, now: Duration) -> Option<&Question> {
        let due = self.questions.iter().filter_map(|(question, state)| match state {
            State::Due(at) if *at <= now => Some((*at, question)),
            _ => None,
        });
        due.min().map(|(_, question)| question)
    }
}

impl Questions {
    /// From now on these are the queries. New ones are due at once.
    pub fn set(&mut self, questions: HashSet<Question>, now: Duration) {
        for namespace in self.namespaces.values_mut() {
            // One that is asked holds a place until it is answered.
            namespace
                .questions
                .retain(|known, state| matches!(state, State::AskedAt(_)) || questions.contains(known));
        }
        self.namespaces.retain(|_, namespace| !namespace.questions.is_empty());
        for question in questions {
            let namespace = self.namespaces.entry(question.namespace.clone()).or_default();
            namespace.questions.entry(question).or_insert(State::Due(now));
        }
    }

    /// The query to ask now, which counts as asked until [`Questions::answered`]; none while all places are
    /// taken or nothing is due.
    pub fn next(&mut self, now: Duration) -> Option<Question> {
        if self.namespaces.values().map(Namespace::asked).sum::<usize>() >= AT_ONCE {
            return None;
        }
        let turn = |namespace: &Namespace| (namespace.asked(), namespace.turn);
        let waiting = self.namespaces.values_mut().filter(|n| n.asked() < EACH && n.due(now).is_some());
        let namespace = waiting.min_by_key(|namespace| turn(namespace))?;
        let question = namespace.due(now)?.clone();
        self.turns = self.turns.saturating_add(1);
        namespace.turn = self.turns;
        namespace.questions.insert(question.clone(), State::AskedAt(now));
        Some(question)
    }

    /// Frees the place of a query that was asked, and was answered or given up after `took`.
    pub fn answered(&mut self, question: &Question, took: Duration) {
        let Some(namespace) = self.namespaces.get_mut(&question.namespace) else { return };
        let Some(State::AskedAt(at)) = namespace.questions.get(question).copied() else { return };
        let pause = EVERY.max(took.saturating_mul(PART));
        namespace.questions.insert(question.clone(), State::Due(at.saturating_add(pause)));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STEP: Duration = Duration::from_millis(100);

    fn question(namespace: &str, policy: usize, name: usize) -> Question {
        Question {
            namespace: namespace.into(),
            policy: policy.to_string(),
            name: name.to_string(),
            query: "up".into(),
        }
    }

    /// Asks for so many seconds; each query takes what `takes` says. Gives when each was started.
    fn simulate(
        questions: impl Iterator<Item = Question>,
        seconds: u32,
        takes: impl Fn(&Question) -> Duration,
    ) -> BTreeMap<Question, Vec<Duration>> {
        let (mut queue, mut started) = (Questions::default(), BTreeMap::<_, Vec<_>>::new());
        let mut asked: Vec<(Duration, Question)> = Vec::new();
        queue.set(questions.collect(), Duration::ZERO);
        for step in 0..seconds * 10 {
            let now = STEP * step;
            let (done, open) = asked.into_iter().partition(|(end, _)| *end <= now);
            asked = open;
            let done: Vec<(Duration, Question)> = done;
            done.iter().for_each(|(_, question)| queue.answered(question, takes(question)));
            while let Some(question) = queue.next(now) {
                started.entry(question.clone()).or_default().push(now);
                asked.push((now + takes(&question), question));
            }
            assert!(asked.len() <= AT_ONCE);
            for (_, one) in &asked {
                assert!(asked.iter().filter(|(_, q)| q.namespace == one.namespace).count() <= EACH);
            }
        }
        started
    }

    fn longest_gap(starts: &[Duration], end: Duration) -> Duration {
        let next = starts.iter().skip(1).chain([&end]);
        starts.iter().zip(next).map(|(one, next)| *next - *one).max().unwrap()
    }

    #[test]
    fn slow_queries_of_one_namespace_do_not_delay_those_of_another() {
        for names in [1, 16] {
            let slow = (0..8).flat_map(|policy| (0..names).map(move |name| question("slow", policy, name)));
            let quick = question("quick", 0, 0);
            let all = slow.chain([quick.clone()]);
            let took = |q: &Question| Duration::from_millis(if q.namespace == "slow" { 10_000 } else { 100 });
            let started = simulate(all, 700, took);
            let gap = longest_gap(&started[&quick], Duration::from_secs(700));
            assert!(gap <= EVERY + STEP, "asked after {gap:?}");
            assert_eq!(started.len(), 8 * names + 1, "and every slow one was asked");
        }
    }

    #[test]
    fn many_namespaces_with_slow_queries_take_turns() {
        let all = (0..20).flat_map(|n| (0..16).map(move |name| question(&format!("slow-{n}"), 0, name)));
        let quick = question("quick", 0, 0);
        let took = |q: &Question| Duration::from_millis(if q.namespace == "quick" { 100 } else { 10_000 });
        let started = simulate(all.chain([quick.clone()]), 1200, took);
        // 20 others before it, 4 at once, 10 s each.
        let gap = longest_gap(&started[&quick], Duration::from_secs(1200));
        assert!(gap <= EVERY + Duration::from_secs(50) + STEP, "asked after {gap:?}");
    }

    #[test]
    fn a_slow_query_is_asked_a_sixteenth_of_the_time() {
        let slow = question("a", 0, 0);
        let started = simulate([slow.clone()].into_iter(), 600, |_| Duration::from_secs(10));
        let wanted: Vec<_> = [0, 160, 320, 480].map(Duration::from_secs).into();
        assert_eq!(started[&slow], wanted);
    }

    #[test]
    fn a_query_that_is_gone_holds_its_place_until_it_is_answered() {
        let mut queue = Questions::default();
        let at = Duration::from_secs;
        queue.set((0..3).map(|name| question("a", 0, name)).collect(), at(0));
        let (first, second) = (queue.next(at(0)).unwrap(), queue.next(at(0)).unwrap());
        assert_eq!(queue.next(at(0)), None, "the namespace has its places");
        queue.set([question("a", 0, 9)].into(), at(1));
        assert_eq!(queue.next(at(1)), None);
        queue.answered(&first, at(1));
        assert_eq!(queue.next(at(1)), Some(question("a", 0, 9)));
        queue.answered(&second, at(1));
        queue.set(HashSet::new(), at(2));
        queue.answered(&question("a", 0, 9), at(1));
        queue.set(HashSet::new(), at(3));
        assert!(queue.namespaces.is_empty(), "nothing is kept of what is gone");
    }

    proptest! {
        #[test]
        fn every_query_is_asked_and_none_too_often(
            all in prop::collection::hash_set((0usize..4, 0usize..3, 0usize..3), 1..20),
            tenths in prop::collection::vec(1u32..100, 4),
        ) {
            let all: Vec<_> = all.into_iter().map(|(n, policy, name)| question(&n.to_string(), policy, name)).collect();
            let took = |q: &Question| STEP * tenths[q.namespace.parse::<usize>().unwrap()];
            let started = simulate(all.iter().cloned(), 400, took);
            prop_assert_eq!(started.len(), all.len(), "each has its turn");
            for (question, starts) in &started {
                let pause = EVERY.max(took(question) * PART);
                prop_assert!(starts.windows(2).all(|two| two[1] - two[0] >= pause), "{:?}", question);
            }
        }
    }
}
