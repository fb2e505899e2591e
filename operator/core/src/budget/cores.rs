//! How many scheduled and triggered captures may run on a node, where the administrator sets no number?

/// What is set aside for one capture, in thousandths of a core. `docs/figures.md` measures up to 2.2 % of a core at
/// the default 99 Hz; programs with many threads or higher frequencies cost more.
const CAPTURE: i64 = 100;

/// Most of a node's CPU that captures may use which nobody is waiting for, in percent.
const SHARE: i64 = 10;

/// The limit of a node whose cores are not known: that of a small node with two cores.
const UNKNOWN: usize = 2;

/// Most scheduled and triggered captures at a time on a node with so much allocatable CPU, in thousandths of
/// a core: as many as use a tenth of it, which is one a core. At least 1; 2 for a node that is not known.
#[must_use]
pub fn per_node(cpu: Option<i64>) -> usize {
    let fits = |cpu: i64| usize::try_from(cpu.saturating_mul(SHARE) / (100 * CAPTURE)).unwrap_or(0).max(1);
    cpu.map_or(UNKNOWN, fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_has_as_many_captures_as_cores_and_never_none() {
        let cases = [
            (None, 2),
            (Some(-5), 1),
            (Some(0), 1),
            (Some(500), 1),
            (Some(1930), 1),
            (Some(2000), 2),
            (Some(3920), 3),
            (Some(64_000), 64),
            (Some(i64::MAX), usize::try_from(i64::MAX / 10_000).unwrap()),
        ];
        for (cpu, wanted) in cases {
            assert_eq!(per_node(cpu), wanted, "{cpu:?}");
        }
    }
}
