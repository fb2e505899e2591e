//! How is something fetched from a server in the pod? A client for one `GET` a connection.
//!
//! The server belongs to the target, so everything is bounded: the time of all together however slowly bytes
//! drip, the bytes of the header, and those of the body. Redirects are not followed.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Most bytes of a header.
const MAX_HEADER: usize = 16 * 1024;
/// How often a reader looks whether it shall give up.
const LOOK: Duration = Duration::from_millis(100);
/// How long it may take to connect within a pod.
const CONNECT: Duration = Duration::from_secs(1);
/// Most bytes of an answer that a refusal is told by.
const MAX_SAID: usize = 160;

/// What bounds a request.
#[derive(Clone, Copy)]
pub struct Bounds<'a> {
    /// When it must be over.
    pub by: Instant,
    /// Most bytes of the body.
    pub body: usize,
    /// Whether it is to be given up.
    pub is_aborted: &'a dyn Fn() -> bool,
}

/// Why nothing was fetched.
#[derive(Debug)]
pub enum Error {
    /// The connection failed.
    Io(io::Error),
    /// It took too long.
    TimedOut,
    /// It was given up.
    Aborted,
    /// The body is too large.
    TooLarge(usize),
    /// What came is not HTTP, or is cut off.
    Malformed(&'static str),
    /// The server said something else than 200, and why.
    Status(u16, String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "the connection failed ({error})"),
            Self::TimedOut => f.write_str("the answer took too long"),
            Self::Aborted => f.write_str("the capture ended before the answer came"),
            Self::TooLarge(most) => write!(f, "the answer has more than {most} bytes"),
            Self::Malformed(what) => write!(f, "the answer is malformed: {what}"),
            Self::Status(code, said) if said.is_empty() => write!(f, "the answer is {code}"),
            Self::Status(code, said) => write!(f, "the answer is {code}: {said}"),
        }
    }
}

/// The body of what a server answers to `GET path`.
///
/// # Errors
/// Anything but a whole answer of status 200 within the bounds.
pub fn get(server: SocketAddr, path: &str, bounds: &Bounds<'_>) -> Result<Vec<u8>, Error> {
    let connect = CONNECT.min(left(bounds)?);
    let mut stream = TcpStream::connect_timeout(&server, connect).map_err(Error::Io)?;
    stream.set_read_timeout(Some(LOOK)).map_err(Error::Io)?;
    stream.set_write_timeout(Some(connect)).map_err(Error::Io)?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\nAccept-Encoding: identity\r\n\
         User-Agent: fleetprof-agent\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).map_err(Error::Io)?;
    let mut answer = Vec::new();
    let head = loop {
        if let Some(head) = parse_head(&answer)? {
            break head;
        }
        if !read_more(&mut stream, &mut answer, bounds)? {
            return Err(Error::Malformed("it ends within the header"));
        }
    };
    let is_good = head.status == 200;
    let most = if is_good { bounds.body } else { MAX_SAID };
    answer.drain(..head.length);
    let whole = match head.body {
        Body::Length(length) if is_good && length > most => return Err(Error::TooLarge(most)),
        Body::Length(length) => Some(length.min(most)),
        // The sizes of the chunks stand between them: one line for each.
        Body::Chunks | Body::UntilClose => None,
    };
    let most_read =
        if matches!(head.body, Body::Chunks) { most.saturating_mul(2).max(MAX_HEADER) } else { most };
    while whole.is_none_or(|whole| answer.len() < whole) && answer.len() <= most_read {
        if !read_more(&mut stream, &mut answer, bounds)? {
            break;
        }
    }
    finish(&head, answer, whole, most)
}

fn finish(head: &Head, answer: Vec<u8>, whole: Option<usize>, most: usize) -> Result<Vec<u8>, Error> {
    if head.status != 200 {
        return Err(Error::Status(head.status, said(&answer)));
    }
    let body = match (head.body, whole) {
        (Body::Chunks, _) => unchunk(&answer, most)?,
        (_, Some(whole)) if answer.len() < whole => return Err(Error::Malformed("it is cut off")),
        (_, Some(whole)) => answer.get(..whole).unwrap_or_default().to_vec(),
        (_, None) => answer,
    };
    if body.len() > most { Err(Error::TooLarge(most)) } else { Ok(body) }
}

/// Time that is left.
fn left(bounds: &Bounds<'_>) -> Result<Duration, Error> {
    match bounds.by.saturating_duration_since(Instant::now()) {
        Duration::ZERO => Err(Error::TimedOut),
        left => Ok(left),
    }
}

/// Reads what has come; says whether more may come.
fn read_more(stream: &mut TcpStream, into: &mut Vec<u8>, bounds: &Bounds<'_>) -> Result<bool, Error> {
    let mut chunk = [0; 16 * 1024];
    loop {
        left(bounds)?;
        if (bounds.is_aborted)() {
            return Err(Error::Aborted);
        }
        match stream.read(&mut chunk) {
            Ok(0) => return Ok(false),
            Ok(n) => {
                into.extend_from_slice(chunk.get(..n).unwrap_or_default());
                return Ok(true);
            }
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(Error::Io(e)),
        }
    }
}

/// The header of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    status: u16,
    body: Body,
    /// Bytes of the header.
    length: usize,
}

/// How the end of a body is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Body {
    Length(usize),
    Chunks,
    UntilClose,
}

/// The header, once all of it is there.
fn parse_head(bytes: &[u8]) -> Result<Option<Head>, Error> {
    let Some(end) = bytes.windows(4).take(MAX_HEADER).position(|window| window == b"\r\n\r\n") else {
        let cut = bytes.len() > MAX_HEADER;
        return if cut { Err(Error::Malformed("the header is too long")) } else { Ok(None) };
    };
    let text = String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned();
    let mut lines = text.split("\r\n");
    let status = lines.next().and_then(parse_status).ok_or(Error::Malformed("it has no status"))?;
    let mut body = Body::UntilClose;
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let value = value.trim();
        if name.eq_ignore_ascii_case("transfer-encoding") {
            body = Body::Chunks;
        } else if name.eq_ignore_ascii_case("content-length") && body != Body::Chunks {
            body = Body::Length(value.parse().map_err(|_| Error::Malformed("its length is not a number"))?);
        }
    }
    Ok(Some(Head { status, body, length: end + 4 }))
}

fn parse_status(line: &str) -> Option<u16> {
    let (version, rest) = line.split_once(' ')?;
    version.starts_with("HTTP/1.").then_some(())?;
    rest.split(' ').next()?.parse().ok().filter(|status| (100..600).contains(status))
}

/// The body without the sizes of its chunks.
fn unchunk(mut bytes: &[u8], most: usize) -> Result<Vec<u8>, Error> {
    let mut body = Vec::new();
    loop {
        let line = bytes.windows(2).take(64).position(|window| window == b"\r\n");
        let line = line.and_then(|end| Some((std::str::from_utf8(bytes.get(..end)?).ok()?, end + 2)));
        let (size, after) = line.ok_or(Error::Malformed("a chunk is cut off"))?;
        let size = size.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(size, 16).map_err(|_| Error::Malformed("a chunk has no size"))?;
        if size == 0 {
            return Ok(body);
        }
        let end = after.checked_add(size).ok_or(Error::Malformed("a chunk is too long"))?;
        if body.len().saturating_add(size) > most {
            return Err(Error::TooLarge(most));
        }
        body.extend_from_slice(bytes.get(after..end).ok_or(Error::Malformed("a chunk is cut off"))?);
        bytes = bytes.get(end.saturating_add(2)..).ok_or(Error::Malformed("a chunk is cut off"))?;
    }
}

/// The first line of what a server says of its refusal, without what could fool a terminal.
fn said(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body.get(..MAX_SAID).unwrap_or(body)).into_owned();
    text.lines().next().unwrap_or_default().chars().filter(|c| !c.is_control() && *c != '\u{fffd}').collect()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// What comes of an answer that a server writes in these parts, with a pause after each.
    fn answered(parts: Vec<Vec<u8>>, pause: Duration, body: usize, time: Duration) -> Result<Vec<u8>, Error> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = listener.local_addr().unwrap();
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 512];
            let n = stream.read(&mut request).unwrap();
            for part in parts {
                if stream.write_all(&part).is_err() {
                    break;
                }
                std::thread::sleep(pause);
            }
            String::from_utf8_lossy(&request[..n]).into_owned()
        });
        let bounds = Bounds { by: Instant::now() + time, body, is_aborted: &|| false };
        let got = get(server, "/debug/pprof/heap", &bounds);
        let request = thread.join().unwrap();
        assert!(request.starts_with("GET /debug/pprof/heap HTTP/1.1\r\nHost: 127.0.0.1:"), "{request}");
        got
    }

    fn whole(answer: &[u8]) -> Result<Vec<u8>, Error> {
        answered(vec![answer.to_vec()], Duration::ZERO, 100, Duration::from_secs(10))
    }

    #[test]
    fn a_body_ends_where_its_length_its_chunks_or_the_connection_end() {
        let good: [&[u8]; 4] = [
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
            b"HTTP/1.0 200 OK\r\n\r\nhello",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        ];
        for answer in good {
            assert_eq!(whole(answer).unwrap(), b"hello", "{}", String::from_utf8_lossy(answer));
        }
    }

    #[test]
    fn refusals_garbage_and_cut_answers_are_told_apart() {
        let cases: [(&[u8], &str); 9] = [
            (
                b"HTTP/1.1 403 Forbidden\r\nContent-Length: 9\r\n\r\nno\x1b entry\n<html>",
                "the answer is 403: no entry",
            ),
            (b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n", "the answer is 500"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel", "it is cut off"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nx", "more than 100 bytes"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", "its length is not a number"),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n", "too long"),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nx", "more than 100 bytes"),
            (b"\x16\x03\x01 nonsense\r\n\r\n", "it has no status"),
            (b"HTTP/1.1 200", "it ends within the header"),
        ];
        for (answer, wanted) in cases {
            let error = whole(answer).unwrap_err().to_string();
            assert!(error.contains(wanted), "{error} {wanted}");
        }
    }

    #[test]
    fn an_endless_answer_is_cut_and_a_slow_one_is_given_up() {
        let head = |more: &str| format!("HTTP/1.1 200 OK\r\n{more}\r\n").into_bytes();
        let endless = |more: &str, part: &[u8]| {
            let parts = std::iter::once(head(more)).chain((0..2000).map(|_| part.repeat(1000))).collect();
            answered(parts, Duration::ZERO, 50_000, Duration::from_secs(30))
        };
        assert!(matches!(endless("", b"x"), Err(Error::TooLarge(50_000))));
        let chunked = endless("Transfer-Encoding: chunked\r\n", b"1\r\nx\r\n");
        assert!(matches!(chunked, Err(Error::TooLarge(_) | Error::Malformed(_))), "{chunked:?}");
        let long_header = (0..40).map(|_| b"X: y\r\n".repeat(100)).collect::<Vec<_>>();
        let long_header = std::iter::once(b"HTTP/1.1 200 OK\r\n".to_vec()).chain(long_header).collect();
        let error = answered(long_header, Duration::ZERO, 100, Duration::from_secs(10)).unwrap_err();
        assert!(error.to_string().contains("the header is too long"), "{error}");
        let start = Instant::now();
        let drip = std::iter::once(head("")).chain((0..60).map(|_| b"x".to_vec())).collect();
        let slow = answered(drip, Duration::from_millis(20), 5000, Duration::from_millis(300));
        assert!(matches!(slow, Err(Error::TimedOut)) && start.elapsed() < Duration::from_secs(5), "{slow:?}");
    }

    #[test]
    fn a_request_is_given_up_when_the_capture_ends_and_nobody_listens_for_ever() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = listener.local_addr().unwrap();
        let start = Instant::now();
        let is_aborted = || start.elapsed() > Duration::from_millis(50);
        let bounds = Bounds { by: start + Duration::from_secs(60), body: 10, is_aborted: &is_aborted };
        assert!(matches!(get(server, "/", &bounds), Err(Error::Aborted)));
        assert!(start.elapsed() < Duration::from_secs(10));
        drop(listener);
        assert!(matches!(get(server, "/", &bounds), Err(Error::Io(_))));
    }
}
