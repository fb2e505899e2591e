//! How are messages exchanged with an inspector? A WebSocket client, as much of it as an inspector needs.
//!
//! The other end is a target and may send anything: what is read is bounded in bytes, and every wait has an
//! end. A message that has come in part stays until the rest is there, so that a wait may end at any time.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Most bytes of a message: a profile of 15 s of a large program has 2 MB.
pub const MAX_MESSAGE: usize = 32 << 20;
/// Most bytes of an answer's head.
const MAX_HEAD: usize = 8 << 10;
/// Bytes read at a time.
const CHUNK: usize = 64 << 10;
/// How long a message may take to leave: the other end reads in a thread of its own.
const SENDING: Duration = Duration::from_secs(2);
/// Any 16 bytes in base64. They keep caches from answering, and there is none between the two ends.
const KEY: &str = "ZmxlZXRwcm9mLWFnZW50LQ==";
/// The kinds of frames, from RFC 6455, section 5.2.
const CONTINUED: u8 = 0;
const TEXT: u8 = 1;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
const FINAL: u8 = 0x80;
const MASKED: u8 = 0x80;

/// A connection to an inspector.
pub struct WebSocket {
    stream: TcpStream,
    /// What came and was not taken yet.
    buffer: Vec<u8>,
    /// Pieces of a message whose last piece has not come yet.
    pieces: Vec<u8>,
    /// Most bytes of a message.
    most: usize,
}

/// A frame in a buffer: what it is, and where its payload is.
#[derive(Debug, PartialEq, Eq)]
struct Frame {
    is_final: bool,
    kind: u8,
    start: usize,
    end: usize,
}

impl WebSocket {
    /// Opens a connection at a path, by `by`; messages of more than `most` bytes are not read.
    ///
    /// # Errors
    /// Nobody answers in time, or with anything but a change of protocols.
    pub fn connect(address: SocketAddr, path: &str, most: usize, by: Instant) -> io::Result<Self> {
        let mut stream = connect(address, by)?;
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n"
        );
        stream.write_all(head.as_bytes())?;
        let (head, rest) = read_head(&mut stream, by)?;
        match head.split_ascii_whitespace().nth(1) {
            Some("101") => Ok(Self { stream, buffer: rest, pieces: Vec::new(), most }),
            status => Err(io::Error::other(format!("it answered {}", status.unwrap_or("nothing")))),
        }
    }

    /// Another handle of the connection, which ends it.
    pub fn closer(&self, last: String) -> io::Result<Closer> {
        Ok(Closer { stream: self.stream.try_clone()?, last })
    }

    /// Sends a text.
    pub fn send(&mut self, text: &str) -> io::Result<()> {
        self.stream.write_all(&frame(TEXT, text.as_bytes()))
    }

    /// The next text, or none where `by` comes first.
    ///
    /// # Errors
    /// The connection has ended, or what comes is too large or no frame.
    pub fn receive(&mut self, by: Instant) -> io::Result<Option<String>> {
        loop {
            while let Some(frame) = next_frame(&self.buffer, self.most)? {
                if let Some(text) = self.take(&frame)? {
                    return Ok(Some(text));
                }
            }
            if !fill(&mut self.stream, &mut self.buffer, by)? {
                return Ok(None);
            }
        }
    }

    /// Takes a frame out of the buffer; gives back the text that is whole with it.
    fn take(&mut self, frame: &Frame) -> io::Result<Option<String>> {
        let payload = self.buffer.get(frame.start..frame.end).unwrap_or_default().to_vec();
        self.buffer.drain(..frame.end);
        match frame.kind {
            TEXT | CONTINUED => {
                if self.pieces.len() + payload.len() > self.most {
                    return Err(too_large(self.most));
                }
                self.pieces.extend(payload);
                let whole = frame.is_final.then(|| std::mem::take(&mut self.pieces));
                whole.map(|whole| String::from_utf8(whole).map_err(io::Error::other)).transpose()
            }
            PING => self.stream.write_all(&self::frame(PONG, &payload)).map(|()| None),
            CLOSE => Err(io::Error::from(io::ErrorKind::ConnectionAborted)),
            _ => Ok(None),
        }
    }
}

/// Ends a connection with a last message.
pub struct Closer {
    stream: TcpStream,
    last: String,
}

impl Closer {
    /// Sends the last message, ends the connection, and waits until the other end has read all of it, at most
    /// until `by`.
    pub fn close(mut self, by: Instant) {
        let mut bytes = if self.last.is_empty() { Vec::new() } else { frame(TEXT, self.last.as_bytes()) };
        bytes.extend(frame(CLOSE, &[]));
        let sent = self.stream.write_all(&bytes).and_then(|()| self.stream.shutdown(Shutdown::Write));
        let mut rest = Vec::new();
        // Ended with something unread, the connection would be reset, and the last message lost.
        while sent.is_ok() && matches!(fill(&mut self.stream, &mut rest, by), Ok(true)) {
            rest.clear();
        }
    }
}

/// A connection on which writing cannot take long.
pub fn connect(address: SocketAddr, by: Instant) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, left(by).ok_or(io::ErrorKind::TimedOut)?)?;
    stream.set_write_timeout(Some(SENDING))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// The head of an answer, and what came with it of the rest.
pub fn read_head(stream: &mut TcpStream, by: Instant) -> io::Result<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let rest = bytes.split_off(end + 4);
            return Ok((String::from_utf8_lossy(&bytes).into_owned(), rest));
        }
        if bytes.len() > MAX_HEAD {
            return Err(too_large(MAX_HEAD));
        }
        if !fill(stream, &mut bytes, by)? {
            return Err(io::ErrorKind::TimedOut.into());
        }
    }
}

/// Reads what is there; false where nothing came until `by`.
///
/// # Errors
/// The connection has ended.
pub fn fill(stream: &mut TcpStream, buffer: &mut Vec<u8>, by: Instant) -> io::Result<bool> {
    let Some(left) = left(by) else { return Ok(false) };
    stream.set_read_timeout(Some(left))?;
    let mut chunk = vec![0; CHUNK];
    match stream.read(&mut chunk) {
        Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
        Ok(read) => {
            buffer.extend(chunk.get(..read).unwrap_or_default());
            Ok(true)
        }
        Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => Ok(false),
        Err(e) if e.kind() == io::ErrorKind::Interrupted => Ok(true),
        Err(e) => Err(e),
    }
}

fn left(by: Instant) -> Option<Duration> {
    Some(by.saturating_duration_since(Instant::now())).filter(|left| !left.is_zero())
}

fn too_large(most: usize) -> io::Error {
    io::Error::other(format!("it sent more than {most} bytes at once"))
}

/// A frame to send. A client has to mask its frames; a mask of zeros leaves them as they are, which harms
/// nobody where no proxy is in between.
fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![FINAL | kind];
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(short), _) if short < 126 => bytes.push(MASKED | short),
        (_, Ok(middle)) => {
            bytes.push(MASKED | 126);
            bytes.extend(middle.to_be_bytes());
        }
        _ => {
            bytes.push(MASKED | 127);
            bytes.extend((payload.len() as u64).to_be_bytes());
        }
    }
    bytes.extend([0; 4]);
    bytes.extend(payload);
    bytes
}

/// The first frame in a buffer, if all of it is there.
fn next_frame(buffer: &[u8], most: usize) -> io::Result<Option<Frame>> {
    let &[first, second, ..] = buffer else { return Ok(None) };
    if second & MASKED != 0 {
        return Err(io::Error::other("it sent a masked frame, which only clients do"));
    }
    let number = |bytes: usize| {
        let digits = buffer.get(2..2 + bytes)?;
        Some(digits.iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte)))
    };
    let (start, length) = match second {
        126 => (4, number(2)),
        127 => (10, number(8)),
        short => (2, Some(u64::from(short))),
    };
    let Some(length) = length else { return Ok(None) };
    let length = usize::try_from(length).ok().filter(|length| *length <= most);
    let length = length.ok_or_else(|| too_large(most))?;
    let frame = Frame { is_final: first & FINAL != 0, kind: first & 0x0f, start, end: start + length };
    Ok((buffer.len() >= frame.end).then_some(frame))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// A server that answers a head with these bytes and then ends.
    fn server(answer: Vec<u8>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let (head, _) = read_head(&mut stream, soon()).unwrap();
            assert!(
                head.starts_with("GET /id HTTP/1.1\r\n") && head.contains("Upgrade: websocket"),
                "{head}"
            );
            stream.write_all(&answer).unwrap();
            let _all = stream.read_to_end(&mut Vec::new());
        });
        address
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(10)
    }

    fn opened(frames: &[u8]) -> WebSocket {
        let answer = [b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n", frames].concat();
        WebSocket::connect(server(answer), "/id", MAX_MESSAGE, soon()).unwrap()
    }

    fn sent(first: u8, text: &[u8]) -> Vec<u8> {
        let mut bytes = frame(first & 0x0f, text);
        bytes[0] = first;
        bytes[1] &= !MASKED;
        let mask = bytes.len() - text.len() - 4;
        bytes.drain(mask..mask + 4);
        bytes
    }

    #[test]
    fn texts_of_all_lengths_and_in_pieces_are_read() {
        for length in [0, 1, 125, 126, 65_535, 65_536, 300_000] {
            let text = "x".repeat(length);
            let mut socket = opened(&sent(FINAL | TEXT, text.as_bytes()));
            assert_eq!(socket.receive(soon()).unwrap().as_deref(), Some(text.as_str()), "{length}");
        }
        let pieces = [sent(TEXT, b"a"), sent(FINAL | PING, b"p"), sent(CONTINUED, b"b"), sent(FINAL, b"c")];
        assert_eq!(opened(&pieces.concat()).receive(soon()).unwrap().as_deref(), Some("abc"));
    }

    #[test]
    fn what_has_come_in_part_stays_until_the_rest_is_there() {
        let whole = sent(FINAL | TEXT, b"hello");
        let mut socket = opened(&whole[..4]);
        assert!(socket.receive(Instant::now() + Duration::from_millis(50)).unwrap().is_none());
        socket.buffer.extend(&whole[4..]);
        assert_eq!(socket.receive(soon()).unwrap().as_deref(), Some("hello"));
    }

    #[test]
    fn an_end_and_what_is_no_frame_are_errors() {
        let huge = [FINAL | TEXT, 127, 0xff, 0, 0, 0, 0, 0, 0, 0];
        for (frames, wanted) in [
            (&huge[..], "more than 33554432 bytes"),
            (&[FINAL | TEXT, MASKED | 1, 0, 0][..], "masked"),
            (&sent(FINAL | CLOSE, b"")[..], "connection aborted"),
            (&sent(FINAL | TEXT, b"\xff")[..], "utf-8"),
        ] {
            let error = opened(frames).receive(soon()).unwrap_err().to_string();
            assert!(error.contains(wanted), "{error}");
        }
        let refused =
            WebSocket::connect(server(b"HTTP/1.0 400 Bad Request\r\n\r\n".to_vec()), "/id", 99, soon());
        assert!(refused.err().unwrap().to_string().contains("400"));
        let endless = WebSocket::connect(server(vec![b'x'; 100_000]), "/id", 99, soon());
        assert!(endless.is_err());
    }

    #[test]
    fn a_server_that_says_nothing_is_not_waited_for() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let by = Instant::now() + Duration::from_millis(50);
        assert!(WebSocket::connect(listener.local_addr().unwrap(), "/id", 99, by).is_err());
        assert!(by.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn any_bytes_are_a_frame_or_none() {
        let mut state = 1_u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state.to_be_bytes()
        };
        for _ in 0..100_000 {
            let bytes = [next(), next()].concat();
            let bytes = &bytes[..usize::from(bytes[1] % 17)];
            if let Ok(Some(frame)) = next_frame(bytes, 999) {
                assert!(frame.start <= frame.end && frame.end <= bytes.len(), "{bytes:?}");
            }
        }
    }
}
