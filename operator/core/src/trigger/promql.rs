//! For how long has a query given a series? What Prometheus answers, and which workloads its series speak of.
//!
//! As with a rule of Prometheus, every series that a query gives fires, whatever its value: `latency > 0.5` gives the slow
//! ones alone.

use std::collections::{BTreeMap, HashMap};

use fleetprof_crds::session::Trigger;
use jiff::Timestamp;
use serde::Deserialize;

use super::Firing;
use super::place::{Labels, places, words};
use crate::policy::PolicyView;
use crate::policy::link::PodLink;
use crate::text::cut;

/// Most bytes of an answer.
pub const MAX_BYTES: usize = 4 * 1024 * 1024;
/// Most series of an answer.
pub const MAX_SERIES: usize = 1000;
/// Most bytes of what Prometheus says about a query.
const MAX_WORDS: usize = 300;

/// Why a query gives nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// It is wrong, in the words of Prometheus.
    Invalid(String),
    /// It could not be asked now.
    Failed(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    status: String,
    #[serde(default)]
    error_type: String,
    #[serde(default)]
    error: String,
    data: Option<Data>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    result_type: String,
    result: serde_json::Value,
}

#[derive(Deserialize)]
struct Series {
    metric: Labels,
}

/// Reads the answer to an instant query.
///
/// # Errors
/// When the query is wrong, or this is no answer of Prometheus.
pub fn parse(body: &[u8]) -> Result<Vec<Labels>, Problem> {
    let failed = || Problem::Failed("the server's answer is none of Prometheus; is the URL right?".into());
    let answer: Answer = serde_json::from_slice(body).map_err(|_| failed())?;
    if answer.status != "success" {
        let said = cut(&plain(&answer.error), MAX_WORDS);
        let wrong = matches!(answer.error_type.as_str(), "bad_data" | "execution");
        return Err(if wrong { Problem::Invalid(said) } else { Problem::Failed(said) });
    }
    let data = answer.data.ok_or_else(failed)?;
    if data.result_type != "vector" {
        let kind = cut(&plain(&data.result_type), 20);
        return Err(Problem::Invalid(format!(
            "it gives a {kind}; write an expression that gives an instant vector, such as latency > 0.5"
        )));
    }
    let series: Vec<Series> = serde_json::from_value(data.result).map_err(|_| failed())?;
    if series.len() > MAX_SERIES {
        return Err(Problem::Invalid(format!("it gives {} series, more than {MAX_SERIES}; narrow it", series.len())));
    }
    Ok(series.into_iter().map(|s| s.metric).collect())
}

fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

/// What is known of a query.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// The query, as it was asked.
    pub query: String,
    /// Since when each series is there.
    pub since: HashMap<Labels, Timestamp>,
    /// Why the last try gave nothing.
    pub problem: Option<Problem>,
}

/// What is known after one more answer. A server that does not answer takes nothing away; another query begins anew.
#[must_use]
pub fn follow(before: Option<&Known>, query: &str, answer: Result<Vec<Labels>, Problem>, now: Timestamp) -> Known {
    let before = before.filter(|k| k.query == query);
    let since = |labels: &Labels| before.and_then(|k| k.since.get(labels)).copied().unwrap_or(now);
    let query = query.to_owned();
    match answer {
        Ok(series) => Known { query, since: series.into_iter().map(|l| (l.clone(), since(&l))).collect(), problem: None },
        Err(problem @ Problem::Failed(_)) => {
            Known { query, since: before.map(|k| k.since.clone()).unwrap_or_default(), problem: Some(problem) }
        }
        Err(problem) => Known { query, since: HashMap::new(), problem: Some(problem) },
    }
}

/// What is wrong with the queries of a policy, as sentences that begin with the field. `known` is by the trigger's name.
#[must_use]
pub fn problems(policy: &PolicyView, known: &HashMap<String, Known>) -> Vec<(String, bool)> {
    let rules = policy.spec.triggers.prom_ql.iter().enumerate();
    let problem = |(n, rule): (usize, &fleetprof_crds::triggers::PromQlTrigger)| {
        let (words, invalid) = match known.get(&rule.name)?.problem.as_ref()? {
            Problem::Invalid(words) => (words, true),
            Problem::Failed(words) => (words, false),
        };
        Some((format!("spec.triggers.promQL[{n}].query: {words}"), invalid))
    };
    rules.filter_map(problem).collect()
}

/// The firings of the queries whose series are there for long enough, on linked workloads.
#[must_use]
pub fn firings(policy: &PolicyView, links: &[PodLink], known: &HashMap<String, Known>, now: Timestamp) -> Vec<Firing> {
    let mut firings = Vec::new();
    for rule in &policy.spec.triggers.prom_ql {
        let Some(known) = known.get(&rule.name).filter(|k| k.problem.is_none() && k.query == rule.query) else { continue };
        let long_enough = known.since.iter().filter(|(_, since)| now.duration_since(**since) >= rule.for_.as_signed());
        let mut found: BTreeMap<_, _> = BTreeMap::new();
        for (labels, since) in long_enough {
            for place in places(labels, policy.namespace, links) {
                found.entry(place).or_insert((labels, *since));
            }
        }
        firings.extend(found.into_iter().map(|(place, (labels, since))| Firing {
            trigger: Trigger::PromQl,
            source: format!("promql-{}", rule.name),
            namespace: place.namespace,
            workload: place.workload,
            pods: place.pods,
            cause: format!("query {} gives {{{}}} for {} s", rule.name, words(labels), now.duration_since(since).as_secs()),
            key: since.as_second().to_string(),
            duration: rule.duration,
            cooldown: rule.cooldown,
            labels: BTreeMap::new(),
        }));
    }
    firings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn answers_of_prometheus_are_read() {
        let vector = br#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{"pod":"a"},"value":[1.5,"NaN"]}]}}"#;
        assert_eq!(parse(vector), Ok(vec![labels(&[("pod", "a")])]));
        let bad = br#"{"status":"error","errorType":"bad_data","error":"invalid parameter \"query\": 1:3: parse error"}"#;
        assert_eq!(parse(bad), Err(Problem::Invalid("invalid parameter \"query\": 1:3: parse error".into())));
        let busy = br#"{"status":"error","errorType":"timeout","error":"query timed out"}"#;
        assert_eq!(parse(busy), Err(Problem::Failed("query timed out".into())));
        let scalar = br#"{"status":"success","data":{"resultType":"scalar","result":[1,"1"]}}"#;
        assert!(matches!(parse(scalar), Err(Problem::Invalid(w)) if w.starts_with("it gives a scalar")));
        assert!(matches!(parse(b"<html>"), Err(Problem::Failed(_))));
    }

    #[test]
    fn a_series_is_there_since_it_came_and_a_silent_server_takes_nothing_away() {
        let at = |s| Timestamp::from_second(s).unwrap();
        let a = labels(&[("pod", "a")]);
        let first = follow(None, "q", Ok(vec![a.clone()]), at(10));
        let silent = follow(Some(&first), "q", Err(Problem::Failed("down".into())), at(20));
        let again = follow(Some(&silent), "q", Ok(vec![a.clone()]), at(30));
        assert_eq!((again.since[&a], &again.problem), (at(10), &None));
        assert_eq!(follow(Some(&again), "q2", Ok(vec![a.clone()]), at(40)).since[&a], at(40), "another query");
        assert!(follow(Some(&again), "q", Ok(vec![]), at(40)).since.is_empty());
        assert!(follow(Some(&again), "q", Err(Problem::Invalid("x".into())), at(40)).since.is_empty());
    }

    proptest::proptest! {
        #[test]
        fn no_answer_breaks_it(body in ".{0,200}") {
            let _ = parse(body.as_bytes());
            let _ = parse(format!("{{\"status\":\"success\",\"data\":{{\"resultType\":\"vector\",\"result\":{body}}}}}").as_bytes());
        }
    }
}
