//! How are profiles encoded, and untrusted bytes decoded?

mod usual;
mod wire;

use std::io::{self, BufWriter, Read, Write};

use flate2::Compression;
use flate2::bufread::GzDecoder;
use flate2::write::GzEncoder;
use prost::Message;

use crate::proto::Profile;
use crate::validate::{Invalid, validate};

/// Limits of [`decode`], which never allocates beyond them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes as received.
    pub compressed_bytes: usize,
    /// Bytes after decompression.
    pub uncompressed_bytes: usize,
    /// Samples.
    pub samples: usize,
    /// Entries of the string table.
    pub strings: usize,
    /// Bytes of one string.
    pub string_length: usize,
    /// Mappings, locations, lines and functions together.
    pub entries: usize,
    /// Locations, values or labels of one sample, and lines of one location.
    pub list_length: usize,
    /// Bytes of memory of the decoded profile, estimated from above.
    pub memory_bytes: usize,
}

impl Default for Limits {
    /// Limits for a slice of 10–15 s: 8 MiB compressed, 32 MiB uncompressed, 100 000 samples.
    fn default() -> Self {
        Self {
            compressed_bytes: 8 << 20,
            uncompressed_bytes: 32 << 20,
            samples: 100_000,
            strings: 500_000,
            string_length: 16 << 10,
            entries: 1_000_000,
            list_length: 4_096,
            memory_bytes: 256 << 20,
        }
    }
}

/// Why bytes were not accepted as a profile.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// A limit is exceeded.
    #[error("the profile has {have} {what}, the limit is {most}: send shorter slices")]
    TooMany {
        /// The exceeded quantity.
        what: &'static str,
        /// The count at which the limit was exceeded.
        have: usize,
        /// The limit.
        most: usize,
    },
    /// Invalid gzip.
    #[error("the profile's gzip data is broken ({0}): send one complete gzip stream")]
    Gzip(#[source] io::Error),
    /// Data after the end of the gzip stream.
    #[error("{0} bytes follow the profile's gzip stream: send one gzip stream alone")]
    Trailing(usize),
    /// Invalid protobuf structure.
    #[error("the profile is not a protobuf message: a field is truncated or of an unknown wire type")]
    Malformed,
    /// Invalid protobuf content.
    #[error("the profile is not a pprof message ({0}): write it as perftools.profiles.Profile")]
    Protobuf(#[from] prost::DecodeError),
    /// A rule of the format is violated.
    #[error("the profile breaks a rule of pprof: {0}")]
    Invalid(#[from] Invalid),
}

impl DecodeError {
    pub(crate) fn too_many(what: &'static str, have: usize, most: usize) -> Self {
        Self::TooMany { what, have, most }
    }

    /// Whether a limit was exceeded (HTTP 413) rather than the content invalid (HTTP 400).
    pub fn is_too_large(&self) -> bool {
        matches!(self, Self::TooMany { .. })
    }
}

/// Why a profile could not be written.
#[derive(Debug, thiserror::Error)]
#[error("the profile could not be compressed: {0}")]
pub struct EncodeError(#[from] io::Error);

/// The profile as gzipped protobuf; equal profiles give equal bytes (no time stamp in the header).
///
/// # Errors Only if the compressor fails, which cannot happen in memory.
pub fn encode(profile: &Profile) -> Result<Vec<u8>, EncodeError> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    write_message(profile, &mut gzip)?;
    Ok(gzip.finish()?)
}

/// Writes a profile as a message piece by piece: the whole is never in memory beside the profile.
fn write_message(profile: &Profile, out: &mut impl Write) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(64 << 10, out);
    write_parts(1, &profile.sample_type, &mut out)?;
    write_parts(2, &profile.sample, &mut out)?;
    write_parts(3, &profile.mapping, &mut out)?;
    write_parts(4, &profile.location, &mut out)?;
    write_parts(5, &profile.function, &mut out)?;
    let mut length = Vec::new();
    for text in &profile.string_table {
        length.clear();
        length.push(PART | 6 << 3);
        prost::encode_length_delimiter(text.len(), &mut length)?;
        out.write_all(&length)?;
        out.write_all(text.as_bytes())?;
    }
    let rest = Profile {
        sample_type: Vec::new(),
        sample: Vec::new(),
        mapping: Vec::new(),
        location: Vec::new(),
        function: Vec::new(),
        string_table: Vec::new(),
        comment: profile.comment.clone(),
        ..*profile
    };
    out.write_all(&rest.encode_to_vec())?;
    out.flush()
}

/// The wire type of what has a length.
const PART: u8 = 2;

/// Writes each message of a list as field `number` of the profile.
fn write_parts<M: Message>(number: u8, parts: &[M], out: &mut impl Write) -> io::Result<()> {
    let mut part = Vec::new();
    for message in parts {
        part.clear();
        part.push(PART | number << 3);
        message.encode_length_delimited(&mut part)?;
        out.write_all(&part)?;
    }
    Ok(())
}

/// Reads a gzipped (or plain) pprof message within `limits`.
///
/// The result has the right shape but is not checked: call [`validate`], or [`decode_valid`] for both.
///
/// # Errors A limit is exceeded, or the bytes are invalid; see [`DecodeError::is_too_large`].
pub fn decode(bytes: &[u8], limits: &Limits) -> Result<Profile, DecodeError> {
    if bytes.len() > limits.compressed_bytes {
        let most = limits.compressed_bytes;
        return Err(DecodeError::too_many("compressed bytes", bytes.len(), most));
    }
    if bytes.starts_with(&[0x1f, 0x8b]) {
        return decode_message(&gunzip(bytes, limits.uncompressed_bytes)?, limits);
    }
    decode_message(bytes, limits)
}

/// [`decode`] and [`validate`], for untrusted bytes.
///
/// # Errors
/// As both.
pub fn decode_valid(bytes: &[u8], limits: &Limits) -> Result<Profile, DecodeError> {
    let profile = decode(bytes, limits)?;
    validate(&profile)?;
    Ok(profile)
}

fn decode_message(message: &[u8], limits: &Limits) -> Result<Profile, DecodeError> {
    if message.len() > limits.uncompressed_bytes {
        let most = limits.uncompressed_bytes;
        return Err(DecodeError::too_many("uncompressed bytes", message.len(), most));
    }
    let measure = wire::measure(message, limits)?;
    match usual::decode(message, &measure) {
        Some(profile) => Ok(profile),
        None => Ok(Profile::decode(message)?),
    }
}

fn gunzip(bytes: &[u8], most: usize) -> Result<Vec<u8>, DecodeError> {
    let mut message = Vec::new();
    let mut gzip = GzDecoder::new(bytes);
    gzip.by_ref().take(most as u64 + 1).read_to_end(&mut message).map_err(DecodeError::Gzip)?;
    if message.len() > most {
        return Err(DecodeError::too_many("uncompressed bytes", message.len(), most));
    }
    match gzip.into_inner().len() {
        0 => Ok(message),
        trailing => Err(DecodeError::Trailing(trailing)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::labels::set_labels;
    use crate::testing::profiles;

    proptest! {
        #[test]
        fn pieces_together_are_the_whole_message(profile in profiles(), numbers in any::<[i64; 4]>()) {
            let mut profile = profile;
            set_labels(&mut profile, &[("pod", &"a text of more than 127 bytes".repeat(9))]);
            let [drop_frames, keep_frames, doc_url, remark] = numbers;
            profile.comment.push(remark);
            let profile = Profile { drop_frames, keep_frames, doc_url, ..profile };
            let mut message = Vec::new();
            write_message(&profile, &mut message).expect("memory takes bytes");
            prop_assert_eq!(message, profile.encode_to_vec());
        }
    }
}
