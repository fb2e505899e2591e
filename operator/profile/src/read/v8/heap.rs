//! Where was the memory of a sampling heap profile of V8 allocated?
//!
//! V8 samples one allocation in a number of bytes and writes sizes that are already multiplied by what a
//! sample stands for. It does not write how many objects that are, so that their number is an estimate.

use std::collections::HashMap;

use super::V8Limits;
use super::frame::CallFrame;
use crate::builder::{LocationId, ProfileBuilder};
use crate::kind::ProfileKind;
use crate::proto::Profile;
use crate::read::ReadError;
use crate::read::json::Json;

const FORMAT: &str = "heap profile of V8";
/// The smallest object of V8, in bytes.
const SMALLEST: f64 = 16.0;

/// A function in its place of the tree.
#[derive(Debug, Default)]
struct Node<'a> {
    id: i64,
    call: CallFrame<'a>,
    parent: Option<usize>,
    bytes: i64,
}

/// What a `.heapprofile` holds: the tree, parents before children, and objects by node.
#[derive(Debug, Default)]
struct Recording<'a> {
    nodes: Vec<Node<'a>>,
    /// Sizes by the id of a node.
    samples: Vec<(i64, i64)>,
}

/// A profile of `kind` (heap or alloc) of a `.heapprofile` that sampled once in `interval` bytes and began at
/// `start_ns` since 1970 UTC. Which objects are in it, the living ones or all, is what the recording asked
/// for.
///
/// # Errors
/// Text that is not such a profile, or more than `limits`.
pub fn read_heap(
    bytes: &[u8],
    kind: ProfileKind,
    interval: i64,
    start_ns: i64,
    limits: &V8Limits,
) -> Result<Profile, ReadError> {
    V8Limits::check(FORMAT, "bytes", bytes.len(), limits.bytes)?;
    let recording = read(bytes, limits)?;
    let objects = recording.objects(interval);
    let mut builder = ProfileBuilder::new(kind, interval, start_ns);
    let mut locations: Vec<LocationId> = Vec::with_capacity(recording.nodes.len());
    for node in &recording.nodes {
        locations.push(builder.location(&node.call.at(None)));
        if node.bytes > 0 {
            let objects = objects.get(&node.id).copied().unwrap_or(1);
            let stack = recording.stack(node, locations.len() - 1, &locations);
            // Only a kind with one value would be refused, and that has no bytes.
            let _added = builder.add_locations(&stack, &[objects.max(1), node.bytes], &[]);
        }
    }
    Ok(builder.finish(0, &[]))
}

impl Recording<'_> {
    /// How many objects there are of each node, by its id.
    fn objects(&self, interval: i64) -> HashMap<i64, i64> {
        let mut objects = HashMap::new();
        for (node, size) in &self.samples {
            let known: &mut i64 = objects.entry(*node).or_default();
            *known = known.saturating_add(objects_of(*size, interval));
        }
        objects
    }

    /// The stack of a node, leaf first, without the root.
    fn stack(&self, node: &Node<'_>, at: usize, locations: &[LocationId]) -> Vec<LocationId> {
        let mut stack: Vec<LocationId> = locations.get(at).copied().into_iter().collect();
        let mut next = node.parent;
        while let Some((at, node)) = next.and_then(|at| Some((at, self.nodes.get(at)?))) {
            if node.parent.is_some() {
                stack.extend(locations.get(at));
            }
            next = node.parent;
        }
        stack
    }
}

fn read<'a>(bytes: &'a [u8], limits: &V8Limits) -> Result<Recording<'a>, ReadError> {
    let mut json = Json::new(FORMAT, bytes)?;
    let mut recording = Recording::default();
    json.open_object()?;
    while let Some(key) = json.key()? {
        match &*key {
            "head" => recording.nodes = read_tree(&mut json, limits)?,
            "samples" => recording.samples = read_samples(&mut json, limits)?,
            _ => json.skip()?,
        }
    }
    match recording.nodes.is_empty() {
        true => Err(json.damaged("it has no head")),
        false => Ok(recording),
    }
}

/// The tree, without recursion: `open` are the nodes whose objects are not over yet.
fn read_tree<'a>(json: &mut Json<'a>, limits: &V8Limits) -> Result<Vec<Node<'a>>, ReadError> {
    let mut nodes: Vec<Node<'a>> = Vec::new();
    let mut open: Vec<usize> = Vec::new();
    begin(json, &mut nodes, &mut open, limits)?;
    while let Some(&at) = open.last() {
        let is_child_next = match (json.key()?, nodes.get_mut(at)) {
            (Some(key), Some(node)) => read_field(json, &key, node)?,
            // The object is over: what follows is in the array of the one around it.
            _ => open.pop().is_some() && !open.is_empty() && json.element()?,
        };
        if is_child_next {
            begin(json, &mut nodes, &mut open, limits)?;
        }
    }
    Ok(nodes)
}

/// Begins with a node, a child of the last one that is open.
fn begin<'a>(
    json: &mut Json<'a>,
    nodes: &mut Vec<Node<'a>>,
    open: &mut Vec<usize>,
    limits: &V8Limits,
) -> Result<(), ReadError> {
    V8Limits::check(FORMAT, "nodes", nodes.len() + 1, limits.nodes)?;
    V8Limits::check(FORMAT, "frames in a stack", open.len() + 1, limits.depth)?;
    json.open_object()?;
    let parent = open.last().copied();
    open.push(nodes.len());
    nodes.push(Node { parent, ..Node::default() });
    Ok(())
}

/// Reads a field of a node; true when its first child is next.
fn read_field<'a>(json: &mut Json<'a>, key: &str, node: &mut Node<'a>) -> Result<bool, ReadError> {
    match key {
        "children" => {
            json.open_array()?;
            return json.element();
        }
        "id" => node.id = json.integer()?,
        "selfSize" => node.bytes = json.integer()?.max(0),
        "callFrame" => node.call = CallFrame::read(json)?,
        _ => json.skip()?,
    }
    Ok(false)
}

fn read_samples(json: &mut Json<'_>, limits: &V8Limits) -> Result<Vec<(i64, i64)>, ReadError> {
    let mut all = Vec::new();
    json.open_array()?;
    while json.element()? {
        V8Limits::check(FORMAT, "samples", all.len() + 1, limits.samples)?;
        let (mut node, mut size) = (0, 0);
        json.open_object()?;
        while let Some(key) = json.key()? {
            match &*key {
                "nodeId" => node = json.integer()?,
                "size" => size = json.integer()?.max(0),
                _ => json.skip()?,
            }
        }
        all.push((node, size));
    }
    Ok(all)
}

/// About how many objects a sample of `bytes` stands for, at least 1; true within a factor of two.
///
/// An object of `s` bytes is sampled with the chance `1 - e^(-s/i)` and stands for one over that many, rounded,
/// so that about `bytes = s / (1 - e^(-s/i))`, which is solved for `s` by Newton's method. For small objects the
/// rounding blurs it.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "an estimate")]
pub(super) fn objects_of(bytes: i64, interval: i64) -> i64 {
    let (bytes, interval) = (bytes.max(0) as f64, interval.max(1) as f64);
    let ratio = bytes / interval;
    let mut x = ratio;
    for _ in 0..32 {
        let slope = ratio.mul_add(-(-x).exp(), 1.0);
        if x <= 0.0 || slope.abs() < 1e-12 {
            break;
        }
        x -= ratio.mul_add(-(1.0 - (-x).exp()), x) / slope;
    }
    let size = if ratio > 1.0 && x.is_finite() { x * interval } else { SMALLEST };
    ((bytes / size.max(SMALLEST)).round() as i64).max(1)
}
