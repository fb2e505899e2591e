//! What was added between two profiles of one process whose counts only grow?

use std::collections::HashMap;

use crate::proto::{Label, Profile, Sample};
use crate::view::View;

/// A stack by its addresses, and the numbers among its labels: Go tells apart allocations of different sizes.
type Key = (Vec<u64>, Vec<i64>);

/// `after` without what `before` holds already. Stacks are told by their addresses, which stay the same in
/// one process; where counts have shrunk, nothing was added. Samples that are all 0 go away.
#[must_use]
pub fn growth(before: &Profile, mut after: Profile) -> Profile {
    let mut known: HashMap<Key, Vec<i64>> = HashMap::new();
    let view = View::new(before);
    for sample in &before.sample {
        let values = known.entry(key(&view, sample)).or_default();
        values.resize(values.len().max(sample.value.len()), 0);
        for (sum, value) in values.iter_mut().zip(&sample.value) {
            *sum = sum.saturating_add(*value);
        }
    }
    let keys: Vec<Key> = {
        let view = View::new(&after);
        after.sample.iter().map(|sample| key(&view, sample)).collect()
    };
    for (sample, key) in after.sample.iter_mut().zip(keys) {
        let Some(known) = known.get_mut(&key) else { continue };
        for (value, known) in sample.value.iter_mut().zip(known) {
            // A stack can stand in several samples: what one of them takes is not taken from the next.
            let taken = (*value).min(*known).max(0);
            *value = value.saturating_sub(taken);
            *known = known.saturating_sub(taken);
        }
    }
    after.sample.retain(|sample| sample.value.iter().any(|value| *value > 0));
    after
}

fn key(view: &View<'_>, sample: &Sample) -> Key {
    let address = |id: &u64| {
        let location = view.location_position(*id).and_then(|at| view.profile.location.get(at));
        location.map_or(0, |location| location.address)
    };
    let number = |label: &Label| (label.str == 0).then_some(label.num);
    (sample.location_id.iter().map(address).collect(), sample.label.iter().filter_map(number).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builder::{Frame, Label as BuiltLabel};
    use crate::{ProfileBuilder, ProfileKind, total};

    /// Samples of a stack at an address, of a size: count and bytes.
    fn profile(samples: &[(u64, i64, i64, i64)]) -> Profile {
        let mut builder = ProfileBuilder::new(ProfileKind::Alloc, 1, 0);
        // Other names first, so that the ids of locations differ between profiles.
        for n in 0..samples.len() {
            builder.location(&Frame::named("other", "", n as i64));
        }
        for (address, size, count, bytes) in samples {
            let frame = Frame::named("f", "f.go", 1).at(*address, None);
            builder.add(&[frame], &[*count, *bytes], &[BuiltLabel::number("bytes", *size, "bytes")]).unwrap();
        }
        builder.finish(1, &[])
    }

    fn grown(before: &[(u64, i64, i64, i64)], after: &[(u64, i64, i64, i64)]) -> Vec<(i64, i64)> {
        let grown = growth(&profile(before), profile(after));
        grown.sample.iter().map(|sample| (sample.value[0], sample.value[1])).collect()
    }

    #[test]
    fn what_was_there_before_is_taken_off_stack_by_stack_and_size_by_size() {
        let before = [(0x10, 8, 5, 40), (0x20, 8, 1, 8), (0x30, 8, 9, 72)];
        let after = [(0x10, 8, 7, 56), (0x20, 8, 1, 8), (0x20, 16, 2, 32), (0x30, 8, 4, 32), (0x40, 8, 1, 8)];
        assert_eq!(grown(&before, &after), [(2, 16), (2, 32), (1, 8)]);
        assert_eq!(grown(&[], &after).len(), after.len());
        assert_eq!(grown(&after, &after), []);
    }

    #[test]
    fn a_stack_in_several_samples_is_taken_off_once() {
        let mut after = profile(&[(0x10, 8, 7, 56)]);
        after.sample.push(after.sample[0].clone());
        let grown = growth(&profile(&[(0x10, 8, 10, 80)]), after);
        assert_eq!((total(&grown, 0), total(&grown, 1)), (4, 32));
    }

    #[test]
    fn profiles_of_different_things_are_read_to_an_end() {
        let mut strange = profile(&[(0x10, 8, 7, 56)]);
        strange.sample[0].value = vec![i64::MIN];
        strange.sample[0].location_id = vec![0, 99];
        let _any = growth(&strange, profile(&[(0x10, 8, 7, 56)]));
        let _any = growth(&profile(&[(0x10, 8, 7, 56)]), strange);
    }
}
