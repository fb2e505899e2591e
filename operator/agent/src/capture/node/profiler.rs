//! What is asked of an inspector, so that every thread of a process is profiled from slice to slice?
//!
//! ```text
//! begin   Profiler.start · HeapProfiler.startSampling   of the main thread, and of workers as they come
//! take    Profiler.stop and start again ─► cpu          HeapProfiler.stopSampling and start again ─► alloc
//! end     HeapProfiler.stopSampling     ─► heap
//! ```
//! V8 samples memory once in each thread: either what still lives or all that was allocated.

use std::collections::BTreeSet;
use std::io;
use std::time::Instant;

use fleetprof_profile::ProfileKind;

use super::protocol::{AskError, Conversation, Thread, profile_in, text_in};
use super::scripts;
use super::websocket::Closer;

/// Bytes between two samples of memory. What sampling costs a target hardly depends on it; V8's own choice, a
/// quarter of it, makes profiles of a busy server larger than a message may be.
pub const MEMORY_INTERVAL: i64 = 128 << 10;

/// The first version of Node.js that samples all memory that is allocated.
const FIRST_WITH_ALLOC: u32 = 20;

/// What is recorded of a process.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Microseconds between two looks at a thread; `None` where CPU is not recorded.
    pub cpu_micros: Option<u64>,
    /// Heap or alloc; `None` where memory is not recorded.
    pub memory: Option<ProfileKind>,
    /// The same of a Node.js that cannot sample all memory that is allocated.
    pub memory_of_older: Option<ProfileKind>,
    /// Most bytes of the profiles of all threads together.
    pub most_bytes: usize,
}

/// The profiles of one kind, of each thread that has one, as V8 wrote them.
pub type Taken = Vec<String>;

/// The profilers of a process.
pub struct Profilers {
    conversation: Conversation,
    plan: Plan,
    begun: BTreeSet<Thread>,
}

/// Whether to go on waiting for an answer.
pub type Waits<'a> = &'a dyn Fn() -> bool;

impl Profilers {
    /// The profilers of a process that does not profile yet.
    pub const fn new(conversation: Conversation, plan: Plan) -> Self {
        Self { conversation, plan, begun: BTreeSet::new() }
    }

    /// What is recorded.
    pub const fn plan(&self) -> Plan {
        self.plan
    }

    /// Leaves out what the version of Node.js cannot record. Version 18 takes the wish for all memory for one
    /// for what still lives.
    pub fn fit_to_version(&mut self, waits: Waits<'_>) -> Result<(), AskError> {
        let version = self.evaluate("process.versions.node", waits)?;
        let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
        if major.is_some_and(|major| major < FIRST_WITH_ALLOC) {
            self.plan.memory = self.plan.memory_of_older;
        }
        Ok(())
    }

    /// Begins to profile the main thread, and asks to be told of workers.
    ///
    /// # Errors
    /// The inspector refuses, or somebody else samples the memory already.
    pub fn begin(&mut self, waits: Waits<'_>) -> Result<(), AskError> {
        self.begin_thread(&Thread::Main, waits)?;
        let params = r#"{"waitForDebuggerOnStart":false}"#;
        // Where workers cannot be told of, the main thread is profiled alone.
        match self.ask(&Thread::Main, "NodeWorker.enable", params, waits) {
            Err(AskError::Refused { .. }) | Ok(_) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn begin_thread(&mut self, thread: &Thread, waits: Waits<'_>) -> Result<(), AskError> {
        if let Some(micros) = self.plan.cpu_micros {
            self.ask(thread, "Profiler.enable", "{}", waits)?;
            let params = format!(r#"{{"interval":{micros}}}"#);
            self.ask(thread, "Profiler.setSamplingInterval", &params, waits)?;
            self.ask(thread, "Profiler.start", "{}", waits)?;
        }
        if self.plan.memory.is_some() {
            self.begin_memory(thread, waits)?;
        }
        self.begun.insert(thread.clone());
        Ok(())
    }

    /// A second one that samples memory would stop the first without a word.
    fn begin_memory(&mut self, thread: &Thread, waits: Waits<'_>) -> Result<(), AskError> {
        let method = "HeapProfiler.getSamplingProfile";
        match self.ask(thread, method, "{}", waits) {
            Err(AskError::Refused { .. }) => {}
            Ok(_) => return Err(AskError::Refused { method, words: super::OTHER_PROFILER.into() }),
            Err(error) => return Err(error),
        }
        self.sample_memory(thread, waits)
    }

    fn sample_memory(&mut self, thread: &Thread, waits: Waits<'_>) -> Result<(), AskError> {
        let all = self.plan.memory == Some(ProfileKind::Alloc);
        let params = serde_json::json!({
            "samplingInterval": MEMORY_INTERVAL,
            "includeObjectsCollectedByMajorGC": all,
            "includeObjectsCollectedByMinorGC": all,
        });
        self.ask(thread, "HeapProfiler.startSampling", &params.to_string(), waits).map(drop)
    }

    /// Begins to profile workers that have come; called now and then.
    pub fn follow(&mut self, by: Instant, waits: Waits<'_>) -> Result<(), AskError> {
        self.conversation.listen(by)?;
        for thread in self.conversation.threads() {
            if !self.begun.contains(&thread) {
                match self.begin_thread(&thread, waits) {
                    // It is profiled as far as it goes; it is not asked again.
                    Err(AskError::Ended | AskError::Refused { .. }) => drop(self.begun.insert(thread)),
                    other => other?,
                }
            }
        }
        Ok(())
    }

    /// Takes what was recorded of CPU since the last time; goes on unless it is the `last` time.
    pub fn take_cpu(&mut self, last: bool, waits: Waits<'_>) -> Result<Taken, AskError> {
        self.take(
            "Profiler.stop",
            |profilers, thread| match last {
                true => Ok(()),
                false => profilers.ask(thread, "Profiler.start", "{}", waits).map(drop),
            },
            waits,
        )
    }

    /// The same of memory.
    pub fn take_memory(&mut self, last: bool, waits: Waits<'_>) -> Result<Taken, AskError> {
        self.take(
            "HeapProfiler.stopSampling",
            |profilers, thread| match last {
                true => Ok(()),
                false => profilers.sample_memory(thread, waits),
            },
            waits,
        )
    }

    fn take(
        &mut self,
        stop: &'static str,
        go_on: impl Fn(&mut Self, &Thread) -> Result<(), AskError>,
        waits: Waits<'_>,
    ) -> Result<Taken, AskError> {
        let mut taken = Taken::new();
        let mut bytes = 0;
        for thread in self.begun.clone() {
            let result = match self.ask(&thread, stop, "{}", waits) {
                // A worker that has ended took its profile along; one that was refused has none.
                Err(AskError::Ended | AskError::Refused { .. }) if thread != Thread::Main => {
                    continue;
                }
                other => other?,
            };
            let profile = profile_in(&result).unwrap_or_default();
            bytes += profile.len();
            let most = self.plan.most_bytes;
            if bytes > most {
                return Err(io::Error::other(format!("its profiles have more than {most} bytes")).into());
            }
            taken.push(profile);
            match go_on(self, &thread) {
                Err(AskError::Ended | AskError::Refused { .. }) if thread != Thread::Main => {}
                other => other?,
            }
        }
        Ok(taken)
    }

    /// Whether there are workers.
    pub fn has_workers(&self) -> bool {
        self.begun.len() > 1
    }

    /// Evaluates a script in the main thread; its answer.
    pub fn evaluate(&mut self, script: &str, waits: Waits<'_>) -> Result<String, AskError> {
        let params = scripts::evaluation(script);
        let result = self.ask(&Thread::Main, "Runtime.evaluate", &params, waits)?;
        Ok(text_in(&result).unwrap_or_default())
    }

    /// What ends the conversation, with a script that is evaluated last, or none.
    ///
    /// # Errors
    /// There are too many open files.
    pub fn closer(&self, script: Option<&str>) -> io::Result<Closer> {
        self.conversation.closer(script)
    }

    fn ask(
        &mut self,
        thread: &Thread,
        method: &'static str,
        params: &str,
        waits: Waits<'_>,
    ) -> Result<String, AskError> {
        self.conversation.ask(thread, method, params, waits)
    }
}
