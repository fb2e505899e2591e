//! Where did the thread of a `.cpuprofile` spend its CPU time?
//!
//! V8 looks at its thread at a fixed distance of time, whether it runs or waits: `(idle)` is not CPU time and
//! is left out. `(program)` is machine code without a function of JavaScript. `(garbage collector)` has no
//! stack of its own, so that it stands on the function that ran before it. Of the functions that a stack ends
//! in V8 knows the lines, of their callers only where they begin.

use std::collections::BTreeMap;
use std::collections::HashMap;

use super::V8Limits;
use super::frame::CallFrame;
use crate::builder::{LocationId, ProfileBuilder};
use crate::kind::ProfileKind;
use crate::proto::Profile;
use crate::read::ReadError;
use crate::read::json::Json;

const FORMAT: &str = "CPU profile of V8";
const ROOT: &str = "(root)";
const IDLE: &str = "(idle)";
const PROGRAM: &str = "(program)";
const COLLECTOR: &str = "(garbage collector)";
/// Most periods that a sample stands for: what is missing beyond was not looked at.
const MOST_PERIODS: i64 = 4;

/// A function in its place of the tree.
#[derive(Debug, Default)]
struct Node<'a> {
    id: i64,
    call: CallFrame<'a>,
    parent: Option<usize>,
    /// Lines in which samples end, and how many.
    ticks: Vec<(i64, u64)>,
}

/// What a `.cpuprofile` holds.
#[derive(Debug, Default)]
struct Recording<'a> {
    nodes: Vec<Node<'a>>,
    /// Ids of children, with the index of their parent.
    children: Vec<(i64, usize)>,
    samples: Vec<i64>,
    /// Microseconds since the sample before.
    deltas: Vec<i64>,
}

/// Hits and nanoseconds of a stack.
type Weight = (u64, u64);
/// A leaf, and the function below it if the leaf is the garbage collector.
type Stack = (usize, Option<usize>);

/// A CPU profile of a `.cpuprofile` whose samples should stand `period_ns` apart and begin at `start_ns` since
/// 1970 UTC. A sample weighs the time since the one before.
///
/// # Errors
/// Text that is not such a profile, or more than `limits`.
pub fn read_cpu(
    bytes: &[u8],
    period_ns: i64,
    start_ns: i64,
    limits: &V8Limits,
) -> Result<Profile, ReadError> {
    V8Limits::check(FORMAT, "bytes", bytes.len(), limits.bytes)?;
    let mut recording = read(bytes, limits)?;
    let index = recording.link();
    let weights = recording.weigh(&index, period_ns.max(1));
    let duration = recording.deltas.iter().fold(0_i64, |sum, delta| sum.saturating_add((*delta).max(0)));
    let mut builder = ProfileBuilder::new(ProfileKind::Cpu, period_ns, start_ns);
    let mut stacks = Stacks { recording: &recording, known: HashMap::new(), depth: limits.depth };
    for ((leaf, below), weight) in weights {
        stacks.add(&mut builder, leaf, below, weight);
    }
    Ok(builder.finish(duration.saturating_mul(1_000), &[]))
}

fn read<'a>(bytes: &'a [u8], limits: &V8Limits) -> Result<Recording<'a>, ReadError> {
    let mut json = Json::new(FORMAT, bytes)?;
    let mut recording = Recording::default();
    json.open_object()?;
    while let Some(key) = json.key()? {
        match &*key {
            "nodes" => recording.read_nodes(&mut json, limits)?,
            "samples" => recording.samples = numbers(&mut json, "samples", limits.samples)?,
            "timeDeltas" => recording.deltas = numbers(&mut json, "time deltas", limits.samples)?,
            _ => json.skip()?,
        }
    }
    match recording.nodes.is_empty() {
        true => Err(json.damaged("it has no nodes")),
        false => Ok(recording),
    }
}

fn numbers(json: &mut Json<'_>, what: &'static str, limit: usize) -> Result<Vec<i64>, ReadError> {
    let mut all = Vec::new();
    json.open_array()?;
    while json.element()? {
        V8Limits::check(FORMAT, what, all.len() + 1, limit)?;
        all.push(json.integer()?);
    }
    Ok(all)
}

impl<'a> Recording<'a> {
    fn read_nodes(&mut self, json: &mut Json<'a>, limits: &V8Limits) -> Result<(), ReadError> {
        let mut lines = 0;
        json.open_array()?;
        while json.element()? {
            V8Limits::check(FORMAT, "nodes", self.nodes.len() + 1, limits.nodes)?;
            let node = self.read_node(json, limits)?;
            lines += node.ticks.len();
            V8Limits::check(FORMAT, "lines", lines, limits.samples)?;
            self.nodes.push(node);
        }
        Ok(())
    }

    fn read_node(&mut self, json: &mut Json<'a>, limits: &V8Limits) -> Result<Node<'a>, ReadError> {
        let mut node = Node::default();
        json.open_object()?;
        while let Some(key) = json.key()? {
            match &*key {
                "id" => node.id = json.integer()?,
                "callFrame" => node.call = CallFrame::read(json)?,
                "children" => {
                    let index = self.nodes.len();
                    let children = numbers(json, "children", limits.nodes)?;
                    self.children.extend(children.into_iter().map(|child| (child, index)));
                    V8Limits::check(FORMAT, "children", self.children.len(), limits.nodes)?;
                }
                "positionTicks" => node.ticks = read_ticks(json, limits.samples)?,
                _ => json.skip()?,
            }
        }
        Ok(node)
    }

    /// Tells the nodes their parents, and gives back where each id is.
    fn link(&mut self) -> HashMap<i64, usize> {
        let index: HashMap<i64, usize> = self.nodes.iter().enumerate().map(|(at, n)| (n.id, at)).collect();
        for (child, parent) in std::mem::take(&mut self.children) {
            if let Some(node) = index.get(&child).and_then(|at| self.nodes.get_mut(*at)) {
                node.parent = Some(parent);
            }
        }
        index
    }

    /// What each stack weighs.
    fn weigh(&self, index: &HashMap<i64, usize>, period_ns: i64) -> BTreeMap<Stack, Weight> {
        let mut weights: BTreeMap<Stack, Weight> = BTreeMap::new();
        let mut before = None;
        for (turn, id) in self.samples.iter().enumerate() {
            let Some((&at, node)) = index.get(id).and_then(|at| Some((at, self.nodes.get(*at)?))) else {
                continue;
            };
            if node.call.is(IDLE) || node.call.is(ROOT) {
                before = None;
                continue;
            }
            let collects = node.call.is(COLLECTOR);
            let weight = weights.entry((at, before.filter(|_| collects))).or_default();
            weight.0 += 1;
            weight.1 = weight.1.saturating_add(self.nanos(turn, period_ns));
            if !collects {
                before = Some(at).filter(|_| !node.call.is(PROGRAM));
            }
        }
        weights
    }

    /// The time before a sample. The first one waits for the recording to begin, which is not time of the
    /// target's.
    fn nanos(&self, turn: usize, period_ns: i64) -> u64 {
        let most = if turn == 0 { period_ns } else { period_ns.saturating_mul(MOST_PERIODS) };
        let delta = self.deltas.get(turn).map_or(period_ns, |micros| micros.saturating_mul(1_000));
        u64::try_from(delta.min(most)).unwrap_or(0)
    }
}

fn read_ticks(json: &mut Json<'_>, limit: usize) -> Result<Vec<(i64, u64)>, ReadError> {
    let mut all = Vec::new();
    json.open_array()?;
    while json.element()? {
        V8Limits::check(FORMAT, "lines", all.len() + 1, limit)?;
        let (mut line, mut ticks) = (0, 0);
        json.open_object()?;
        while let Some(key) = json.key()? {
            match &*key {
                "line" => line = json.integer()?.max(0),
                "ticks" => ticks = u64::from(u32::try_from(json.integer()?).unwrap_or(0)),
                _ => json.skip()?,
            }
        }
        all.push((line, ticks));
    }
    Ok(all)
}

/// Turns nodes into stacks.
struct Stacks<'a> {
    recording: &'a Recording<'a>,
    known: HashMap<usize, LocationId>,
    depth: usize,
}

impl Stacks<'_> {
    /// Adds a stack: its weight goes to the lines of its leaf as the ticks there are.
    fn add(&mut self, builder: &mut ProfileBuilder, leaf: usize, below: Option<usize>, weight: Weight) {
        let Some(node) = self.recording.nodes.get(leaf) else { return };
        let callers = self.callers(builder, below.or(node.parent).filter(|at| *at != leaf));
        let ticks = match node.ticks.iter().any(|(_, ticks)| *ticks > 0) && below.is_none() {
            true => node.ticks.clone(),
            false => vec![(node.call.line, 1)],
        };
        let all: u64 = ticks.iter().map(|(_, ticks)| ticks).sum();
        let (mut seen, mut given) = (0, (0, 0));
        for (line, ticks) in ticks {
            seen += ticks;
            let until = (share(weight.0, seen, all), share(weight.1, seen, all));
            let (hits, nanos) = (until.0 - given.0, until.1 - given.1);
            given = until;
            if hits == 0 && nanos == 0 {
                continue;
            }
            let mut stack = vec![builder.location(&node.call.at(Some(line)))];
            stack.extend(&callers);
            // Values of the right number that are not negative, and locations of this builder: never refused.
            let _added = builder.add_locations(&stack, &[signed(hits), signed(nanos)], &[]);
        }
    }

    /// The stack above a leaf, innermost first. A tree that bites its tail ends at the bound.
    fn callers(&mut self, builder: &mut ProfileBuilder, first: Option<usize>) -> Vec<LocationId> {
        let mut stack = Vec::new();
        let mut next = first;
        while let Some((at, node)) = next.and_then(|at| Some((at, self.recording.nodes.get(at)?))) {
            if stack.len() >= self.depth || node.call.is(ROOT) {
                break;
            }
            let known = self.known.entry(at).or_insert_with(|| builder.location(&node.call.at(None)));
            stack.push(*known);
            next = node.parent;
        }
        stack
    }
}

/// `value × part ÷ whole`, without overflow.
fn share(value: u64, part: u64, whole: u64) -> u64 {
    let exact = u128::from(value) * u128::from(part) / u128::from(whole.max(1));
    u64::try_from(exact).unwrap_or(u64::MAX)
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
