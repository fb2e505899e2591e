//! How is a file sent? Piece by piece, from where the server says that it has the rest.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use aws_lc_rs::digest;
use fleetprof_crds::names::MAX_SYMBOLS_PIECE;
use serde_json::Value;

use crate::exit::Failure;

/// How often the server may want a piece again before that is an error.
const MOST_BACK: u32 = 5;
/// How often the server is asked how a check ended, after the 20 s that each answer waits.
const MOST_CHECKS: u32 = 30;
/// Between two of these questions.
const PAUSE: Duration = Duration::from_millis(if cfg!(test) { 1 } else { 1_000 });

/// What the server answers to a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// It wants the piece that begins here.
    Wants(u64),
    /// It has everything and checks it.
    Checks,
    /// It keeps the file.
    Keeps,
}

impl Told {
    /// Reads an answer.
    ///
    /// # Errors
    /// It is none that this version knows.
    pub(super) fn read(answer: &Value) -> Result<Self, Failure> {
        match (answer["phase"].as_str(), answer["offset"].as_u64()) {
            (Some("Receiving"), Some(offset)) => Ok(Self::Wants(offset)),
            (Some("Checking"), _) => Ok(Self::Checks),
            (Some("Stored"), _) => Ok(Self::Keeps),
            _ => Err(Failure::error("the answer of the operator cannot be read: upgrade this plugin")),
        }
    }
}

/// The SHA-256 of a file in hex.
///
/// # Errors
/// It cannot be read.
pub(super) fn sum(file: &File) -> io::Result<String> {
    let mut context = digest::Context::new(&digest::SHA256);
    let (mut at, mut part) = (0, vec![0; 1 << 20]);
    loop {
        match file.read_at(&mut part, at)? {
            0 => return Ok(fleetprof_profile::elf::hex(context.finish().as_ref())),
            read => {
                context.update(&part[..read]);
                at += read as u64;
            }
        }
    }
}

/// Sends a file of so many bytes; `ask` sends one piece, `show` hears how many bytes are there.
///
/// # Errors
/// The server refuses, the file cannot be read, or it does not come to an end.
pub(super) async fn send(
    file: &File,
    bytes: u64,
    ask: impl AsyncFn(u64, Vec<u8>) -> Result<Told, Failure>,
    mut show: impl FnMut(u64),
) -> Result<(), Failure> {
    let (mut offset, mut back, mut checks) = (0, 0, 0);
    loop {
        let piece = piece(file, offset, bytes)?;
        match ask(offset, piece).await? {
            Told::Keeps => return Ok(()),
            Told::Checks if checks < MOST_CHECKS => {
                checks += 1;
                offset = bytes;
                tokio::time::sleep(PAUSE).await;
            }
            Told::Checks => {
                return Err(Failure::error(
                    "the operator does not finish its check: see kubectl fleetprof symbols ls later",
                ));
            }
            Told::Wants(wanted) => {
                back += u32::from(wanted <= offset);
                if back > MOST_BACK || wanted > bytes {
                    return Err(Failure::error(
                        "the operator wants the same piece again and again: see its log, and try again",
                    ));
                }
                offset = wanted;
            }
        }
        show(offset);
    }
}

fn piece(file: &File, offset: u64, bytes: u64) -> Result<Vec<u8>, Failure> {
    let length = bytes.saturating_sub(offset).min(MAX_SYMBOLS_PIECE as u64);
    let mut piece = vec![0; usize::try_from(length).unwrap_or(MAX_SYMBOLS_PIECE)];
    let read = file.read_exact_at(&mut piece, offset);
    read.map_err(|error| Failure::error(format!("it cannot be read ({error}): does a build write it?")))?;
    Ok(piece)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use serde_json::json;

    use super::*;

    fn file(bytes: &[u8]) -> File {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(bytes, 0).unwrap();
        file
    }

    /// What a server that answers so is sent: offsets and lengths, and how it ended.
    async fn sent(bytes: u64, answers: &[Told]) -> (Vec<(u64, usize)>, Result<(), Failure>) {
        let file = file(&vec![7; usize::try_from(bytes).unwrap()]);
        let asked = RefCell::new(Vec::new());
        let ask = async |offset: u64, piece: Vec<u8>| {
            let mut asked = asked.borrow_mut();
            asked.push((offset, piece.len()));
            Ok(answers[(asked.len() - 1).min(answers.len() - 1)])
        };
        let ended = send(&file, bytes, ask, |_| ()).await;
        (asked.into_inner(), ended)
    }

    const PIECE: usize = MAX_SYMBOLS_PIECE;

    #[tokio::test]
    async fn a_file_is_sent_from_where_the_server_wants_it() {
        let (one, two) = (PIECE as u64, 2 * PIECE as u64);
        let (asked, ended) = sent(two + 5, &[Told::Wants(one), Told::Wants(two), Told::Keeps]).await;
        assert_eq!((asked, ended), (vec![(0, PIECE), (one, PIECE), (two, 5)], Ok(())));
        let (asked, _) = sent(two + 5, &[Told::Wants(two), Told::Keeps]).await;
        assert_eq!(asked, [(0, PIECE), (two, 5)], "it goes on where it broke off");
        let leader = [Told::Wants(one), Told::Wants(0), Told::Wants(one), Told::Keeps];
        let (asked, ended) = sent(one + 1, &leader).await;
        assert_eq!((asked.len(), ended), (4, Ok(())), "a new leader begins again");
        assert_eq!(sent(5, &[Told::Keeps]).await.0, [(0, 5)], "it is there already");
    }

    #[tokio::test]
    async fn a_server_that_makes_no_progress_ends_it() {
        for answer in [Told::Wants(0), Told::Wants(6), Told::Checks] {
            let (asked, ended) = sent(5, &[answer]).await;
            assert!(ended.is_err() && asked.len() < 40, "{answer:?} {asked:?}");
        }
        let (asked, ended) = sent(5, &[Told::Checks, Told::Keeps]).await;
        assert_eq!((asked, ended), (vec![(0, 5), (5, 0)], Ok(())), "it asks how the check ended");
    }

    #[test]
    fn answers_are_read_and_sums_are_those_of_everybody() {
        let read = |phase: &str| Told::read(&json!({"phase": phase, "offset": 4}));
        assert_eq!(read("Receiving"), Ok(Told::Wants(4)));
        assert_eq!((read("Checking"), read("Stored")), (Ok(Told::Checks), Ok(Told::Keeps)));
        assert!(read("Dreaming").is_err() && Told::read(&json!({})).is_err());
        let known = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
        assert_eq!(sum(&file(b"hello")).unwrap(), known);
    }
}
