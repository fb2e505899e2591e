//! Which stacks are the same one?

use std::convert::Infallible;

use crate::index::Index;
use crate::proto::{Label, Sample};

/// Samples under construction: values of equal stacks with equal labels are added up, saturating.
///
/// Stacks lie one after the other in large blocks, and labels in a list: merging millions of samples asks for
/// memory a few times only.
#[derive(Debug, Default)]
pub(crate) struct SampleTable {
    rows: Vec<Row>,
    index: Index,
    /// Location ids, leaf first. A stack lies in one block.
    blocks: Vec<Vec<u32>>,
    /// One for each sample type and row.
    values: Vec<i64>,
    width: usize,
    labels: LabelTable,
    /// Locations and labels of all rows, counted once for each row.
    parts: Parts,
}

/// Where the stack of a row is, and the number of its labels.
#[derive(Debug, Clone, Copy)]
struct Row {
    block: u32,
    begin: u32,
    depth: u32,
    labels: u32,
}

/// What samples have more or less of.
#[derive(Debug, Clone, Copy, Default)]
struct Parts {
    locations: usize,
    labels: usize,
}

/// Location ids of a block, unless a single stack has more: 256 KiB.
const BLOCK: usize = 1 << 16;

/// Different lists of labels: many samples share one.
#[derive(Debug, Default)]
struct LabelTable {
    /// Where each list ends.
    ends: Vec<usize>,
    labels: Vec<Label>,
    index: Index,
}

impl SampleTable {
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Bytes of memory, estimated from above, at the moment when it needs most: when all has become samples.
    /// Lists may hold twice what they need; blocks are given back meanwhile.
    pub(crate) fn memory(&self) -> usize {
        const ROW: usize = 2 * size_of::<Row>() + Index::ENTRY + size_of::<Sample>();
        let values = 3 * size_of_val(self.values.as_slice());
        let locations = self.parts.locations * size_of::<u64>();
        self.len() * ROW + values + locations + self.parts.labels * size_of::<Label>() + self.labels.memory()
    }

    /// The row of a stack with these labels, which are in order.
    pub(crate) fn find(&self, stack: &[u32], labels: &[Label]) -> Option<usize> {
        let labels = self.labels.find(labels)?;
        self.find_row(self.index.hash((labels, stack)), stack, labels)
    }

    /// Adds `values` to the stack with these labels, which are in order; `width` is how many every sample has:
    /// the first one's counts.
    pub(crate) fn add(&mut self, stack: &[u32], labels: &[Label], values: &[i64], width: usize) {
        if self.rows.is_empty() {
            self.width = width;
        }
        let labels = self.labels.number(labels);
        let hash = self.index.hash((labels, stack));
        let row = match self.find_row(hash, stack, labels) {
            Some(row) => row,
            None => self.push(hash, stack, labels),
        };
        let sums = self.values.iter_mut().skip(row * self.width).take(self.width);
        for (sum, value) in sums.zip(values) {
            *sum = sum.saturating_add(*value);
        }
    }

    /// The samples in the order in which they were first seen.
    pub(crate) fn into_samples(self) -> Vec<Sample> {
        let mut samples = Vec::with_capacity(self.len());
        let push = |sample: &Sample| {
            samples.push(sample.clone());
            Ok::<(), Infallible>(())
        };
        match self.each(push) {
            Ok(()) => samples,
        }
    }

    /// Shows each sample, in the order in which they were first seen, until `visit` fails.
    pub(crate) fn each<E>(self, mut visit: impl FnMut(&Sample) -> Result<(), E>) -> Result<(), E> {
        let Self { rows, blocks, values, width, labels, index, .. } = self;
        drop(index);
        let mut sample = Sample::default();
        let mut rows = rows.iter().enumerate().peekable();
        // A block is freed when its rows have been shown.
        for (number, block) in blocks.into_iter().enumerate() {
            while let Some((at, row)) = rows.next_if(|(_, row)| row.block as usize == number) {
                sample.location_id.clear();
                sample.location_id.extend(row.stack(&block).iter().map(|id| u64::from(*id)));
                sample.value.clear();
                sample.value.extend_from_slice(values.get(at * width..(at + 1) * width).unwrap_or_default());
                sample.label.clear();
                sample.label.extend_from_slice(labels.get(row.labels));
                visit(&sample)?;
            }
        }
        Ok(())
    }

    fn find_row(&self, hash: u32, stack: &[u32], labels: u32) -> Option<usize> {
        self.index.find(hash, |number| {
            let Some(row) = self.rows.get(number) else { return false };
            let block = self.blocks.get(row.block as usize);
            row.labels == labels && block.is_some_and(|block| row.stack(block) == stack)
        })
    }

    fn push(&mut self, hash: u32, stack: &[u32], labels: u32) -> usize {
        let number = self.rows.len();
        if self.blocks.last().is_none_or(|block| block.len() + stack.len() > BLOCK) {
            self.blocks.push(Vec::new());
        }
        let block = self.blocks.len() as u32 - 1;
        let ids = self.blocks.last_mut();
        let begin = ids.map_or(0, |ids| {
            ids.extend_from_slice(stack);
            ids.len() - stack.len()
        });
        self.rows.push(Row { block, begin: begin as u32, depth: stack.len() as u32, labels });
        self.values.resize(self.values.len() + self.width, 0);
        self.parts.locations += stack.len();
        self.parts.labels += self.labels.get(labels).len();
        self.index.insert(hash, number);
        number
    }
}

impl Row {
    fn stack<'b>(&self, block: &'b [u32]) -> &'b [u32] {
        let begin = self.begin as usize;
        block.get(begin..begin + self.depth as usize).unwrap_or_default()
    }
}

impl LabelTable {
    fn memory(&self) -> usize {
        2 * size_of_val(self.labels.as_slice()) + self.ends.len() * (2 * size_of::<usize>() + Index::ENTRY)
    }

    fn get(&self, number: u32) -> &[Label] {
        let end = |number: usize| self.ends.get(number).copied().unwrap_or_default();
        let number = number as usize;
        let begin = number.checked_sub(1).map_or(0, end);
        self.labels.get(begin..end(number)).unwrap_or_default()
    }

    fn find(&self, labels: &[Label]) -> Option<u32> {
        // Mostly those of the sample before.
        let last = (self.ends.len() as u32).checked_sub(1)?;
        if self.get(last) == labels {
            return Some(last);
        }
        let found = self.index.find(self.index.hash(labels), |number| self.get(number as u32) == labels);
        found.map(|number| number as u32)
    }

    fn number(&mut self, labels: &[Label]) -> u32 {
        if let Some(number) = self.find(labels) {
            return number;
        }
        let number = self.ends.len();
        self.labels.extend_from_slice(labels);
        self.ends.push(self.labels.len());
        self.index.insert(self.index.hash(labels), number);
        number as u32
    }
}

/// The order of labels within a sample.
pub(crate) fn sort_labels(labels: &mut [Label]) {
    labels.sort_unstable_by_key(|label| (label.key, label.str, label.num, label.num_unit));
}
