//! Which stacks are the same one?

use std::collections::HashMap;

use crate::proto::{Label, Sample};

/// Location ids, leaf first, and labels in order.
pub(crate) type SampleKey = (Vec<u64>, Vec<Label>);

/// Samples under construction: values of equal stacks with equal labels are added up, saturating.
#[derive(Debug, Default)]
pub(crate) struct SampleTable {
    rows: HashMap<SampleKey, usize>,
    values: Vec<Vec<i64>>,
    parts: usize,
}

impl SampleTable {
    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }

    /// Bytes of memory, estimated from above.
    pub(crate) fn memory(&self) -> usize {
        // A row is a key, its place in the map and its values; vectors and maps may hold twice what they
        // need.
        const ROW: usize = 2 * (size_of::<(SampleKey, usize)>() + size_of::<Vec<i64>>());
        self.len() * ROW + self.parts
    }

    pub(crate) fn contains(&self, key: &SampleKey) -> bool {
        self.rows.contains_key(key)
    }

    /// Adds `values` to the stack; `width` is how many every sample has.
    pub(crate) fn add(&mut self, key: SampleKey, values: &[i64], width: usize) {
        let next = self.values.len();
        let parts = size_of::<u64>() * (key.0.len() + width) + size_of::<Label>() * key.1.len();
        let row = *self.rows.entry(key).or_insert(next);
        if row == next {
            self.parts += parts;
            self.values.push(vec![0; width]);
        }
        if let Some(sums) = self.values.get_mut(row) {
            for (sum, value) in sums.iter_mut().zip(values) {
                *sum = sum.saturating_add(*value);
            }
        }
    }

    /// The samples in the order in which they were first seen.
    pub(crate) fn into_samples(self) -> Vec<Sample> {
        let mut keys: Vec<(SampleKey, usize)> = self.rows.into_iter().collect();
        keys.sort_unstable_by_key(|(_, row)| *row);
        keys.into_iter()
            .zip(self.values)
            .map(|(((location_id, label), _), value)| Sample { location_id, value, label })
            .collect()
    }
}

/// The order of labels within a sample.
pub(crate) fn sort_labels(labels: &mut [Label]) {
    labels.sort_unstable_by_key(|label| (label.key, label.str, label.num, label.num_unit));
}
