//! What does a profile of V8 say: of Node.js, Deno or a browser?
//!
//! ```text
//! .cpuprofile    nodes (tree by ids), samples (leaf ids), timeDeltas ─► cpu
//! .heapprofile   head (tree), samples (sizes by node)                ─► heap: what still lives · alloc: all
//! ```
//! The formats are those of `Profiler.stop` and `HeapProfiler.stopSampling` in the `DevTools` protocol, which
//! `node --cpu-prof` and `node --heap-prof` write as well.

mod cpu;
mod frame;
mod heap;
#[cfg(test)]
mod tests;

pub use cpu::read_cpu;
pub use heap::read_heap;

/// What is taken of a profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct V8Limits {
    /// Bytes of the text.
    pub bytes: usize,
    /// Nodes of the tree.
    pub nodes: usize,
    /// Depth of the tree; V8 itself cuts stacks at 255 frames.
    pub depth: usize,
    /// Samples.
    pub samples: usize,
}

impl Default for V8Limits {
    /// 100 MB of memory at most, and ten times what a slice of a large program takes.
    fn default() -> Self {
        Self { bytes: 32 << 20, nodes: 100_000, depth: 1_024, samples: 500_000 }
    }
}

impl V8Limits {
    fn check(
        format: &'static str,
        what: &'static str,
        have: usize,
        limit: usize,
    ) -> Result<(), super::ReadError> {
        if have <= limit { Ok(()) } else { Err(super::ReadError::TooLarge { format, what, have, limit }) }
    }
}
