//! How much of a request's body is read, and for how long?

use std::time::Duration;

use axum::body::{Body, HttpBody};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;

use super::refuse::Refusal;

/// Memory that is taken before the first byte has come, whatever length is announced.
const FIRST: usize = 16 * 1024;

/// Reads a body of at most `most` bytes that arrives within `patience`. An announced length that is too large is
/// refused before anything is read.
pub(super) async fn read(what: &str, body: Body, most: usize, patience: Duration) -> Result<Bytes, Refusal> {
    if body.size_hint().lower() > most as u64 {
        return Err(Refusal::too_large(what, most));
    }
    tokio::time::timeout(patience, collect(what, body, most)).await.map_err(|_| Refusal::too_slow(what))?
}

async fn collect(what: &str, mut body: Body, most: usize) -> Result<Bytes, Refusal> {
    let mut read = BytesMut::with_capacity(FIRST.min(most));
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Refusal::malformed(format!("The {what} broke off.")))?;
        let Some(data) = frame.data_ref() else { continue };
        if read.len() + data.len() > most {
            return Err(Refusal::too_large(what, most));
        }
        read.extend_from_slice(data);
    }
    Ok(read.freeze())
}
