//! What is each sample of rbspy worth? The CPU time of its thread, shared by the samples of that thread.
//!
//! rbspy samples by the clock on the wall, and says which thread it saw. A thread that used nothing was not on
//! a CPU, whatever was seen of it: its samples are dropped. Pure functions.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use fleetprof_profile::proto::{Location, Sample};
use fleetprof_profile::{Frame, Profile, ProfileBuilder, ProfileKind};

use crate::capture::cpu_time::most_worth;
use crate::capture::named_stacks::{FrameId, Frames, MAX_DEPTH, resolve};
use crate::capture::schedule::saturating_nanos;

/// The frame for CPU time of threads that run no Ruby code.
const NATIVE_THREADS: &str = "[threads without Ruby code]";
/// What rbspy calls the file of a function that is written in C.
const NO_FILE: &str = "(unknown)";
/// The label that holds the address of a thread's control block.
const THREAD: &str = "thread_id";

/// CPU time that a process used, in nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// By the whole process, also by threads that have ended; `None` where it is not known.
    pub whole: Option<u64>,
    /// By each thread that lives.
    pub threads: BTreeMap<i32, u64>,
}

impl Used {
    /// What threads used that are not known.
    fn by_others(&self) -> Option<u64> {
        let known = self.threads.values().copied().fold(0, u64::saturating_add);
        self.whole.map(|whole| whole.saturating_sub(known))
    }
}

/// Samples by thread and stack.
#[derive(Debug, Default)]
pub struct Traces {
    frames: Frames,
    /// By the system's thread, where it is known, and stack, leaf first.
    stacks: BTreeMap<(Option<i32>, Vec<FrameId>), u64>,
}

/// What is in a profile of rbspy; `thread` gives the system's thread by the address of its control block.
pub fn read(profile: &Profile, mut thread: impl FnMut(u64) -> Option<i32>) -> Traces {
    let mut traces = Traces::default();
    let frames = frames(profile, &mut traces.frames);
    let mut threads: HashMap<u64, Option<i32>> = HashMap::new();
    for sample in &profile.sample {
        let block = block(profile, sample);
        let tid = block.and_then(|block| *threads.entry(block).or_insert_with(|| thread(block)));
        let known = sample.location_id.iter().filter_map(|id| frames.get(id).copied());
        let stack: Vec<FrameId> = known.take(MAX_DEPTH).collect();
        *traces.stacks.entry((tid, stack)).or_default() += 1;
    }
    traces
}

fn text(profile: &Profile, index: i64) -> &str {
    usize::try_from(index).ok().and_then(|index| profile.string_table.get(index)).map_or("", String::as_str)
}

/// The address of the control block of a sample's thread.
fn block(profile: &Profile, sample: &Sample) -> Option<u64> {
    let label = sample.label.iter().find(|label| text(profile, label.key) == THREAD)?;
    // An address is written as a signed number.
    Some(label.num.cast_unsigned())
}

/// The frames of the locations by their ids.
fn frames(profile: &Profile, frames: &mut Frames) -> HashMap<u64, FrameId> {
    let functions: HashMap<u64, (&str, &str)> = profile
        .function
        .iter()
        .map(|function| (function.id, (text(profile, function.name), text(profile, function.filename))))
        .collect();
    let frame = |location: &Location| {
        let line = location.line.first()?;
        let (name, file) = functions.get(&line.function_id)?;
        let file = if *file == NO_FILE { "" } else { file };
        let number = frames.number(name, file, u32::try_from(line.line).unwrap_or(0));
        Some((location.id, number))
    };
    profile.location.iter().filter_map(frame).collect()
}

/// What came of it.
pub struct Weighed {
    /// Samples and CPU time.
    pub profile: Profile,
    /// CPU time in it, in nanoseconds.
    pub nanos: u64,
}

/// Samples with the CPU time that they are worth; threads without samples have a frame of their own.
///
/// # Errors
/// The profile cannot hold them: fleetprof's own fault.
pub fn weigh(traces: &Traces, used: &Used, period: Duration) -> Result<Weighed, String> {
    let mut samples: BTreeMap<Option<i32>, u64> = BTreeMap::new();
    for ((tid, _), count) in &traces.stacks {
        *samples.entry(*tid).or_default() += count;
    }
    let worth: BTreeMap<Option<i32>, u64> =
        samples.iter().map(|(tid, count)| (*tid, worth(*tid, *count, used, period))).collect();
    let mut slice = Building::new(period);
    let names = traces.frames.by_number();
    for ((tid, stack), count) in &traces.stacks {
        let each = worth.get(tid).copied().unwrap_or(0);
        slice.add(&resolve(stack, &names), *count, each.saturating_mul(*count))?;
    }
    let period = saturating_nanos(period).max(1);
    for (tid, nanos) in &used.threads {
        if !samples.contains_key(&Some(*tid)) && *nanos >= period {
            slice.add(&[Frame::named(NATIVE_THREADS, "", 0)], nanos / period, *nanos)?;
        }
    }
    Ok(Weighed { profile: slice.builder.finish(1, &[]), nanos: slice.nanos })
}

/// What each of the samples of a thread is worth, in nanoseconds. One does not tell what a thread did for long
/// before it.
fn worth(tid: Option<i32>, samples: u64, used: &Used, period: Duration) -> u64 {
    let nanos = match tid {
        Some(tid) => used.threads.get(&tid).copied().or_else(|| used.by_others()),
        None => used.by_others(),
    };
    // Of a process that has ended it is not known: each sample is worth its distance to the next.
    nanos.map_or_else(|| saturating_nanos(period), |nanos| most_worth(nanos / samples.max(1), period))
}

struct Building {
    builder: ProfileBuilder,
    nanos: u64,
}

impl Building {
    fn new(period: Duration) -> Self {
        let period = i64::try_from(period.as_nanos()).unwrap_or(i64::MAX);
        Self { builder: ProfileBuilder::new(ProfileKind::Cpu, period, 0), nanos: 0 }
    }

    fn add(&mut self, stack: &[Frame<'_>], samples: u64, nanos: u64) -> Result<(), String> {
        if nanos == 0 {
            return Ok(());
        }
        self.nanos = self.nanos.saturating_add(nanos);
        let values = [samples, nanos].map(|value| i64::try_from(value).unwrap_or(i64::MAX));
        let added = self.builder.add(stack, &values, &[]);
        added.map_err(|e| format!("failed to add a sample to the profile: {e}"))
    }
}

#[cfg(test)]
mod tests {
    use fleetprof_profile::proto::{Function, Label, Line, ValueType};
    use fleetprof_profile::{top, total};

    use super::*;

    const PERIOD: Duration = Duration::from_millis(10);
    const MS: u64 = 1_000_000;

    /// A profile as rbspy writes it: samples of a control block and a stack of functions `f1`, `f2` …
    fn of_rbspy(samples: &[(i64, &[u64])]) -> Profile {
        let names = ["", "wall", "nanoseconds", THREAD, "shop.rb", NO_FILE, "f1", "f2", "f3"];
        let value = |name, unit| ValueType { r#type: name, unit };
        let of = |id: u64| Location {
            id,
            line: vec![Line { function_id: id, line: 10 + id.cast_signed(), ..Line::default() }],
            ..Location::default()
        };
        let function = |id: u64| Function {
            id,
            name: 5 + id.cast_signed(),
            filename: if id == 3 { 5 } else { 4 },
            ..Function::default()
        };
        let sample = |(block, stack): &(i64, &[u64])| Sample {
            location_id: stack.to_vec(),
            value: vec![0],
            label: vec![Label { key: 3, num: *block, ..Label::default() }],
        };
        Profile {
            sample_type: vec![value(1, 2)],
            string_table: names.map(str::to_owned).to_vec(),
            location: (1..=3).map(of).collect(),
            function: (1..=3).map(function).collect(),
            sample: samples.iter().map(sample).collect(),
            ..Profile::default()
        }
    }

    fn used(whole_ms: Option<u64>, threads: &[(i32, u64)]) -> Used {
        let threads = threads.iter().map(|(tid, ms)| (*tid, ms * MS)).collect();
        Used { whole: whole_ms.map(|ms| ms * MS), threads }
    }

    /// Milliseconds of each function, the hottest first.
    fn weighed(samples: &[(i64, &[u64])], used: &Used) -> Vec<(String, u64)> {
        let traces = read(&of_rbspy(samples), |block| i32::try_from(block).ok().filter(|tid| *tid < 100));
        let weighed = weigh(&traces, used, PERIOD).unwrap();
        assert_eq!(total(&weighed.profile, 1).cast_unsigned(), weighed.nanos);
        let rows = top(&weighed.profile, 1, 9).rows;
        let own = rows.iter().filter(|row| row.self_value > 0);
        own.map(|row| (row.name.clone(), row.self_value.cast_unsigned() / MS)).collect()
    }

    #[test]
    fn samples_share_the_cpu_time_of_their_thread() {
        let samples: [(i64, &[u64]); 4] = [(7, &[1, 2]), (7, &[1, 2]), (7, &[3, 2]), (8, &[2])];
        let row = |name: &str, ms| (name.to_owned(), ms);
        let cases = [
            (
                "each its own",
                used(Some(69), &[(7, 60), (8, 9)]),
                vec![row("f1", 40), row("f3", 20), row("f2", 9)],
            ),
            ("one sleeps", used(Some(60), &[(7, 60), (8, 0)]), vec![row("f1", 40), row("f3", 20)]),
            (
                "a sample is worth so much",
                used(None, &[(7, 9000)]),
                vec![row("f1", 200), row("f3", 100), row("f2", 10)],
            ),
            (
                "a thread that ended used the rest",
                used(Some(100), &[(7, 60)]),
                vec![row("f1", 40), row("f2", 40), row("f3", 20)],
            ),
        ];
        for (what, used, wanted) in cases {
            let mut found = weighed(&samples, &used);
            found.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
            assert_eq!(found, wanted, "{what}");
        }
    }

    #[test]
    fn threads_that_ended_share_what_is_left_and_those_without_ruby_are_named() {
        let samples: [(i64, &[u64]); 3] = [(7, &[1]), (1000, &[2]), (2000, &[2])];
        let found = weighed(&samples, &used(Some(130), &[(7, 30), (9, 60), (10, 2)]));
        let wanted = [(NATIVE_THREADS, 60), ("f2", 38), ("f1", 30)].map(|(name, ms)| (name.to_owned(), ms));
        assert_eq!(found, wanted);
        assert_eq!(weighed(&[], &used(None, &[])), []);
    }

    #[test]
    fn functions_in_c_have_no_file_and_others_their_line() {
        let traces = read(&of_rbspy(&[(7, &[3, 1])]), |_| Some(7));
        let names = traces.frames.by_number();
        let row = |name: &str, file: &str, line| (name.to_owned(), file.to_owned(), line);
        assert!(
            names.contains(&&row("f3", "", 13)) && names.contains(&&row("f1", "shop.rb", 11)),
            "{names:?}"
        );
    }
}
