//! How are profiles encoded, and untrusted bytes decoded?

mod usual;
mod wire;

use std::io::{self, BufWriter, Read, Write};

use flate2::Compression;
use flate2::bufread::GzDecoder;
use flate2::write::GzEncoder;
use prost::Message;

use crate::proto::{Profile, Sample};
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
    encode_with(profile, |write| profile.sample.iter().try_for_each(write))
}

/// The same with samples that need not be in memory together: `samples` gives each to a writer. Those of
/// `profile` do not count.
pub(crate) fn encode_with(
    profile: &Profile,
    samples: impl FnOnce(WriteSample<'_>) -> io::Result<()>,
) -> Result<Vec<u8>, EncodeError> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    write_message(profile, samples, &mut gzip)?;
    Ok(gzip.finish()?)
}

/// Takes one sample after the other.
pub(crate) type WriteSample<'w> = &'w mut dyn FnMut(&Sample) -> io::Result<()>;

/// Writes a profile as a message piece by piece: the whole is never in memory beside the profile.
fn write_message(
    profile: &Profile,
    samples: impl FnOnce(WriteSample<'_>) -> io::Result<()>,
    out: &mut impl Write,
) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(64 << 10, out);
    let mut part = Vec::new();
    write_parts(1, &profile.sample_type, &mut out)?;
    let mut buffers = Buffers::default();
    samples(&mut |sample| out.write_all(buffers.fill(sample)?))?;
    write_parts(3, &profile.mapping, &mut out)?;
    write_parts(4, &profile.location, &mut out)?;
    write_parts(5, &profile.function, &mut out)?;
    for text in &profile.string_table {
        part.clear();
        part.push(PART | 6 << 3);
        prost::encode_length_delimiter(text.len(), &mut part)?;
        part.extend_from_slice(text.as_bytes());
        out.write_all(&part)?;
    }
    out.write_all(&without_lists(profile).encode_to_vec())?;
    out.flush()
}

/// What the fields after the lists say.
fn without_lists(profile: &Profile) -> Profile {
    Profile {
        sample_type: Vec::new(),
        sample: Vec::new(),
        mapping: Vec::new(),
        location: Vec::new(),
        function: Vec::new(),
        string_table: Vec::new(),
        comment: profile.comment.clone(),
        ..*profile
    }
}

/// The wire type of what has a length.
const PART: u8 = 2;

/// The bytes of one sample, which is by far the most frequent message: each list is walked over once.
#[derive(Default)]
struct Buffers {
    part: Vec<u8>,
    body: Vec<u8>,
    list: Vec<u8>,
}

impl Buffers {
    /// The sample as field 2 of the profile, as prost writes it.
    fn fill(&mut self, sample: &Sample) -> io::Result<&[u8]> {
        self.body.clear();
        self.put_list(1, sample.location_id.iter().copied());
        self.put_list(2, sample.value.iter().map(|value| *value as u64));
        for label in &sample.label {
            self.body.push(PART | 3 << 3);
            label.encode_length_delimited(&mut self.body)?;
        }
        self.part.clear();
        self.part.push(PART | 2 << 3);
        put_varint(self.body.len() as u64, &mut self.part);
        self.part.extend_from_slice(&self.body);
        Ok(&self.part)
    }

    /// Puts a packed list into the body.
    fn put_list(&mut self, number: u8, values: impl Iterator<Item = u64>) {
        self.list.clear();
        values.for_each(|value| put_varint(value, &mut self.list));
        if !self.list.is_empty() {
            self.body.push(PART | number << 3);
            put_varint(self.list.len() as u64, &mut self.body);
            self.body.extend_from_slice(&self.list);
        }
    }
}

fn put_varint(mut value: u64, bytes: &mut Vec<u8>) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

/// Writes each message of a list as field `number` of the profile.
fn write_parts<M: Message>(number: u8, parts: &[M], out: &mut impl Write) -> io::Result<()> {
    let mut buffer = Vec::new();
    parts.iter().try_for_each(|part| write_part(number, part, &mut buffer, out))
}

/// Writes a message as field `number` of the profile, by way of a buffer.
fn write_part<M: Message>(
    number: u8,
    part: &M,
    buffer: &mut Vec<u8>,
    out: &mut impl Write,
) -> io::Result<()> {
    buffer.clear();
    buffer.push(PART | number << 3);
    part.encode_length_delimited(buffer)?;
    out.write_all(buffer)
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
        fn pieces_together_are_the_whole_message(
            profile in profiles(),
            numbers in any::<[i64; 4]>(),
            ids in proptest::collection::vec(any::<u64>(), 0..200),
        ) {
            let mut profile = profile;
            set_labels(&mut profile, &[("pod", &"a text of more than 127 bytes".repeat(9))]);
            let [drop_frames, keep_frames, doc_url, remark] = numbers;
            profile.comment.push(remark);
            profile.sample.push(Sample { location_id: ids, value: numbers.to_vec(), label: Vec::new() });
            let profile = Profile { drop_frames, keep_frames, doc_url, ..profile };
            let mut message = Vec::new();
            let samples = |write: WriteSample<'_>| profile.sample.iter().try_for_each(write);
            write_message(&profile, samples, &mut message).expect("memory takes bytes");
            prop_assert_eq!(message, profile.encode_to_vec());
        }
    }
}
