//! Is every value counted once, as self or as pruned, however little of the tree is shown?

use proptest::prelude::*;

use super::*;
use crate::basis::Basis;
use crate::builder::{BuilderLimits, Frame, ProfileBuilder};
use crate::kind::ProfileKind;
use crate::testing::{cpu, profiles};
use crate::text::MAX_NAME;
use crate::view::total;

const ALL: usize = usize::MAX;

fn tree(profile: &Profile) -> CallTree {
    CallTree::of(profile, 0, TreeLimits::default())
}

/// The totals of all rows, as a reader computes them: from the last row on, each is added to its parent.
fn totals(columns: &Columns, side: &SideColumns) -> Vec<i64> {
    let mut totals: Vec<i64> = side.own.iter().zip(&side.pruned).map(|(own, pruned)| own + pruned).collect();
    for at in (1..totals.len()).rev() {
        let parent = (0..at).rev().find(|above| columns.depth[*above] < columns.depth[at]).expect("a parent");
        totals[parent] += totals[at];
    }
    totals
}

/// One line a row: the name as deep as it lies, self, and what was pruned.
fn shape(columns: &Columns) -> Vec<String> {
    (0..columns.depth.len())
        .map(|at| {
            let dots = ".".repeat(columns.depth[at] as usize);
            let name = &columns.names[columns.name[at] as usize];
            match columns.after.pruned[at] {
                0 => format!("{dots}{name} {}", columns.after.own[at]),
                pruned => format!("{dots}{name} {} pruned {pruned}", columns.after.own[at]),
            }
        })
        .collect()
}

/// The way to each row from the root, as ranks among the children.
fn paths(columns: &Columns) -> Vec<Vec<usize>> {
    let mut paths: Vec<Vec<usize>> = Vec::new();
    let mut children: Vec<usize> = vec![0];
    let mut way = Vec::new();
    for depth in columns.depth.iter().map(|depth| *depth as usize) {
        children.truncate(depth + 1);
        way.truncate(depth.saturating_sub(1));
        if depth > 0 {
            way.push(children[depth]);
            children[depth] += 1;
        }
        children.push(0);
        paths.push(way.clone());
    }
    paths
}

/// Name and file of a row.
fn function(columns: &Columns, at: usize) -> (&str, &str) {
    let name = columns.name[at] as usize;
    (&columns.names[name], &columns.files[name])
}

fn two(base: &Profile, after: &Profile) -> CallTree {
    let mut grower = Grower::new(TreeLimits::default());
    grower.add(Side::Base, base, 0, Some(1_000_000_000));
    grower.add(Side::After, after, 0, Some(1_000_000_000));
    grower.finish()
}

#[test]
fn children_follow_their_parent_the_heaviest_first() {
    let profile = cpu(&[(&["b", "main"], 2), (&["c", "main"], 5), (&["main"], 1), (&["b"], 2)]);
    let columns = tree(&profile).columns(ALL, None);
    assert_eq!(shape(&columns), ["total 0", ".main 1", "..c 5", "..b 2", ".b 2"]);
    assert_eq!(columns.files[columns.name[1] as usize], "main.rs");
    assert_eq!((columns.after.total, columns.after.samples, columns.pruned_nodes), (10, Some(10), 0));
}

#[test]
fn what_is_left_out_is_pruned_where_it_was_called_and_never_self() {
    let profile = cpu(&[(&["x", "small", "main"], 1), (&["y", "main"], 2), (&["big", "main"], 97)]);
    let columns = tree(&profile).columns(3, None);
    assert_eq!(shape(&columns), ["total 0", ".main 0 pruned 3", "..big 97"]);
    assert_eq!((columns.nodes, columns.pruned_nodes, columns.after.pruned_value), (6, 3, 3));
    assert_eq!(shape(&tree(&profile).columns(0, None)), ["total 0 pruned 100"], "at least the root");
}

#[test]
fn what_lies_too_deep_is_pruned() {
    let limits = BuilderLimits { depth: 10_000, ..Default::default() };
    let mut builder = ProfileBuilder::with_limits(ProfileKind::Cpu, 1, 0, limits);
    let frames = vec![Frame::named("f", "", 1); 3 * MAX_DEPTH];
    builder.add_hits(&frames, 1, &[]).expect("a sample");
    builder.add_hits(&frames[..MAX_DEPTH], 5, &[]).expect("a sample");
    let columns = tree(&builder.finish(1, &[])).columns(ALL, None);
    assert_eq!((columns.depth.len(), columns.depth[MAX_DEPTH]), (MAX_DEPTH + 1, 512));
    assert_eq!((columns.after.own[MAX_DEPTH], columns.after.pruned[MAX_DEPTH]), (5, 1));
}

#[test]
fn the_heaviest_stacks_get_the_nodes() {
    let profile = cpu(&[(&["x", "light"], 1), (&["y", "heavy"], 9), (&["z", "light"], 2)]);
    let limits = TreeLimits { nodes: 4, ..TreeLimits::default() };
    let columns = CallTree::of(&profile, 0, limits).columns(ALL, None);
    assert_eq!(shape(&columns), ["total 0", ".heavy 0", "..y 9", ".light 0 pruned 3"]);
    let limits = TreeLimits { steps: 2, ..TreeLimits::default() };
    let columns = CallTree::of(&profile, 0, limits).columns(ALL, None);
    assert_eq!(shape(&columns), ["total 0 pruned 3", ".heavy 0", "..y 9"]);
}

#[test]
fn a_sample_without_a_stack_is_a_node() {
    let mut builder = ProfileBuilder::new(ProfileKind::Cpu, 1, 0);
    builder.add_hits(&[], 4, &[]).expect("a sample");
    assert_eq!(shape(&tree(&builder.finish(1, &[])).columns(ALL, None)), ["total 0", ".[no stack] 4"]);
}

#[test]
fn names_are_cut_but_not_changed() {
    let html = "</script><img src=x onerror=alert(1)>";
    let long = "x".repeat(100_000);
    let columns = tree(&cpu(&[(&[html], 2), (&[&long], 1)])).columns(ALL, None);
    assert_eq!(columns.names[1], html);
    assert_eq!(columns.names[2].chars().count(), MAX_NAME);
}

#[test]
fn a_comparison_has_the_nodes_of_both_and_marks_noise() {
    let base = cpu(&[(&["a", "main"], 50), (&["gone", "main"], 20)]);
    let after = cpu(&[(&["a", "main"], 52), (&["new", "main"], 30)]);
    let columns = two(&base, &after).columns(ALL, Some(Basis::PerPodSecond));
    let names: Vec<&str> = columns.name.iter().map(|name| columns.names[*name as usize].as_str()).collect();
    assert_eq!(names, ["total", "main", "a", "new", "gone"]);
    let before = columns.base.as_ref().expect("a base");
    assert_eq!((&columns.after.own, &before.own), (&vec![0, 0, 52, 30, 0], &vec![0, 0, 50, 0, 20]));
    let noise: Vec<bool> = columns.noise.iter().flatten().flatten().copied().collect();
    assert_eq!(noise, [true, true, true, false, false]);
    let json = serde_json::to_value(&columns).expect("json");
    assert_eq!((&json["self"][2], &json["base"]["self"][2]), (&52.into(), &50.into()));
    assert_eq!(json["basis"], "perPodSecond");
}

#[test]
fn a_path_that_leads_nowhere_is_none() {
    let profile = cpu(&[(&["b", "main"], 2)]);
    assert!(tree(&profile).at(&[0, 1]).is_none());
    assert!(tree(&profile).at(&[0, 0, 0]).is_none());
    let part = tree(&profile).at(&[0, 0]).expect("b");
    assert_eq!(
        (shape(&part.columns(ALL, None)), part.above),
        (vec!["b 2".to_owned()], vec!["total".into(), "main".into()])
    );
}

proptest! {
    #[test]
    fn self_and_pruned_add_up_to_the_total(profile in profiles(), nodes in 1..30_usize, most in 1..30_usize) {
        let tree = CallTree::of(&profile, 0, TreeLimits { nodes, ..TreeLimits::default() });
        prop_assert!(tree.len() <= nodes);
        let columns = tree.columns(most, None);
        prop_assert!(columns.depth.len() <= most.min(nodes));
        prop_assert_eq!(columns.depth.len() + columns.pruned_nodes, columns.nodes);
        prop_assert_eq!(totals(&columns, &columns.after)[0], total(&profile, 0));
        prop_assert_eq!(columns.after.total, total(&profile, 0));
    }

    #[test]
    fn pruning_changes_neither_totals_nor_self_nor_paths(profile in profiles(), most in 1..30_usize) {
        let tree = tree(&profile);
        let (whole, part) = (tree.columns(ALL, None), tree.columns(most, None));
        let (all, some) = (totals(&whole, &whole.after), totals(&part, &part.after));
        let places = paths(&whole);
        for (at, path) in paths(&part).iter().enumerate() {
            let place = places.iter().position(|place| place == path).expect("it is in the whole tree");
            prop_assert_eq!(function(&part, at), function(&whole, place));
            prop_assert_eq!((some[at], part.after.own[at]), (all[place], whole.after.own[place]));
        }
    }

    #[test]
    fn a_part_of_the_tree_is_what_lies_below_its_path(
        profile in profiles(), nth in any::<prop::sample::Index>(),
    ) {
        let tree = tree(&profile);
        let whole = tree.columns(ALL, None);
        let at = nth.index(whole.depth.len());
        let part = tree.clone().at(&paths(&whole)[at]).expect("a node").columns(ALL, None);
        let below = whole.depth[at + 1..].iter().take_while(|depth| **depth > whole.depth[at]).count();
        prop_assert_eq!(&part.after.own, &whole.after.own[at..=at + below]);
        prop_assert_eq!(part.depth[0], 0);
        prop_assert_eq!(part.above.len(), whole.depth[at] as usize);
        prop_assert_eq!(totals(&part, &part.after)[0], totals(&whole, &whole.after)[at]);
        prop_assert_eq!(part.after.total, whole.after.total, "shares are of the whole profile");
    }

    #[test]
    fn the_two_sides_of_a_comparison_can_be_swapped(
        base in profiles(), after in profiles(), most in 1..30_usize,
    ) {
        let forth = two(&base, &after).columns(most, Some(Basis::Share));
        let back = two(&after, &base).columns(most, Some(Basis::Share));
        prop_assert_eq!(&forth.after.own, &back.base.as_ref().expect("a base").own);
        prop_assert_eq!(&forth.base.as_ref().expect("a base").pruned, &back.after.pruned);
        prop_assert_eq!(forth.noise, back.noise);
        let same = two(&base, &base).columns(ALL, Some(Basis::Share));
        prop_assert_eq!(&same.after.own, &same.base.as_ref().expect("a base").own);
    }

    #[test]
    fn folded_text_holds_every_value(profile in profiles(), nodes in 1..30_usize) {
        let tree = CallTree::of(&profile, 0, TreeLimits { nodes, ..TreeLimits::default() });
        let text = tree.fold(usize::MAX).expect("no limit");
        let values = text.lines().map(|line| line.rsplit_once(' ').expect("a value").1.parse::<i64>());
        prop_assert_eq!(values.map(|value| value.expect("a number")).sum::<i64>(), total(&profile, 0));
    }
}
