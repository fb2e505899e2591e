//! How does an answer travel? Compressed, where that pays and the client unpacks it.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::views::Rendered;

/// Answers of fewer bytes fit into a packet or two anyway.
const WORTH_IT: usize = 2 << 10;

/// An answer as it travels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Packed {
    /// The answer; its body may be compressed.
    pub(super) rendered: Rendered,
    /// Whether it is.
    pub(super) gzip: bool,
}

/// Compresses an answer for clients that take `gzip`. Files are left as they are: profiles are compressed
/// already.
pub(super) fn pack(rendered: Rendered, gzip: bool) -> Packed {
    if !gzip || rendered.extension.is_some() || rendered.body.len() < WORTH_IT {
        return Packed { rendered, gzip: false };
    }
    let mut packed = GzEncoder::new(Vec::with_capacity(rendered.body.len() / 4), Compression::fast());
    match packed.write_all(&rendered.body).and_then(|()| packed.finish()) {
        Ok(body) => Packed { rendered: Rendered { body: body.into(), ..rendered }, gzip: true },
        // Writing to memory does not fail.
        Err(_) => Packed { rendered, gzip: false },
    }
}
