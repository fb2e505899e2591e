//! How is the process asked that reads a file, and what ends it when it does not answer?

use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::libc::{SIGABRT, SIGKILL, SIGSEGV, SIGXCPU};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::protocol::{Answer, Question};
use super::worker::{CPU, MAX_QUESTION, MEMORY};

/// Longest time for an answer.
const ANSWER: Duration = Duration::from_secs(30);
/// Longest answer, in bytes.
const MOST: u64 = 24 << 20;

/// The program that reads files.
#[derive(Clone, Debug)]
pub(super) struct Reader {
    program: PathBuf,
    answer: Duration,
}

impl Reader {
    /// The program of this path, which knows the subcommand.
    pub(super) const fn new(program: PathBuf) -> Self {
        Self { program, answer: ANSWER }
    }

    /// What is in the file. What the process says is believed only as far as it was asked.
    ///
    /// # Errors
    /// A clause without a full stop: the process failed.
    pub(super) async fn ask(&self, question: &Question) -> Result<Answer, String> {
        let text = serde_json::to_vec(question).map_err(|error| error.to_string())?;
        if text.len() > MAX_QUESTION {
            return Err("too many of its addresses are to be named at once".to_owned());
        }
        let late = |_| Err(format!("it was not read within {} s", self.answer.as_secs()));
        match timeout(self.answer, self.exchange(&text)).await.unwrap_or_else(late)? {
            Answer::Named(names) if !names.answers(&question.addresses) => {
                Err("the process that read it gave an answer that was not asked for".to_owned())
            }
            answer => Ok(answer),
        }
    }

    /// The process ends with this future.
    async fn exchange(&self, question: &[u8]) -> Result<Answer, String> {
        let failed = |error: std::io::Error| format!("the process that reads it failed ({error})");
        let mut command = Command::new(&self.program);
        command.arg("symbolize").env_clear().current_dir("/").kill_on_drop(true);
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
            Ok(text)
        };
        let ((), text) = tokio::join!(write, read);
        let text = text.map_err(failed)?;
        if text.len() as u64 > MOST {
            return Err("its names are too many to be held".to_owned());
        }
        let status = child.wait().await.map_err(failed)?;
        if !status.success() {
            return Err(died(status));
        }
        // A long one takes its time.
        let parsed = spawn_blocking(move || serde_json::from_slice(&text)).await;
        parsed.ok().and_then(Result::ok).ok_or_else(|| "the process that read it gave no answer".to_owned())
    }
}

/// Why the process ended.
fn died(status: ExitStatus) -> String {
    match status.signal() {
        Some(SIGABRT) => {
            format!("reading it takes more than {} MiB of memory, or it is malformed", MEMORY >> 20)
        }
        Some(SIGKILL | SIGXCPU) => {
            format!("reading it takes more than {CPU} s of CPU time, or the operator has no memory left")
        }
        Some(SIGSEGV) => "it is malformed: the process that read it crashed".to_owned(),
        _ => format!("the process that reads it failed ({status})"),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::time::Instant;

    use super::super::protocol::Supplement;
    use super::*;

    /// The answer of a program that does this instead of reading.
    async fn heard(script: &str) -> Result<Answer, String> {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("reader");
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let question = Question {
            file: "/x".into(),
            build_id: "abcdef01".into(),
            supplement: Supplement::Unknown,
            addresses: vec![0x10; 100_000],
        };
        let reader = Reader { answer: Duration::from_secs(2), ..Reader::new(program) };
        reader.ask(&question).await
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
        assert!(lie.contains("was not asked for"), "{lie}");
        for nonsense in ["echo hello", "true"] {
            assert_eq!(heard(nonsense).await.unwrap_err(), "the process that read it gave no answer");
        }
    }

    #[tokio::test]
    async fn a_process_that_hangs_floods_or_dies_is_ended_with_a_sentence() {
        let start = Instant::now();
        for (script, word) in [
            ("exec sleep 60", "was not read within 2 s"),
            ("exec cat /dev/zero", "too many to be held"),
            ("kill -ABRT $$", "more than 224 MiB of memory"),
            ("kill -SEGV $$", "malformed"),
            ("kill -KILL $$", "more than 20 s of CPU time"),
            ("exit 3", "exit status: 3"),
        ] {
            let why = heard(script).await.unwrap_err();
            assert!(why.contains(word), "{script}: {why}");
        }
        assert!(start.elapsed() < Duration::from_secs(30));
        let none = Reader::new("/nowhere/at/all".into());
        let question = Question {
            file: "/x".into(),
            build_id: String::new(),
            supplement: Supplement::Nowhere,
            addresses: Vec::new(),
        };
        assert!(none.ask(&question).await.unwrap_err().contains("failed"));
    }
}
