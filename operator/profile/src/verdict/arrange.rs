//! In which ways could the units have been new ones?

use super::numbers::{Random, combinations};

/// Units that are exchanged with each other only, and how many of them are new.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Block {
    /// Positions of the units.
    pub members: Vec<usize>,
    /// How many of them are new.
    pub new: usize,
}

/// How many arrangements there are, the real one included; `u64::MAX` where there are more.
pub(super) fn count(blocks: &[Block]) -> u64 {
    let of_block = |block: &Block| combinations(block.members.len(), block.new);
    blocks.iter().map(of_block).fold(1, u64::saturating_mul)
}

/// Arrangements of units, one after the other.
pub(super) struct Arrangements<'a> {
    blocks: &'a [Block],
    way: Way,
}

enum Way {
    /// Every one once; of each block the positions among its members that come next, nothing after the last.
    Every(Option<Vec<Vec<usize>>>),
    /// Some that are drawn.
    Drawn { left: usize, random: Random, pool: Vec<usize> },
}

impl<'a> Arrangements<'a> {
    /// Every arrangement, the real one among them.
    pub(super) fn every(blocks: &'a [Block]) -> Self {
        let first = blocks.iter().map(|block| (0..block.new.min(block.members.len())).collect());
        Self { blocks, way: Way::Every(Some(first.collect())) }
    }

    /// So many that are drawn, each time from all of them.
    pub(super) const fn drawn(blocks: &'a [Block], draws: usize, seed: u64) -> Self {
        Self { blocks, way: Way::Drawn { left: draws, random: Random::new(seed), pool: Vec::new() } }
    }

    /// Puts the units that are new in the next arrangement into `chosen`; `false` after the last one.
    pub(super) fn next(&mut self, chosen: &mut Vec<usize>) -> bool {
        chosen.clear();
        match &mut self.way {
            Way::Every(picks) => {
                let Some(current) = picks else { return false };
                for (block, picked) in self.blocks.iter().zip(&*current) {
                    chosen.extend(picked.iter().filter_map(|at| block.members.get(*at)));
                }
                if !advance(self.blocks, current) {
                    *picks = None;
                }
                true
            }
            Way::Drawn { left: 0, .. } => false,
            Way::Drawn { left, random, pool } => {
                *left -= 1;
                for block in self.blocks {
                    draw(block, random, pool, chosen);
                }
                true
            }
        }
    }
}

/// Adds units of a block, each set of them as likely as any other (the start of a Fisher–Yates shuffle).
fn draw(block: &Block, random: &mut Random, pool: &mut Vec<usize>, chosen: &mut Vec<usize>) {
    pool.clear();
    pool.extend_from_slice(&block.members);
    for at in 0..block.new.min(pool.len()) {
        let other = at + random.below(pool.len() - at);
        pool.swap(at, other);
    }
    chosen.extend(pool.iter().take(block.new));
}

/// Moves on to the next arrangement; `false` where there is none.
fn advance(blocks: &[Block], picks: &mut [Vec<usize>]) -> bool {
    for (block, picked) in blocks.iter().zip(picks).rev() {
        if next_combination(picked, block.members.len()) {
            return true;
        }
        for (at, pick) in picked.iter_mut().enumerate() {
            *pick = at;
        }
    }
    false
}

/// The next set of positions below `all`, in the order of words; `false` after the last.
fn next_combination(picked: &mut [usize], all: usize) -> bool {
    let size = picked.len();
    let last = |at: usize| all + at - size;
    let Some(at) = (0..size).rev().find(|at| picked.get(*at).is_some_and(|pick| *pick < last(*at))) else {
        return false;
    };
    let next = picked.get(at).map_or(0, |pick| pick + 1);
    for (pick, value) in picked.iter_mut().skip(at).zip(next..) {
        *pick = value;
    }
    true
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn block(members: std::ops::Range<usize>, new: usize) -> Block {
        Block { members: members.collect(), new }
    }

    fn all(mut arrangements: Arrangements<'_>) -> Vec<Vec<usize>> {
        let (mut found, mut chosen) = (Vec::new(), Vec::new());
        while arrangements.next(&mut chosen) {
            found.push(chosen.clone());
        }
        found
    }

    #[test]
    fn every_arrangement_comes_once() {
        for (blocks, wanted) in [
            (vec![block(0..6, 3)], 20),
            (vec![block(0..4, 1), block(4..8, 2)], 24),
            (vec![block(0..3, 3)], 1),
            (vec![block(0..3, 0)], 1),
        ] {
            let found = all(Arrangements::every(&blocks));
            assert_eq!(found.len() as u64, count(&blocks));
            assert_eq!(found.len(), wanted);
            assert_eq!(found.iter().collect::<BTreeSet<_>>().len(), wanted);
            for (at, block) in blocks.iter().enumerate() {
                let of_block =
                    |chosen: &Vec<usize>| chosen.iter().filter(|u| block.members.contains(u)).count();
                assert!(found.iter().all(|chosen| of_block(chosen) == block.new), "block {at}");
            }
        }
    }

    #[test]
    fn draws_repeat_with_their_seed_and_meet_every_arrangement_equally_often() {
        let blocks = [block(0..4, 2), block(4..6, 1)];
        let draws = all(Arrangements::drawn(&blocks, 12_000, 7));
        assert_eq!(draws, all(Arrangements::drawn(&blocks, 12_000, 7)));
        let mut often: std::collections::BTreeMap<Vec<usize>, i32> = std::collections::BTreeMap::new();
        for mut chosen in draws {
            chosen.sort_unstable();
            *often.entry(chosen).or_default() += 1;
        }
        assert_eq!(often.len(), 12);
        assert!(often.values().all(|n| (850..1_150).contains(n)), "{often:?}");
    }
}
