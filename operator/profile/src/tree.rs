//! How is a profile converted to a call tree for flame graphs?

use std::collections::HashMap;

use serde::Serialize;

use crate::proto::Profile;
use crate::text::percent;
use crate::view::{Symbols, value};

/// Frames deeper than this are folded into one named [`DEEPER`], so that recursive readers do not overflow
/// the stack.
pub const MAX_DEPTH: usize = 512;
/// The name of the node for frames below [`MAX_DEPTH`].
pub const DEEPER: &str = "[deeper]";

/// A function in one place of the call tree, and what it calls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FlameNode {
    /// The function's name, as in the profile: sanitize it before showing it.
    pub name: String,
    /// What it and all below it used; more than its children's sum by what it used itself and what was
    /// pruned.
    pub value: i64,
    /// What it called, the heaviest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub children: Vec<FlameNode>,
}

/// The call tree by the value at `value_index` under a root called `total`; a node below `min_share` percent
/// of the total is left out with all its children.
pub fn tree(profile: &Profile, value_index: usize, min_share: f64) -> FlameNode {
    let symbols = Symbols::new(profile);
    let mut arena = Arena::new();
    for sample in &profile.sample {
        let value = value(sample, value_index);
        if value == 0 {
            continue;
        }
        let mut stack: Vec<Option<usize>> = symbols.frames(sample).map(|place| Some(place.name)).collect();
        stack.reverse();
        if stack.len() > MAX_DEPTH {
            stack.truncate(MAX_DEPTH - 1);
            stack.push(None);
        }
        arena.add(&stack, value);
    }
    arena.into_tree(&symbols, min_share)
}

/// The nodes of the tree in one vector; a child stands after its parent, node 0 is the root.
struct Arena {
    nodes: Vec<Node>,
    index: HashMap<(usize, Option<usize>), usize>,
}

struct Node {
    parent: usize,
    /// The function's number; nothing for [`DEEPER`].
    name: Option<usize>,
    value: i64,
}

impl Arena {
    fn new() -> Self {
        let root = Node { parent: 0, name: None, value: 0 };
        Self { nodes: vec![root], index: HashMap::new() }
    }

    fn add(&mut self, stack: &[Option<usize>], value: i64) {
        let mut at = 0;
        self.count(at, value);
        for name in stack {
            at = self.child(at, *name);
            self.count(at, value);
        }
    }

    fn child(&mut self, parent: usize, name: Option<usize>) -> usize {
        let next = self.nodes.len();
        let at = *self.index.entry((parent, name)).or_insert(next);
        if at == next {
            let value = 0;
            self.nodes.push(Node { parent, name, value });
        }
        at
    }

    fn count(&mut self, at: usize, value: i64) {
        if let Some(node) = self.nodes.get_mut(at) {
            node.value = node.value.saturating_add(value);
        }
    }

    /// Builds from the leaves up: when a node is reached, all its children are built.
    fn into_tree(self, symbols: &Symbols<'_>, min_share: f64) -> FlameNode {
        let total = self.nodes.first().map_or(0, |root| root.value);
        let mut children: Vec<Vec<FlameNode>> = Vec::new();
        children.resize_with(self.nodes.len(), Vec::new);
        for (position, node) in self.nodes.iter().enumerate().skip(1).rev() {
            let mut below = children.get_mut(position).map(std::mem::take).unwrap_or_default();
            if percent(node.value, total) < min_share {
                continue;
            }
            sort(&mut below);
            let built = FlameNode {
                name: node.name.map_or(DEEPER, |number| symbols.name(number)).to_owned(),
                value: node.value,
                children: below,
            };
            if let Some(siblings) = children.get_mut(node.parent) {
                siblings.push(built);
            }
        }
        let mut top = children.into_iter().next().unwrap_or_default();
        sort(&mut top);
        FlameNode { name: "total".to_owned(), value: total, children: top }
    }
}

fn sort(nodes: &mut [FlameNode]) {
    nodes.sort_by(|one, other| (other.value, &one.name).cmp(&(one.value, &other.name)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::cpu;

    fn shape(node: &FlameNode) -> String {
        let below: Vec<String> = node.children.iter().map(shape).collect();
        match below.is_empty() {
            true => format!("{}={}", node.name, node.value),
            false => format!("{}={}({})", node.name, node.value, below.join(" ")),
        }
    }

    #[test]
    fn a_node_holds_what_it_and_all_below_used() {
        let profile = cpu(&[(&["b", "main"], 2), (&["c", "main"], 5), (&["main"], 1), (&["b"], 2)]);
        assert_eq!(shape(&tree(&profile, 0, 0.0)), "total=10(main=8(c=5 b=2) b=2)");
    }

    #[test]
    fn what_is_too_small_is_left_out_with_all_below() {
        let profile = cpu(&[(&["x", "small", "main"], 1), (&["big", "main"], 99)]);
        assert_eq!(shape(&tree(&profile, 0, 2.0)), "total=100(main=100(big=99))");
    }

    #[test]
    fn recursion_is_shown_level_by_level_but_not_without_end() {
        let stack = vec!["f"; 3 * MAX_DEPTH];
        let profile = cpu(&[(&["f", "f"], 1)]);
        assert_eq!(shape(&tree(&profile, 0, 0.0)), "total=1(f=1(f=1))");
        let limits = crate::builder::BuilderLimits { depth: 10_000, ..Default::default() };
        let mut builder = crate::ProfileBuilder::with_limits(crate::ProfileKind::Cpu, 1, 0, limits);
        let frames: Vec<_> = stack.iter().map(|name| crate::Frame::named(name, "", 1)).collect();
        builder.add_hits(&frames, 1, &[]).expect("a sample");
        let tree = tree(&builder.finish(1, &[]), 0, 0.0);
        let (mut node, mut depth) = (&tree, 0);
        while let Some(child) = node.children.first() {
            (node, depth) = (child, depth + 1);
        }
        assert_eq!((depth, node.name.as_str(), node.value), (MAX_DEPTH, DEEPER, 1));
    }

    #[test]
    fn it_is_written_as_a_flame_graph_reads_it() {
        let json = serde_json::to_string(&tree(&cpu(&[(&["main"], 2)]), 0, 0.0)).expect("json");
        assert_eq!(json, r#"{"name":"total","value":2,"children":[{"name":"main","value":2}]}"#);
    }
}
