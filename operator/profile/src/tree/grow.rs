//! How is a call tree built within its limits? The heaviest stacks first.

use std::collections::HashMap;

use super::{CallTree, Counted, MAX_DEPTH, NO_STACK, Row, TreeLimits};
use crate::basis::{SIDES, Side, Totals};
use crate::functions::Functions;
use crate::proto::Profile;
use crate::view::{Symbols, sample_types, samples_index, total, value};

/// A call tree under construction; the profiles can be dropped once they are added.
#[derive(Debug)]
pub struct Grower {
    limits: TreeLimits,
    functions: Functions,
    /// A child after its parent; 0 is the root.
    nodes: Vec<Node>,
    index: HashMap<(u32, u32), u32>,
    sample_type: String,
    unit: String,
    totals: [Option<Totals>; 2],
}

#[derive(Debug)]
struct Node {
    parent: u32,
    function: Option<u32>,
    counted: [Counted; 2],
}

/// How far one profile may go.
struct Room {
    nodes: usize,
    steps: usize,
}

impl Grower {
    /// An empty tree.
    #[must_use]
    pub fn new(limits: TreeLimits) -> Self {
        Self {
            limits,
            functions: Functions::default(),
            nodes: vec![Node { parent: 0, function: None, counted: Default::default() }],
            index: HashMap::new(),
            sample_type: String::new(),
            unit: String::new(),
            totals: [None; 2],
        }
    }

    /// Adds a profile by the value at `value_index`. A base comes first and may take half of the limits.
    pub fn add(&mut self, side: Side, profile: &Profile, value_index: usize, pod_nanos: Option<i64>) {
        let symbols = Symbols::new(profile);
        let count = samples_index(profile);
        let part = if side == Side::Base { 2 } else { 1 };
        let mut room = Room { nodes: self.limits.nodes / part, steps: self.limits.steps / part };
        let (sample_type, unit) = sample_types(profile).get(value_index).copied().unwrap_or_default();
        (self.sample_type, self.unit) = (sample_type.to_owned(), unit.to_owned());
        self.totals[side as usize] = Some(Totals {
            value: total(profile, value_index),
            samples: count.map(|index| total(profile, index)),
            pod_nanos,
        });
        // The numbers of the profile's functions in the tree.
        let mut numbers: Vec<Option<Option<u32>>> = vec![None; symbols.names.len()];
        for sample in heaviest_first(profile, value_index) {
            let weight = value(sample, value_index);
            let samples = count.map_or(0, |index| value(sample, index));
            let mut number = |name: usize| {
                let known = numbers.get_mut(name)?;
                *known.get_or_insert_with(|| self.functions.number(symbols.names.get(name)?))
            };
            let mut stack: Vec<Option<u32>> = Vec::new();
            let deepest = MAX_DEPTH.min(room.steps);
            let mut frames = symbols.frames(sample).rev();
            stack.extend(frames.by_ref().take(deepest).map(|place| number(place.name)));
            room.steps -= stack.len().min(room.steps);
            let complete = frames.next().is_none();
            if stack.is_empty() && complete {
                stack.push(self.functions.number(&(NO_STACK.into(), "")));
            }
            self.count(side, &stack, complete, room.nodes, (weight, samples));
        }
    }

    /// Counts one sample; where the stack or the tree ends early, as pruned.
    fn count(
        &mut self,
        side: Side,
        stack: &[Option<u32>],
        complete: bool,
        most: usize,
        (weight, samples): (i64, i64),
    ) {
        let (mut at, mut complete) = (0, complete);
        for function in stack {
            match function.and_then(|function| self.child(at, function, most)) {
                Some(child) => at = child,
                None => {
                    complete = false;
                    break;
                }
            }
        }
        if let Some(node) = self.nodes.get_mut(at as usize) {
            let counted = &mut node.counted[side as usize];
            let part = if complete { &mut counted.own } else { &mut counted.pruned };
            *part = part.saturating_add(weight);
            counted.samples = counted.samples.saturating_add(samples);
        }
    }

    fn child(&mut self, parent: u32, function: u32, most: usize) -> Option<u32> {
        if let Some(child) = self.index.get(&(parent, function)) {
            return Some(*child);
        }
        let child = u32::try_from(self.nodes.len()).ok().filter(|_| self.nodes.len() < most)?;
        self.nodes.push(Node { parent, function: Some(function), counted: Default::default() });
        self.index.insert((parent, function), child);
        Some(child)
    }

    /// The tree.
    #[must_use]
    pub fn finish(mut self) -> CallTree {
        self.index = HashMap::new();
        self.add_up();
        let rows = self.preorder();
        CallTree {
            functions: self.functions,
            rows,
            sample_type: self.sample_type,
            unit: self.unit,
            totals: self.totals,
            above: Vec::new(),
        }
    }

    /// Totals from the leaves up: when a node is reached, all its children are added to it.
    fn add_up(&mut self) {
        for at in (0..self.nodes.len()).rev() {
            let Some(Node { parent, counted, .. }) = self.nodes.get_mut(at) else { continue };
            let parent = *parent as usize;
            for side in SIDES {
                let part = &mut counted[side as usize];
                part.total = part.total.saturating_add(part.own).saturating_add(part.pruned);
            }
            let counted = *counted;
            let Some(above) = self.nodes.get_mut(parent).filter(|_| at > 0) else { continue };
            for side in SIDES {
                let (sum, part) = (&mut above.counted[side as usize], counted[side as usize]);
                sum.total = sum.total.saturating_add(part.total);
                sum.samples = sum.samples.saturating_add(part.samples);
            }
        }
    }

    /// The nodes, each before its children, the heaviest child first.
    fn preorder(&self) -> Vec<Row> {
        let weights = Weights::of(&self.totals);
        let order = |one: &Node, other: &Node| {
            let texts = |node: &Node| node.function.map(|number| self.functions.texts(number));
            weights
                .weight(&other.counted)
                .cmp(&weights.weight(&one.counted))
                .then_with(|| texts(one).cmp(&texts(other)))
        };
        let mut children: Vec<Vec<u32>> = vec![Vec::new(); self.nodes.len()];
        for (child, node) in (0_u32..).zip(&self.nodes).skip(1) {
            children[node.parent as usize].push(child);
        }
        let mut rows = Vec::with_capacity(self.nodes.len());
        let mut todo = vec![(0_u32, 0_u32)];
        while let Some((at, depth)) = todo.pop() {
            let node = &self.nodes[at as usize];
            rows.push(Row { depth, function: node.function, counted: node.counted });
            let below = &mut children[at as usize];
            // The last one is taken first.
            below.sort_unstable_by(|one, other| {
                order(&self.nodes[*other as usize], &self.nodes[*one as usize])
            });
            todo.extend(below.drain(..).map(|child| (child, depth + 1)));
        }
        rows
    }
}

/// The samples that count, the heaviest first.
fn heaviest_first(profile: &Profile, value_index: usize) -> Vec<&crate::proto::Sample> {
    let mut samples: Vec<_> =
        profile.sample.iter().filter(|sample| value(sample, value_index) != 0).collect();
    samples.sort_by_key(|sample| std::cmp::Reverse(value(sample, value_index)));
    samples
}

/// How heavy nodes are by their shares of both sides, whatever these sum up to.
pub(super) struct Weights([u128; 2]);

impl Weights {
    pub(super) fn of(totals: &[Option<Totals>; 2]) -> Self {
        let total = |side: Side| {
            let value = totals[side as usize].map_or(0, |totals| totals.value);
            u128::from(value.max(1).unsigned_abs())
        };
        // The share of each side times both sums: in whole numbers, so that no order depends on rounding.
        Self([total(Side::Base), total(Side::After)])
    }

    pub(super) fn weight(&self, counted: &[Counted; 2]) -> u128 {
        let part = |side: Side| {
            u128::from(counted[side as usize].total.max(0).unsigned_abs())
                .saturating_mul(self.0[side as usize])
        };
        part(Side::After).saturating_add(part(Side::Base))
    }
}
