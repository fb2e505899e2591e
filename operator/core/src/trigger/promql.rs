//! For how long has a query returned a series, and which workloads do its series refer to?
//!
//! As with alerting rules of Prometheus, every series that a query returns fires, whatever its value:
//! `latency > 0.5` returns only the slow ones.

use std::collections::{BTreeMap, HashMap};

use fleetprof_crds::session::Trigger;
use jiff::Timestamp;

use super::decode::Answer;
use super::place::{self, Labels, places};
use super::together::{Found, Together, together};
use super::{Firing, most_pods};
use crate::hash::hash;
use crate::link::PodLink;
use crate::text::cut;
use crate::view::PolicyView;

/// Most bytes of an answer.
pub const MAX_BYTES: usize = 4 * 1024 * 1024;
/// Most series of an answer.
pub const MAX_SERIES: usize = 1000;
/// Most bytes of what Prometheus says about a query.
pub(super) const MAX_WORDS: usize = 300;
/// Longer values of labels name nothing in Kubernetes.
const MAX_NAME: usize = 253;
/// Most bytes of the values that are kept of one series.
const MAX_KEPT: usize = 512;

/// Why a query gives nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// It is wrong, in the words of Prometheus.
    Invalid(String),
    /// It could not be asked now.
    Failed(String),
}

/// What is kept of a series: the labels that may name a workload, and which series it is. A query can give
/// any series of the server, so the others are kept no longer than it takes to read them, and shown to
/// nobody.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Series {
    names: Box<[(&'static str, Box<str>)]>,
    id: u64,
}

impl Series {
    /// Of a series with these labels. Values beyond 512 bytes in all are left out.
    #[must_use]
    pub fn of(labels: &Labels) -> Self {
        let mut builder = SeriesBuilder::default();
        labels.iter().for_each(|(name, value)| builder.label(name, value));
        builder.finish()
    }

    /// The value of a label that may name a workload.
    #[must_use]
    pub fn label(&self, name: &str) -> Option<&str> {
        self.names.iter().find(|(n, _)| *n == name).map(|(_, value)| &**value)
    }
}

/// A series whose labels come one after the other, in any order, and are not held.
#[derive(Default)]
pub(super) struct SeriesBuilder {
    kept: BTreeMap<&'static str, Box<str>>,
    id: u64,
}

impl SeriesBuilder {
    /// Takes in a label.
    pub(super) fn label(&mut self, name: &str, value: &str) {
        // A sum does not depend on the order, which servers may change from one answer to the next.
        self.id = self.id.wrapping_add(hash(&[name, value]));
        let known = place::names().find(|known| *known == name);
        if let Some(known) = known.filter(|_| value.len() <= MAX_NAME) {
            self.kept.insert(known, value.into());
        }
    }

    /// The series.
    pub(super) fn finish(mut self) -> Series {
        let (mut room, mut names) = (MAX_KEPT, Vec::new());
        for name in place::names() {
            let Some(value) = self.kept.remove(name).filter(|value| value.len() <= room) else { continue };
            room -= value.len();
            names.push((name, value));
        }
        Series { names: names.into(), id: self.id }
    }
}

/// Reads the answer to an instant query. Beside the answer itself it holds no more than the series that are kept.
///
/// # Errors If the query is invalid, or the response is not from Prometheus.
pub fn parse(body: &[u8]) -> Result<Vec<Series>, Problem> {
    let failed = || Problem::Failed("the response is not from Prometheus; check the URL".into());
    let answer: Answer = serde_json::from_slice(body).map_err(|_| failed())?;
    if answer.status.0 != "success" {
        return Err(refused(&answer));
    }
    let data = answer.data.ok_or_else(failed)?;
    if data.result_type.0 != "vector" {
        let kind = cut(&plain(&data.result_type.0), 20);
        return Err(Problem::Invalid(format!(
            "it returns a {kind}; write an expression that returns an instant vector, such as latency > 0.5"
        )));
    }
    let result = data.result.filter(|result| result.others == 0).ok_or_else(failed)?;
    if result.count > MAX_SERIES {
        return Err(Problem::Invalid(format!(
            "it returns {} series, more than {MAX_SERIES}; make it more specific",
            result.count
        )));
    }
    Ok(result.series)
}

/// Why a query was not answered. The words of Prometheus are shown where they speak of the query and the
/// server alone: those about an evaluation name series, which may be others' than the query's author's.
fn refused(answer: &Answer) -> Problem {
    let said = || cut(&plain(&answer.error.0), MAX_WORDS);
    match answer.error_type.0.as_str() {
        "bad_data" => Problem::Invalid(said()),
        "timeout" | "canceled" | "unavailable" => Problem::Failed(said()),
        "execution" => {
            Problem::Invalid("Prometheus cannot evaluate it; run the query in Prometheus to see why".into())
        }
        other => Problem::Failed(format!("Prometheus returned the error {:?}", cut(&plain(other), 20))),
    }
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
    pub since: HashMap<Series, Timestamp>,
    /// Why the last try gave nothing.
    pub problem: Option<Problem>,
}

/// What a series takes beside its labels: its place in a map, and since when it is there.
const OF_A_SERIES: usize = 64;
/// What a label of a series takes beside its value.
const OF_A_LABEL: usize = 48;

impl Known {
    /// The bytes that it takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let labels = |series: &Series| {
            series.names.iter().flat_map(|(_, value)| [OF_A_LABEL, value.len()]).sum::<usize>()
        };
        let series = self.since.keys().flat_map(|series| [OF_A_SERIES, labels(series)]);
        series.chain([self.query.len()]).sum()
    }
}

/// What is known after one more answer. A server that does not answer takes nothing away; another query
/// restarts.
#[must_use]
pub fn follow(
    before: Option<&Known>,
    query: &str,
    answer: Result<Vec<Series>, Problem>,
    now: Timestamp,
) -> Known {
    let before = before.filter(|k| k.query == query);
    let since =
        |series: &Series| before.and_then(|k| k.since.get(series)).map_or(now, |since| now.min(*since));
    let query = query.to_owned();
    match answer {
        Ok(series) => {
            let dated = series.into_iter().map(|s| {
                let at = since(&s);
                (s, at)
            });
            Known { query, since: dated.collect(), problem: None }
        }
        Err(problem @ Problem::Failed(_)) => Known {
            query,
            since: before.map(|k| k.since.clone()).unwrap_or_default(),
            problem: Some(problem),
        },
        Err(problem) => Known { query, since: HashMap::new(), problem: Some(problem) },
    }
}

/// What is wrong with the queries of a policy, as sentences that begin with the field. `known` is by the
/// trigger's name.
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
pub fn firings(
    policy: &PolicyView,
    links: &[PodLink],
    known: &HashMap<String, Known>,
    now: Timestamp,
) -> Vec<Firing> {
    let mut firings = Vec::new();
    for rule in &policy.spec.triggers.prom_ql {
        let Some(known) = known.get(&rule.name).filter(|k| k.problem.is_none() && k.query == rule.query)
        else {
            continue;
        };
        let mut long_enough: Vec<_> = known
            .since
            .iter()
            .filter(|(_, since)| now.duration_since(**since) >= rule.for_.as_signed())
            .collect();
        long_enough.sort();
        let of_series = |(series, since): (&Series, &Timestamp)| {
            let places = places(|name| series.label(name), policy.namespace, links);
            places.into_iter().map(|place| Found { since: *since, place, what: () }).collect::<Vec<_>>()
        };
        let found = long_enough.into_iter().flat_map(of_series).collect();
        firings.extend(together(found, rule.cooldown, most_pods(policy)).into_iter().map(|t| Firing {
            trigger: Trigger::PromQl,
            source: format!("promql-{}", rule.name),
            cause: cause(&rule.name, &t, now),
            key: t.since.as_second().to_string(),
            namespace: t.namespace,
            workload: t.workload,
            pods: t.pods,
            ongoing: None,
            duration: rule.duration,
            cooldown: rule.cooldown,
            compare: None,
            labels: BTreeMap::new(),
        }));
    }
    firings
}

/// Names what was found in our own words: labels of a query's series can be those of other people's series.
fn cause(query: &str, together: &Together<()>, now: Timestamp) -> String {
    let Together { since, namespace, workload, pods, first: (), count } = together;
    let pod = pods.first().map(|pod| format!("pod {pod} of ")).unwrap_or_default();
    let others = if *count > 1 { format!("; {count} of its series match") } else { String::new() };
    format!(
        "query {query} has returned {pod}{workload} in namespace {namespace} for {} s{others}",
        now.duration_since(*since).as_secs()
    )
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
        assert_eq!(parse(vector), Ok(vec![Series::of(&labels(&[("pod", "a")]))]));
        let bad = br#"{"status":"error","errorType":"bad_data","error":"invalid parameter \"query\": 1:3: parse error"}"#;
        assert_eq!(parse(bad), Err(Problem::Invalid("invalid parameter \"query\": 1:3: parse error".into())));
        let busy = br#"{"status":"error","errorType":"timeout","error":"query timed out"}"#;
        assert_eq!(parse(busy), Err(Problem::Failed("query timed out".into())));
        let scalar = br#"{"status":"success","data":{"resultType":"scalar","result":[1,"1"]}}"#;
        assert!(matches!(parse(scalar), Err(Problem::Invalid(w)) if w.starts_with("it returns a scalar")));
        assert!(matches!(parse(b"<html>"), Err(Problem::Failed(_))));
    }

    #[test]
    fn the_order_of_fields_and_labels_does_not_matter() {
        let one = br#"{"data":{"result":[{"value":[1,"0"],"metric":{"pod":"a\u0062","job":"j"}}],"resultType":"vector"},"status":"success","warnings":["w"]}"#;
        let other = br#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{"job":"j","pod":"ab"},"value":[1,"0"]}]}}"#;
        assert_eq!(parse(one), parse(other));
        assert_eq!(parse(one).unwrap()[0], Series::of(&labels(&[("pod", "ab"), ("job", "j")])));
        let unlabeled =
            br#"{"status":"success","data":{"resultType":"vector","result":[{"value":[1,"0"]}]}}"#;
        assert!(matches!(parse(unlabeled), Err(Problem::Failed(_))), "a series without labels is none");
        let matrix = br#"{"status":"success","data":{"resultType":"matrix","result":[{"metric":{},"values":[[1,"1"]]}]}}"#;
        assert!(matches!(parse(matrix), Err(Problem::Invalid(w)) if w.starts_with("it returns a matrix")));
    }

    #[test]
    fn too_many_series_are_counted_and_not_kept() {
        let series = vec![r#"{"metric":{"pod":"a"},"value":[1,"0"]}"#; MAX_SERIES + 5].join(",");
        let body = format!(r#"{{"status":"success","data":{{"resultType":"vector","result":[{series}]}}}}"#);
        assert!(
            matches!(parse(body.as_bytes()), Err(Problem::Invalid(w)) if w.starts_with("it returns 1005 series"))
        );
    }

    #[test]
    fn an_error_shows_no_series_of_others() {
        for kind in ["execution", "422", "internal"] {
            let body = format!(
                r#"{{"status":"error","errorType":"{kind}","error":"many-to-many matching: {{secret=\"x\"}}"}}"#
            );
            let (Problem::Invalid(words) | Problem::Failed(words)) = parse(body.as_bytes()).unwrap_err();
            assert!(!words.contains("secret") && words.starts_with("Prometheus "), "{words}");
        }
    }

    #[test]
    fn of_a_series_no_more_is_kept_than_names_a_workload() {
        let long = "x".repeat(MAX_NAME + 1);
        let all = labels(&[
            ("namespace", "shop"),
            ("pod", "a"),
            ("secret", "s"),
            ("__name__", "m"),
            ("app", &long),
        ]);
        let series = Series::of(&all);
        assert_eq!(
            (series.label("namespace"), series.label("pod"), series.label("app")),
            (Some("shop"), Some("a"), None)
        );
        assert_eq!(series.names.len(), 2);
        let mut other = all;
        other.insert("secret".into(), "t".into());
        assert_ne!(Series::of(&other), series, "it is still another series");
        let name = "n".repeat(MAX_NAME);
        let every = Series::of(&place::names().map(|label| (label.to_owned(), name.clone())).collect());
        assert!(every.names.iter().map(|(_, value)| value.len()).sum::<usize>() <= MAX_KEPT);
        assert_eq!(every.names[0].0, "exported_namespace", "what binds first is kept");
    }

    #[test]
    fn a_series_is_there_since_it_came_and_a_silent_server_takes_nothing_away() {
        let at = |s| Timestamp::from_second(s).unwrap();
        let a = Series::of(&labels(&[("pod", "a")]));
        let first = follow(None, "q", Ok(vec![a.clone()]), at(10));
        let silent = follow(Some(&first), "q", Err(Problem::Failed("down".into())), at(20));
        let again = follow(Some(&silent), "q", Ok(vec![a.clone()]), at(30));
        assert_eq!((again.since[&a], &again.problem), (at(10), &None));
        assert_eq!(
            follow(Some(&again), "q2", Ok(vec![a.clone()]), at(40)).since[&a],
            at(40),
            "another query"
        );
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
