//! What do the agent and the runtime say to each other at the diagnostics socket?
//!
//! ```text
//! message = "DOTNET_IPC_V1\0" · size of the whole (2 bytes) · set · command · 0 0 · payload
//! answer  = the same with set 255 and command 0; command 255 is a refusal with a code
//! ```
//! Numbers are little-endian; a text is the number of its UTF-16 units with the final zero, and these.

const MAGIC: &[u8; 14] = b"DOTNET_IPC_V1\0";
/// Bytes of a message before its payload.
pub const HEADER: usize = 20;
/// What the answer to a good command is.
const GOOD: (u8, u8) = (0xff, 0x00);

/// Events of compiled methods; of the maps from their machine code to their instructions, and of modules,
/// which lead to their lines. At the end of a session the runtime tells all of these unasked.
const COMPILED: u64 = 0x10 | 0x20 | 0x2_0000 | 0x8;
/// Events of the garbage collector, and of allocations at [`ALL`].
const MEMORY: u64 = 0x1;
/// Events of every level.
const ALL: u32 = 5;
/// The runtime's provider of events.
const RUNTIME: &str = "Microsoft-Windows-DotNETRuntime";
/// Its sampler: provider, what `dotnet-trace` asks of it, and the level.
const SAMPLER: &str = "Microsoft-DotNETCore-SampleProfiler";
const SAMPLES: u64 = 0xf000_0000_0000;
const INFORMATIONAL: u32 = 4;

/// A command to the runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Asks for its version, among other things.
    Describe,
    /// Begins a session: the answer is its number, and then the stream of its events. The runtime keeps at
    /// most so many megabytes of events that are not sent yet, and drops others.
    Start(Session, u32),
    /// Ends a session.
    Stop(u64),
}

/// What is in a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Session {
    /// Every method that is compiled already, at its end.
    Methods,
    /// Methods that are compiled from now on; allocations as well, where that is wanted.
    Live {
        /// Whether allocations are.
        allocations: bool,
    },
    /// The stacks of all threads that are in managed code, a thousand times a second.
    Threads,
}

impl Command {
    /// The message.
    #[must_use]
    pub fn message(self) -> Vec<u8> {
        let (set, command, payload) = match self {
            Self::Describe => (4, 4, Vec::new()),
            Self::Start(session, megabytes) => (2, 3, session.payload(megabytes)),
            Self::Stop(number) => (2, 1, number.to_le_bytes().to_vec()),
        };
        let size = u16::try_from(HEADER + payload.len()).unwrap_or(u16::MAX);
        [&MAGIC[..], &size.to_le_bytes(), &[set, command, 0, 0], &payload].concat()
    }
}

impl Session {
    fn payload(self, megabytes: u32) -> Vec<u8> {
        let (provider, keywords, level, methods_at_end) = match self {
            Self::Methods => (RUNTIME, 0, 1, 1),
            Self::Live { allocations: false } => (RUNTIME, COMPILED, ALL, 0),
            Self::Live { allocations: true } => (RUNTIME, COMPILED | MEMORY, ALL, 0),
            Self::Threads => (SAMPLER, SAMPLES, INFORMATIONAL, 0),
        };
        let mut payload = megabytes.to_le_bytes().to_vec();
        // The format nettrace, and one provider.
        payload.extend_from_slice(&1_u32.to_le_bytes());
        payload.push(methods_at_end);
        payload.extend_from_slice(&1_u32.to_le_bytes());
        payload.extend_from_slice(&keywords.to_le_bytes());
        payload.extend_from_slice(&u32::to_le_bytes(level));
        payload.extend_from_slice(&text(provider));
        payload.extend_from_slice(&text(""));
        payload
    }
}

fn text(text: &str) -> Vec<u8> {
    let units: Vec<u16> = text.encode_utf16().chain([0]).collect();
    let count = u32::try_from(units.len()).unwrap_or(u32::MAX);
    count.to_le_bytes().into_iter().chain(units.into_iter().flat_map(u16::to_le_bytes)).collect()
}

/// What an answer begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Bytes that follow.
    pub rest: usize,
    /// Whether the command was taken.
    pub is_good: bool,
}

impl Answer {
    /// Reads the first bytes of an answer; `None` where they are not those of a runtime.
    #[must_use]
    pub fn parse(header: &[u8; HEADER]) -> Option<Self> {
        let (magic, rest) = header.split_first_chunk::<14>()?;
        let [low, high, set, command, ..] = *rest else { return None };
        let rest = usize::from(u16::from_le_bytes([low, high])).checked_sub(HEADER)?;
        (magic == MAGIC).then_some(Self { rest, is_good: (set, command) == GOOD })
    }
}

/// The number of a session, in an answer to [`Command::Start`].
#[must_use]
pub fn session(payload: &[u8]) -> Option<u64> {
    payload.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

/// The code in a refusal.
#[must_use]
pub fn code(payload: &[u8]) -> u32 {
    payload.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

/// The runtime's version, such as `8.0.4`, in an answer to [`Command::Describe`]. What else is in it is not
/// looked at: the command line is before it.
#[must_use]
pub fn version(payload: &[u8]) -> Option<String> {
    // The process id, and a cookie.
    let mut rest = payload.get(8 + 16..)?;
    // Command line, system, architecture, program.
    for _ in 0..4 {
        rest = split_text(rest)?.1;
    }
    let units = split_text(rest)?.0.chunks_exact(2).map(|unit| u16::from_le_bytes([unit[0], unit[1]]));
    let text: String = char::decode_utf16(units).map_while(Result::ok).take(32).collect();
    let is_of_version = |c: &char| c.is_ascii_alphanumeric() || ".-".contains(*c);
    Some(text.chars().take_while(is_of_version).collect()).filter(|version: &String| !version.is_empty())
}

/// The UTF-16 of the next text, and what follows it.
fn split_text(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (count, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(usize::try_from(u32::from_le_bytes(*count)).ok()?.checked_mul(2)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_written_as_the_runtime_reads_them() {
        assert_eq!(Command::Describe.message(), b"DOTNET_IPC_V1\0\x14\0\x04\x04\0\0");
        let stop = Command::Stop(0x0102_0304).message();
        assert_eq!(stop, b"DOTNET_IPC_V1\0\x1c\0\x02\x01\0\0\x04\x03\x02\x01\0\0\0\0");
        let start = Command::Start(Session::Methods, 16).message();
        assert_eq!(usize::from(u16::from_le_bytes([start[14], start[15]])), start.len());
        assert_eq!(&start[16..33], b"\x02\x03\0\0\x10\0\0\0\x01\0\0\0\x01\x01\0\0\0");
        assert_eq!(&start[33..45], b"\0\0\0\0\0\0\0\0\x01\0\0\0");
        assert_eq!(&start[45..51], b"\x20\0\0\0M\0");
        let live = |allocations| Command::Start(Session::Live { allocations }, 16).message()[28..45].to_vec();
        assert_eq!(live(true), b"\0\x01\0\0\0\x39\0\x02\0\0\0\0\0\x05\0\0\0");
        assert_eq!(live(false)[5], 0x38);
    }

    #[test]
    fn an_answer_is_good_a_refusal_or_none() {
        let answer = |bytes: &[u8]| Answer::parse(bytes.try_into().unwrap());
        let good = answer(b"DOTNET_IPC_V1\0\x1c\0\xff\0\0\0");
        assert_eq!(good, Some(Answer { rest: 8, is_good: true }));
        let refused = answer(b"DOTNET_IPC_V1\0\x18\0\xff\xff\0\0");
        assert_eq!(refused, Some(Answer { rest: 4, is_good: false }));
        assert_eq!(answer(b"DOTNET_IPC_V1\0\x13\0\xff\0\0\0"), None, "shorter than its header");
        assert_eq!(answer(b"HTTP/1.1 400 Bad Req"), None);
        assert_eq!((session(b"\x01\0\0\0\0\0\0\0"), session(b"\x01")), (Some(1), None));
        assert_eq!((code(b"\x85\x13\x13\x80"), code(b"")), (0x8013_1385, 0));
    }

    #[test]
    fn the_version_follows_four_other_texts() {
        let texts = |texts: &[&str]| -> Vec<u8> {
            [0; 24].into_iter().chain(texts.iter().flat_map(|t| text(t))).collect()
        };
        let whole = texts(&["dotnet app.dll --password=x", "Linux", "x64", "app", "8.0.4"]);
        assert_eq!(version(&whole).as_deref(), Some("8.0.4"));
        let odd = texts(&["", "", "", "", "9.0.0-rc.1\u{1b}[31m"]);
        assert_eq!(version(&odd).as_deref(), Some("9.0.0-rc.1"));
        assert_eq!(version(&texts(&["", "", "", "", ""])), None);
        for cut in 0..whole.len() {
            assert_eq!(version(&whole[..cut]), None);
        }
        assert_eq!(version(&[0xff; 64]), None);
    }
}
