//! How does a profile, or a pair of them, become a call tree for flame graphs?
//!
//! ```text
//! profile ─► Grower::add ─► Grower::finish ─► CallTree (preorder, heaviest first) ─► at ─► columns ─► JSON
//! base ────────┘                                 └► fold: text
//! ```
//! What is left out for want of room, or because a reader asked for fewer nodes, is counted as *pruned* at
//! the node that it was called from: never as what that node used itself. So for each node
//! `total = self + pruned + the totals of its children`, however much was left out.

mod columns;
mod grow;
#[cfg(test)]
mod tests;

use crate::basis::{Side, Totals};
use crate::functions::Functions;
use crate::proto::Profile;

pub use columns::{Columns, SideColumns};
pub use grow::Grower;

/// Most frames of a stack that become nodes, from the root on; deeper ones are pruned.
pub const MAX_DEPTH: usize = 512;
/// The name of the node for samples without a stack, as in folded text.
pub const NO_STACK: &str = "[no stack]";
/// The name of the root.
pub const ROOT: &str = "total";

/// What a tree may hold, and how much work its making may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TreeLimits {
    /// Nodes; about 100 bytes each. The heaviest stacks get theirs first.
    pub nodes: usize,
    /// Frames that are looked at, over all stacks; about 50 ns each.
    pub steps: usize,
}

impl Default for TreeLimits {
    /// 40 MB, and 5 s.
    fn default() -> Self {
        Self { nodes: 400_000, steps: 100_000_000 }
    }
}

/// What a node counts of one side.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counted {
    /// What it used itself.
    pub(crate) own: i64,
    /// What was left out below it.
    pub(crate) pruned: i64,
    /// Both, and what its children count.
    pub(crate) total: i64,
    /// Samples of `total`.
    pub(crate) samples: i64,
}

/// A function in one place of the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    /// 0 for the root.
    pub(crate) depth: u32,
    /// `None` for the root.
    pub(crate) function: Option<u32>,
    /// By [`Side`].
    pub(crate) counted: [Counted; 2],
}

/// A call tree in preorder: each node before its children, the heaviest child first.
#[derive(Debug, Clone)]
pub struct CallTree {
    pub(crate) functions: Functions,
    pub(crate) rows: Vec<Row>,
    pub(crate) sample_type: String,
    pub(crate) unit: String,
    pub(crate) totals: [Option<Totals>; 2],
    /// The names on the way from the root, without the node itself, where this is a part of a tree.
    pub(crate) above: Vec<String>,
}

impl CallTree {
    /// The tree of one profile by the value at `value_index`.
    pub fn of(profile: &Profile, value_index: usize, limits: TreeLimits) -> Self {
        let mut grower = Grower::new(limits);
        grower.add(Side::After, profile, value_index, None);
        grower.finish()
    }

    /// The part of the tree below the node that `path` leads to: for each level, which child it is, 0 being
    /// the heaviest. `None` where there is no such child.
    #[must_use]
    pub fn at(mut self, path: &[usize]) -> Option<Self> {
        let (mut node, mut above) = (0, Vec::new());
        for step in path {
            above.push(self.name(self.rows.get(node)?).to_owned());
            node = self.children(node).nth(*step)?;
        }
        let depth = self.rows.get(node)?.depth;
        let end = self.end(node);
        self.rows.truncate(end);
        self.rows.drain(..node);
        for row in &mut self.rows {
            row.depth -= depth;
        }
        self.above.extend(above);
        Some(self)
    }

    /// How many nodes there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether no sample was counted.
    pub fn is_empty(&self) -> bool {
        self.rows.len() <= 1
    }

    /// What was summed of a side.
    pub fn totals(&self, side: Side) -> Option<Totals> {
        self.totals[side as usize]
    }

    pub(crate) fn name(&self, row: &Row) -> &str {
        row.function.map_or(ROOT, |number| self.functions.name(number))
    }

    fn children(&self, node: usize) -> impl Iterator<Item = usize> + '_ {
        let below = self.rows.get(node).map_or(u32::MAX, |row| row.depth.saturating_add(1));
        (node + 1..self.end(node)).filter(move |at| self.rows.get(*at).is_some_and(|row| row.depth == below))
    }

    /// Where the part of the tree below `node` ends.
    fn end(&self, node: usize) -> usize {
        let Some(depth) = self.rows.get(node).map(|row| row.depth) else { return node };
        let below = self.rows.iter().skip(node + 1).take_while(|row| row.depth > depth).count();
        node + 1 + below
    }
}
