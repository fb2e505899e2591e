//! How is an inspector asked, and how are its answers told apart? The `DevTools` protocol, as much of it as
//! profiling needs.
//!
//! ```text
//! main thread     {"id":7,"method":…}                                        ─► {"id":7,"result":…}
//! worker thread   NodeWorker.sendMessageToWorker{sessionId, message: "{…}"}  ─► NodeWorker.receivedMessage…
//! ```
//! The answers are a target's words: bounded before they are read, and never taken for more than they are.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::io;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::scripts::evaluation;
use super::websocket::{Closer, WebSocket};
use crate::capture::protocol::bounded;

/// Most worker threads that are profiled.
const MAX_WORKERS: usize = 64;
/// Most bytes of a worker's name on the wire.
const MAX_SESSION: usize = 64;
/// Most bytes of a target's own words in a message.
const MAX_WORDS: usize = 200;
/// How often a wait looks whether it is to end.
const LOOK: Duration = Duration::from_millis(100);

/// A thread of JavaScript: the main one, or a worker by its session.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Thread {
    /// The main thread.
    Main,
    /// A worker thread.
    Worker(String),
}

/// Why an inspector gave no result.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// It refused.
    #[error("the inspector refused {method}: {words}")]
    Refused {
        /// What was asked.
        method: &'static str,
        /// Its words.
        words: String,
    },
    /// The wait was ended.
    #[error("the inspector did not answer {0} in time: the process is stopped or in a long system call")]
    Late(&'static str),
    /// The thread has ended.
    #[error("the worker thread has ended")]
    Ended,
    /// The connection has ended.
    #[error("the connection to the inspector ended: {0}")]
    Lost(#[from] io::Error),
}

/// A conversation with the inspector of one process.
pub struct Conversation {
    socket: WebSocket,
    id: u64,
    workers: BTreeSet<String>,
}

#[derive(Deserialize)]
struct Message<'a> {
    id: Option<u64>,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<Refusal<'a>>,
    #[serde(borrow)]
    method: Option<Cow<'a, str>>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Refusal<'a> {
    #[serde(borrow)]
    message: Cow<'a, str>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FromWorker<'a> {
    #[serde(borrow)]
    session_id: Cow<'a, str>,
    #[serde(borrow)]
    message: Option<Cow<'a, str>>,
}

/// What a message has to say on a question.
enum Answer {
    Result(String),
    Refused(String),
    Ended,
    /// It is about something else.
    Other,
}

impl Conversation {
    /// A conversation over an open connection.
    pub fn new(socket: WebSocket) -> Self {
        Self { socket, id: 0, workers: BTreeSet::new() }
    }

    /// The threads that are known, the main one first.
    pub fn threads(&self) -> Vec<Thread> {
        std::iter::once(Thread::Main).chain(self.workers.iter().cloned().map(Thread::Worker)).collect()
    }

    /// What ends the conversation, with a script that the main thread evaluates last, or none.
    pub fn closer(&self, script: Option<&str>) -> io::Result<Closer> {
        let last = script.map(|script| question(0, "Runtime.evaluate", &evaluation(script)));
        self.socket.closer(last.unwrap_or_default())
    }

    /// Asks a thread, and waits for its answer as long as `waits` says. The result is JSON.
    pub fn ask(
        &mut self,
        thread: &Thread,
        method: &'static str,
        params: &str,
        waits: &dyn Fn() -> bool,
    ) -> Result<String, AskError> {
        self.id += 1;
        let asked = question(self.id, method, params);
        let text = match thread {
            Thread::Main => asked,
            Thread::Worker(session) => {
                let params = serde_json::json!({"sessionId": session, "message": asked}).to_string();
                question(self.id, "NodeWorker.sendMessageToWorker", &params)
            }
        };
        self.socket.send(&text)?;
        loop {
            let Some(text) = self.socket.receive(Instant::now() + LOOK)? else {
                if waits() { continue } else { return Err(AskError::Late(method)) }
            };
            match self.answer(thread, &text) {
                Answer::Result(result) => return Ok(result),
                Answer::Refused(words) => return Err(AskError::Refused { method, words }),
                Answer::Ended => return Err(AskError::Ended),
                Answer::Other if waits() => {}
                Answer::Other => return Err(AskError::Late(method)),
            }
        }
    }

    /// Reads what the inspector says by itself, until `by`.
    pub fn listen(&mut self, by: Instant) -> io::Result<()> {
        while Instant::now() < by
            && let Some(text) = self.socket.receive(by)?
        {
            let _not_asked = self.answer(&Thread::Main, &text);
        }
        Ok(())
    }

    /// What a message says on the last question to a thread. What it says of workers is noted.
    fn answer(&mut self, thread: &Thread, text: &str) -> Answer {
        let Ok(message) = serde_json::from_str::<Message<'_>>(text) else { return Answer::Other };
        if message.id == Some(self.id) {
            return match (thread, said(&message)) {
                // The main thread only says that it passes the question on.
                (Thread::Worker(_), Answer::Result(_)) => Answer::Other,
                (Thread::Worker(session), Answer::Refused(_)) => {
                    self.workers.remove(session);
                    Answer::Ended
                }
                (_, answer) => answer,
            };
        }
        let params = message.params.and_then(|raw| serde_json::from_str::<FromWorker<'_>>(raw.get()).ok());
        let (Some(method), Some(from)) = (message.method, params) else { return Answer::Other };
        self.event(thread, &method, &from)
    }

    fn event(&mut self, thread: &Thread, method: &str, from: &FromWorker<'_>) -> Answer {
        let session = from.session_id.as_ref();
        let is_asked = matches!(thread, Thread::Worker(asked) if asked == session);
        match method {
            "NodeWorker.attachedToWorker" => {
                if self.workers.len() < MAX_WORKERS && session.len() <= MAX_SESSION {
                    self.workers.insert(session.to_owned());
                }
                Answer::Other
            }
            "NodeWorker.detachedFromWorker" => {
                self.workers.remove(session);
                if is_asked { Answer::Ended } else { Answer::Other }
            }
            "NodeWorker.receivedMessageFromWorker" if is_asked => {
                let text = from.message.as_deref().unwrap_or_default();
                match serde_json::from_str::<Message<'_>>(text) {
                    Ok(message) if message.id == Some(self.id) => said(&message),
                    _ => Answer::Other,
                }
            }
            _ => Answer::Other,
        }
    }
}

fn said(message: &Message<'_>) -> Answer {
    match (&message.result, &message.error) {
        (Some(result), _) => Answer::Result(result.get().to_owned()),
        (None, Some(refusal)) => {
            let words: String = refusal.message.chars().filter(|char| !char.is_control()).collect();
            Answer::Refused(bounded(words, MAX_WORDS))
        }
        (None, None) => Answer::Refused("it gave no result".into()),
    }
}

fn question(id: u64, method: &str, params: &str) -> String {
    format!(r#"{{"id":{id},"method":"{method}","params":{params}}}"#)
}

/// The profile in a result.
pub fn profile_in(result: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Holder<'a> {
        #[serde(borrow)]
        profile: &'a RawValue,
    }
    serde_json::from_str::<Holder<'_>>(result).ok().map(|holder| holder.profile.get().to_owned())
}

/// The text that an evaluated expression gave.
pub fn text_in(result: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Evaluated<'a> {
        #[serde(borrow)]
        result: Value<'a>,
    }
    #[derive(Deserialize)]
    struct Value<'a> {
        #[serde(borrow)]
        value: Option<Cow<'a, str>>,
    }
    let evaluated: Evaluated<'_> = serde_json::from_str(result).ok()?;
    evaluated.result.value.map(|value| bounded(value.into_owned(), MAX_WORDS))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// A conversation with nobody, whose last question was number 5.
    fn conversation() -> Conversation {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            std::io::Write::write_all(&mut stream, b"HTTP/1.1 101 x\r\n\r\n").unwrap();
            std::thread::sleep(Duration::from_secs(10));
        });
        let socket =
            WebSocket::connect(address, "/id", 1 << 20, Instant::now() + Duration::from_secs(5)).unwrap();
        Conversation { id: 5, ..Conversation::new(socket) }
    }

    fn shown(answer: Answer) -> String {
        match answer {
            Answer::Result(result) => result,
            Answer::Refused(words) => format!("refused: {words}"),
            Answer::Ended => "ended".into(),
            Answer::Other => "other".into(),
        }
    }

    #[test]
    fn answers_of_the_main_thread_are_told_by_their_number() {
        let mut conversation = conversation();
        for (text, wanted) in [
            (r#"{"id":5,"result":{"profile":{}}}"#, r#"{"profile":{}}"#),
            (r#"{"id":4,"result":{}}"#, "other"),
            (r#"{"id":5,"error":{"code":-32000,"message":"not\u001b started"}}"#, "refused: not started"),
            (r#"{"id":5}"#, "refused: it gave no result"),
            (r#"{"method":"Debugger.paused","params":{}}"#, "other"),
            ("nonsense", "other"),
            (r#"{"id":-5,"result":7}"#, "other"),
        ] {
            assert_eq!(shown(conversation.answer(&Thread::Main, text)), wanted, "{text}");
        }
    }

    #[test]
    fn workers_come_answer_and_go() {
        let mut conversation = conversation();
        let event =
            |method: &str, params: &str| format!(r#"{{"method":"NodeWorker.{method}","params":{params}}}"#);
        let mut says = |thread: &Thread, text: &str| {
            (shown(conversation.answer(thread, text)), conversation.threads().len())
        };
        let (one, main) = (Thread::Worker("1".into()), Thread::Main);
        let attached = event("attachedToWorker", r#"{"sessionId":"1","workerInfo":{"workerId":"1"}}"#);
        assert_eq!(says(&main, &attached), ("other".into(), 2));
        let answer =
            event("receivedMessageFromWorker", r#"{"sessionId":"1","message":"{\"id\":5,\"result\":{}}"}"#);
        assert_eq!(says(&main, &answer), ("other".into(), 2), "another thread was asked");
        assert_eq!(says(&one, r#"{"id":5,"result":{}}"#), ("other".into(), 2), "the question is passed on");
        assert_eq!(says(&one, &answer), ("{}".into(), 2));
        assert_eq!(says(&one, &event("detachedFromWorker", r#"{"sessionId":"1"}"#)), ("ended".into(), 1));
        let refused = r#"{"id":5,"error":{"message":"No such session"}}"#;
        assert_eq!(says(&one, refused), ("ended".into(), 1));
    }

    #[test]
    fn workers_are_bounded() {
        let mut conversation = conversation();
        for n in 0..200 {
            let params =
                format!(r#"{{"sessionId":"{}{n}"}}"#, if n == 7 { "x".repeat(100) } else { String::new() });
            let text = format!(r#"{{"method":"NodeWorker.attachedToWorker","params":{params}}}"#);
            let _noted = conversation.answer(&Thread::Main, &text);
        }
        assert_eq!(conversation.threads().len(), 1 + MAX_WORKERS);
        assert!(!conversation.threads().iter().any(|t| matches!(t, Thread::Worker(s) if s.len() > 64)));
    }

    #[test]
    fn results_are_taken_out_unchanged() {
        let result = r#"{"other":[1],"profile":{"nodes":[ ]}}"#;
        assert_eq!(profile_in(result).as_deref(), Some(r#"{"nodes":[ ]}"#));
        assert_eq!((profile_in(r#"{"x":1}"#), profile_in("[]")), (None, None));
        let evaluated = r#"{"result":{"type":"string","value":"armed"}}"#;
        assert_eq!(text_in(evaluated).as_deref(), Some("armed"));
        assert_eq!(text_in(r#"{"result":{"type":"object"},"exceptionDetails":{}}"#), None);
    }

    #[test]
    fn a_wait_ends_when_it_is_told_to() {
        let mut conversation = conversation();
        let error = conversation.ask(&Thread::Main, "Profiler.stop", "{}", &|| false).unwrap_err();
        assert!(error.to_string().contains("did not answer Profiler.stop"), "{error}");
    }
}
