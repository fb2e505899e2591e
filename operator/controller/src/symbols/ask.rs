//! How is the process asked that reads a file, and what ends it when it does not answer?

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::libc::{SIGABRT, SIGKILL, SIGSEGV, SIGXCPU};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::protocol::{Answer, Question, Unread};
use super::worker::{CPU, MAX_QUESTION, MEMORY};

/// Longest time for an answer.
const ANSWER: Duration = Duration::from_secs(30);
/// Longest answer, in bytes.
const MOST: u64 = 24 << 20;

/// The program that reads files.
#[derive(Clone, Debug)]
pub(super) struct Reader {
    program: PathBuf,
    arguments: Vec<String>,
    answer: Duration,
}

impl Reader {
    /// The program of this path, which knows the subcommand.
    pub(super) fn new(program: PathBuf) -> Self {
        Self { program, arguments: vec!["symbolize".to_owned()], answer: ANSWER }
    }

    /// A shell with this script in its place.
    #[cfg(test)]
    pub(super) fn script(script: &str) -> Self {
        let arguments = vec!["-c".to_owned(), script.to_owned()];
        Self { program: "/bin/sh".into(), arguments, answer: Duration::from_secs(120) }
    }

    /// What is in the file. What the process says is believed only as far as it was asked.
    ///
    /// # Errors
    /// The file cannot be used, or the process failed.
    pub(super) async fn ask(&self, question: &Question) -> Result<Answer, Unread> {
        let text = serde_json::to_vec(question).map_err(|error| error.to_string())?;
        if text.len() > MAX_QUESTION {
            return Err("too many of its addresses are to be named at once".to_owned().into());
        }
        let late = |_| Err(format!("it was not read within {} s", self.answer.as_secs()).into());
        match timeout(self.answer, self.exchange(&text)).await.unwrap_or_else(late)? {
            Answer::Named(names) if !names.answers(&question.addresses) => {
                Err("the process that read it gave an answer that was not asked for".to_owned().into())
            }
            Answer::Refused(why) => Err(Unread::Useless(why)),
            Answer::Unable(why) => Err(Unread::Unable(why)),
            Answer::Usable if !question.check => {
                Err("the process that read it gave an answer that was not asked for".to_owned().into())
            }
            answer => Ok(answer),
        }
    }

    /// Whether a file can be used for what has this build id.
    ///
    /// # Errors
    /// It cannot, or the process failed.
    pub(super) async fn check(&self, file: &Path, build_id: &str) -> Result<(), Unread> {
        match self.ask(&Question::check(file.to_owned(), build_id)).await? {
            Answer::Usable => Ok(()),
            _ => Err("the process that read it gave an answer that was not asked for".to_owned().into()),
        }
    }

    /// The process ends with this future.
    async fn exchange(&self, question: &[u8]) -> Result<Answer, Unread> {
        let failed =
            |error: std::io::Error| Unread::Unable(format!("the process that reads it failed ({error})"));
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).env_clear().current_dir("/").kill_on_drop(true);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(failed)?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let write = async {
            if let Some(mut stdin) = stdin {
                // A process that ended says why by its status.
                let _ = stdin.write_all(question).await;
            }
        };
        let read = async {
            let mut text = Vec::new();
            if let Some(stdout) = stdout {
                stdout.take(MOST + 1).read_to_end(&mut text).await?;
            }
            Ok::<_, std::io::Error>(text)
        };
        let ((), text) = tokio::join!(write, read);
        let text = text.map_err(failed)?;
        if text.len() as u64 > MOST {
            return Err("its names are too many to be held".to_owned().into());
        }
        let status = child.wait().await.map_err(failed)?;
        if !status.success() {
            return Err(died(status));
        }
        // A long one takes its time.
        let parsed = spawn_blocking(move || serde_json::from_slice(&text)).await;
        let none = || Unread::Unable("the process that read it gave no answer".to_owned());
        parsed.ok().and_then(Result::ok).ok_or_else(none)
    }
}

/// Why the process ended.
fn died(status: ExitStatus) -> Unread {
    let useless = match status.signal() {
        Some(SIGABRT) => {
            format!("reading it takes more than {} MiB of memory, or it is malformed", MEMORY >> 20)
        }
        Some(SIGXCPU) => format!("reading it takes more than {CPU} s of CPU time"),
        Some(SIGSEGV) => "it is malformed: the process that read it crashed".to_owned(),
        Some(SIGKILL) => {
            let why = "the process that reads it was killed: the operator probably has no memory left";
            return Unread::Unable(why.to_owned());
        }
        _ => return Unread::Unable(format!("the process that reads it failed ({status})")),
    };
    Unread::Useless(useless)
}

#[cfg(test)]
mod tests {
    use super::super::protocol::Supplement;
    use super::*;

    /// The answer of a program that does this instead of reading, for which it has that many seconds.
    async fn heard_within(script: &str, seconds: u64) -> Result<Answer, Unread> {
        let script = vec!["-c".to_owned(), script.to_owned()];
        let question = Question {
            file: "/x".into(),
            build_id: "abcdef01".into(),
            supplement: Supplement::Unknown,
            addresses: vec![0x10; 100_000],
            check: false,
        };
        let answer = Duration::from_secs(seconds);
        Reader { program: "/bin/sh".into(), arguments: script, answer }.ask(&question).await
    }

    /// The same, with time enough for a machine that has much to do.
    async fn heard(script: &str) -> Result<Answer, Unread> {
        heard_within(script, 120).await
    }

    fn unable(why: &str) -> Unread {
        Unread::Unable(why.to_owned())
    }

    #[tokio::test]
    async fn a_process_that_lies_is_not_believed() {
        let place =
            r#"{"address":ADDRESS,"exact":true,"lines":[{"function":0,"system_name":0,"file":0,"line":1}]}"#;
        let named = |address: &str| {
            let place = place.replace("ADDRESS", address);
            format!(r#"cat >/dev/null; echo '{{"Named":{{"texts":["f"],"places":[{place}]}}}}'"#)
        };
        assert!(matches!(heard(&named("16")).await, Ok(Answer::Named(names)) if names.len() == 1));
        let lie = heard(&named("17")).await.unwrap_err();
        assert_eq!(lie, unable("the process that read it gave an answer that was not asked for"));
        for nonsense in ["echo hello", "true"] {
            assert_eq!(heard(nonsense).await, Err(unable("the process that read it gave no answer")));
        }
    }

    #[tokio::test]
    async fn a_process_that_hangs_floods_or_dies_is_ended_with_a_sentence() {
        for (script, seconds, useless, word) in [
            ("exec sleep 100000", 2, false, "was not read within 2 s"),
            ("exec cat /dev/zero", 120, false, "too many to be held"),
            ("kill -ABRT $$", 120, true, "more than 224 MiB of memory"),
            ("kill -SEGV $$", 120, true, "malformed"),
            ("kill -XCPU $$", 120, true, "more than 20 s of CPU time"),
            ("kill -KILL $$", 120, false, "no memory left"),
            ("exit 3", 120, false, "exit status: 3"),
        ] {
            let why = heard_within(script, seconds).await.unwrap_err();
            assert_eq!(why.is_useless(), useless, "{script}: {why:?}");
            let why = why.of("of a test");
            assert!(why.contains(word), "{script}: {why}");
        }
        let none = Reader::new("/nowhere/at/all".into());
        let question = Question {
            file: "/x".into(),
            build_id: String::new(),
            supplement: Supplement::Nowhere,
            addresses: Vec::new(),
            check: false,
        };
        let why = none.ask(&question).await.unwrap_err();
        assert!(matches!(&why, Unread::Unable(why) if why.contains("failed")), "{why:?}");
    }

    #[tokio::test]
    async fn what_the_process_says_of_the_file_tells_a_bad_file_from_a_bad_moment() {
        for (word, useless) in [("Refused", true), ("Unable", false)] {
            let script = format!(r#"cat >/dev/null; echo '{{"{word}":"it is so"}}'"#);
            let why = heard(&script).await.unwrap_err();
            assert_eq!(
                (why.is_useless(), why),
                (
                    useless,
                    match useless {
                        true => Unread::Useless("it is so".to_owned()),
                        false => unable("it is so"),
                    }
                )
            );
        }
    }
}
