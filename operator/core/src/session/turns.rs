//! In which order does a new leader handle the sessions that it finds? Namespaces take turns, so that none
//! waits for all the sessions of another; sessions that have not ended come first.

use std::collections::BTreeMap;

/// The same items, in turn: the first of each namespace, then the second of each, and so on; those that have
/// ended after all others. `of` gives the namespace and whether it has ended.
#[must_use]
pub fn in_turn<T>(items: Vec<T>, of: impl Fn(&T) -> (String, bool)) -> Vec<T> {
    let mut seen: BTreeMap<(bool, String), usize> = BTreeMap::new();
    let mut places: Vec<((bool, usize, String), T)> = Vec::with_capacity(items.len());
    for item in items {
        let (namespace, ended) = of(&item);
        let place = seen.entry((ended, namespace.clone())).or_default();
        places.push(((ended, *place, namespace), item));
        *place = place.saturating_add(1);
    }
    places.sort_by(|a, b| a.0.cmp(&b.0));
    places.into_iter().map(|(_, item)| item).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_namespace_has_its_turn_before_one_has_its_second() {
        let items = vec!["a1", "a2", "a3-", "a4", "b1-", "b2", "c1"];
        let of = |item: &&str| (item[..1].to_owned(), item.ends_with('-'));
        assert_eq!(in_turn(items, of), ["a1", "b2", "c1", "a2", "a4", "a3-", "b1-"]);
    }

    proptest! {
        #[test]
        fn none_is_lost_and_none_waits_for_more_than_its_share(items in prop::collection::vec((0u8..5, any::<bool>()), 0..60)) {
            let numbered: Vec<(usize, (u8, bool))> = items.into_iter().enumerate().collect();
            let turned = in_turn(numbered.clone(), |(_, (namespace, ended))| (namespace.to_string(), *ended));
            let mut sorted = turned.clone();
            sorted.sort_unstable();
            prop_assert_eq!(&sorted, &numbered);
            for (place, (_, (namespace, ended))) in turned.iter().enumerate() {
                let before = turned[..place].iter().filter(|(_, of)| of == &(*namespace, *ended)).count();
                let live = turned.iter().filter(|(_, (_, ended))| !ended).count();
                let most = (before + 1) * 5 + if *ended { live } else { 0 };
                prop_assert!(place < most, "{place} {most}");
            }
        }
    }
}
