//! What are the limits of a builder, and what was truncated to meet them?

/// Bounds of one [`ProfileBuilder`](super::ProfileBuilder); anything beyond them is counted in
/// [`Truncation`], never lost silently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BuilderLimits {
    /// Different stacks (with their labels), the overflow bucket included. 16 000 is the limit of Pyroscope
    /// per profile.
    pub stacks: usize,
    /// Frames of one stack; of a deeper one the frames nearest to the leaf are kept.
    pub depth: usize,
    /// Locations in all stacks together; eight bytes each.
    pub stack_entries: usize,
    /// Functions inlined at one place; the innermost are kept.
    pub inlined: usize,
    /// Different locations, and different functions.
    pub locations: usize,
    /// Different mappings.
    pub mappings: usize,
    /// Different texts.
    pub strings: usize,
    /// Bytes of all texts together.
    pub string_bytes: usize,
    /// Bytes of one text; longer ones end in `…`.
    pub string_length: usize,
    /// Labels of one stack.
    pub labels: usize,
}

impl Default for BuilderLimits {
    /// About 64 MB at most, and a slice size that all destinations accept.
    fn default() -> Self {
        Self {
            stacks: 16_000,
            depth: 512,
            stack_entries: 1_000_000,
            inlined: 64,
            locations: 100_000,
            mappings: 4_096,
            strings: 100_000,
            string_bytes: 8 << 20,
            string_length: 4_096,
            labels: 32,
        }
    }
}

/// What a builder truncated; all zero if nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Truncation {
    /// Additions whose values went to the stack `[truncated]`.
    pub stacks: u64,
    /// Frames cut from the root end of stacks deeper than the limit, for which a frame `[truncated]` stands,
    /// and functions cut from the outer end of those inlined at one place.
    pub frames: u64,
    /// Frames named `[truncated]` because a table was full.
    pub names: u64,
    /// Texts that were shortened.
    pub texts: u64,
    /// Labels left out.
    pub labels: u64,
    /// Mappings left out.
    pub mappings: u64,
}

impl Truncation {
    /// Whether anything was truncated.
    pub fn any(&self) -> bool {
        *self != Self::default()
    }

    /// A message, or `None` if nothing was truncated.
    pub fn sentence(&self) -> Option<String> {
        self.any().then(|| {
            format!(
                "fleetprof cut this profile to its limits: {} additions went to the stack [truncated], \
                 {} frames of deep stacks, {} names, {} long texts, {} labels and {} mappings were cut.",
                self.stacks, self.frames, self.names, self.texts, self.labels, self.mappings
            )
        })
    }
}
