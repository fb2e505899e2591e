//! What does each goroutine do, by the goroutine profile of a Go program?
//!
//! The profile has a stack for each goroutine and no state. But where a goroutine waits, Go's own functions are at
//! the top of its stack and say for what. A goroutine that runs, or could, has been interrupted in its own code or
//! in Go's scheduler.
//!
//! ```text
//! gopark ◄─ chanrecv, selectgo, netpollblock, semacquire1, … ─► waits for channel, socket, lock, …
//! Syscall, cgocall                                           ─► waits for file, child, …
//! everything else                                            ─► ready
//! ```

use crate::builder::Frame;
use crate::kind::ProfileKind;
use crate::proto::{Profile, Sample};
use crate::view::{Symbols, sample_types, value};
use crate::waits::Wait;

/// The function in which every goroutine waits, and one that is mostly inlined between it and its callers.
const PARK: [&str; 2] = ["runtime.gopark", "runtime.goparkunlock"];
/// Functions below the top of a stack that say what a goroutine waits for.
const TELLING: usize = 16;
/// What the functions that make profiles begin with: goroutines that answer whoever asks for them.
const PROFILERS: [&str; 2] = ["net/http/pprof.", "runtime/pprof."];

/// Goroutines of the same stack that do the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Goroutines<'a> {
    /// Their stack, leaf first, without the function in which all goroutines wait.
    pub stack: Vec<Frame<'a>>,
    /// How many there are.
    pub count: u64,
    /// What they wait for; `None` where they run, or could.
    pub waits: Option<Wait>,
}

/// Calls `each` for the goroutines of a profile, but for those that make profiles; `None` where it does not count goroutines.
#[must_use]
pub fn for_each_group(profile: &Profile, mut each: impl FnMut(&Goroutines<'_>)) -> Option<()> {
    if sample_types(profile) != ProfileKind::Goroutine.sample_types() {
        return None;
    }
    let symbols = Symbols::new(profile);
    for sample in &profile.sample {
        if let Some(group) = group(&symbols, sample) {
            each(&group);
        }
    }
    Some(())
}

fn group<'s>(symbols: &'s Symbols<'_>, sample: &Sample) -> Option<Goroutines<'s>> {
    let count = u64::try_from(value(sample, 0)).ok().filter(|count| *count > 0)?;
    let frame = |place: crate::view::Place| {
        let (name, file) = symbols.names.get(place.name).map_or(("", ""), |(n, f)| (n.as_ref(), *f));
        Frame::named(name, file, place.line.max(0))
    };
    let mut stack: Vec<Frame<'s>> = symbols.frames(sample).map(frame).collect();
    let profiles = |frame: &Frame<'_>| PROFILERS.iter().any(|begin| frame.function.starts_with(begin));
    // Programs call `Do` for code that they want labels for.
    if stack.iter().any(|frame| profiles(frame) && frame.function != "runtime/pprof.Do") {
        return None;
    }
    let names: Vec<&str> = stack.iter().take(TELLING).map(|frame| frame.function).collect();
    let waits = waits(&names);
    let parked = names.iter().take_while(|name| PARK.contains(name)).count();
    // A stack of nothing else stays as it is.
    stack.drain(..parked.min(stack.len().saturating_sub(1)));
    Some(Goroutines { stack, count, waits })
}

/// What a goroutine waits for, by the functions at the top of its stack, leaf first.
fn waits(names: &[&str]) -> Option<Wait> {
    let parked = names.iter().take_while(|name| PARK.contains(name)).count();
    let (top, below) = names.split_at_checked(parked)?;
    match (top, below.first().copied().unwrap_or_default()) {
        ([], "runtime.notetsleepg") if holds(below, "os/signal.") => Some(Wait::Signal),
        ([], "runtime.notetsleepg") => Some(Wait::Other),
        ([], "runtime.cgocall") => Some(Wait::Other),
        ([], leaf) if is_syscall(leaf) => Some(of_syscall(below)),
        ([], _) => None,
        (_, "time.Sleep") => Some(Wait::Sleep),
        (_, "runtime.netpollblock") => Some(of_network(below)),
        (_, "runtime.selectgo") if is_answer(below) => Some(Wait::Socket),
        (_, "runtime.chanrecv" | "runtime.chansend" | "runtime.selectgo" | "runtime.block") => {
            Some(Wait::Channel)
        }
        (_, "runtime.semacquire1") => Some(of_semaphore(below)),
        (_, "sync.runtime_notifyListWait") => Some(Wait::Condition),
        (_, leaf) if leaf.starts_with("runtime.gc") => Some(Wait::Memory),
        _ => Some(Wait::Other),
    }
}

fn is_syscall(name: &str) -> bool {
    ["syscall.Syscall", "syscall.RawSyscall", "syscall.syscall", "internal/runtime/syscall"]
        .iter()
        .any(|begin| name.starts_with(begin))
}

fn holds(names: &[&str], part: &str) -> bool {
    names.iter().any(|name| name.contains(part))
}

/// A system call that a goroutine waits in itself is not one for the network: for that it is parked.
fn of_syscall(names: &[&str]) -> Wait {
    match () {
        () if holds(names, "syscall.Wait")
            || holds(names, "unix.Waitid")
            || holds(names, "blockUntilWaitable") =>
        {
            Wait::Child
        }
        () if holds(names, "Flock") || holds(names, "FcntlFlock") => Wait::FileLock,
        () if holds(names, "os.(*File)") || holds(names, "os.Open") || holds(names, "poll.(*FD)") => {
            Wait::File
        }
        () => Wait::Other,
    }
}

fn of_network(names: &[&str]) -> Wait {
    match () {
        () if holds(names, "poll.(*FD).Accept") => Wait::Accept,
        () if holds(names, "net.(*netFD).connect") => Wait::Connect,
        () if holds(names, "os.(*Process)") => Wait::Child,
        // Files of a disk are not waited for like this.
        () if holds(names, "os.(*File)") => Wait::Pipe,
        () => Wait::Socket,
    }
}

fn of_semaphore(names: &[&str]) -> Wait {
    if holds(names, "WaitGroup") { Wait::Condition } else { Wait::Lock }
}

/// Whether the caller of a `select` waits for an answer that another goroutine of its client reads.
fn is_answer(names: &[&str]) -> bool {
    const CLIENTS: [&str; 7] = [
        "net/http.(*persistConn).roundTrip",
        "net/http.(*http2ClientConn).",
        "net/http.(*http2clientStream).",
        "net/http/internal/http2.(*ClientConn).",
        "golang.org/x/net/http2.(*ClientConn).",
        "google.golang.org/grpc/internal/transport.(*recvBufferReader)",
        "google.golang.org/grpc/internal/transport.(*ClientStream)",
    ];
    names.get(1).is_some_and(|caller| CLIENTS.iter().any(|client| caller.starts_with(client)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::builder::ProfileBuilder;
    use crate::{Limits, decode};

    fn profile(stacks: &[(&[&str], i64)]) -> Profile {
        let mut builder = ProfileBuilder::new(ProfileKind::Goroutine, 1, 0);
        for (stack, count) in stacks {
            let frames: Vec<Frame<'_>> = stack.iter().map(|name| Frame::named(name, "x.go", 7)).collect();
            builder.add(&frames, &[*count], &[]).unwrap();
        }
        builder.finish(1, &[])
    }

    /// Leaf, number and wait of each group.
    fn groups(profile: &Profile) -> Vec<(String, u64, Option<Wait>)> {
        let mut all = Vec::new();
        for_each_group(profile, |group| {
            all.push((group.stack[0].function.to_owned(), group.count, group.waits));
        })
        .unwrap();
        all
    }

    #[test]
    fn the_top_of_a_stack_says_what_a_goroutine_waits_for() {
        let parked = |rest: &[&'static str]| [&["runtime.gopark"][..], rest].concat();
        let net =
            ["runtime.netpollblock", "internal/poll.runtime_pollWait", "internal/poll.(*pollDesc).wait"];
        let on_net = |rest: &[&'static str]| parked(&[&net[..], rest].concat());
        let semaphore = |rest: &[&'static str]| {
            parked(&[&["runtime.goparkunlock", "runtime.semacquire1"][..], rest].concat())
        };
        let roundtrip = ["runtime.selectgo", "net/http.(*persistConn).roundTrip", "main.pay"];
        let cases: [(Vec<&str>, Option<Wait>); 21] = [
            (vec!["runtime.notetsleepg", "os/signal.signal_recv", "os/signal.loop"], Some(Wait::Signal)),
            (vec!["main.guilty"], None),
            (vec!["runtime.asyncPreempt2", "runtime.asyncPreempt", "main.guilty"], None),
            (vec!["runtime.Gosched", "main.guilty"], None),
            (parked(&["runtime.chanrecv", "runtime.chanrecv1", "main.work"]), Some(Wait::Channel)),
            (parked(&["runtime.chansend", "runtime.chansend1", "main.work"]), Some(Wait::Channel)),
            (parked(&["runtime.selectgo", "main.work"]), Some(Wait::Channel)),
            (parked(&["runtime.block", "main.work"]), Some(Wait::Channel)),
            (parked(&roundtrip), Some(Wait::Socket)),
            (parked(&["time.Sleep", "main.work"]), Some(Wait::Sleep)),
            (on_net(&["internal/poll.(*FD).Accept", "net.(*netFD).accept"]), Some(Wait::Accept)),
            (on_net(&["internal/poll.(*FD).WaitWrite", "net.(*netFD).connect"]), Some(Wait::Connect)),
            (on_net(&["internal/poll.(*FD).Read", "net.(*netFD).Read"]), Some(Wait::Socket)),
            (on_net(&["internal/poll.(*FD).Read", "os.(*File).Read"]), Some(Wait::Pipe)),
            (semaphore(&["internal/sync.runtime_SemacquireMutex", "main.work"]), Some(Wait::Lock)),
            (semaphore(&["sync.runtime_Semacquire", "sync.(*WaitGroup).Wait"]), Some(Wait::Condition)),
            (parked(&["sync.runtime_notifyListWait", "sync.(*Cond).Wait"]), Some(Wait::Condition)),
            (parked(&["runtime.gcParkAssist", "runtime.gcAssistAlloc"]), Some(Wait::Memory)),
            (vec!["syscall.Syscall", "syscall.read", "os.(*File).Read"], Some(Wait::File)),
            (vec!["syscall.Syscall6", "internal/syscall/unix.Waitid"], Some(Wait::Child)),
            (vec!["runtime.cgocall", "main._Cfunc_work"], Some(Wait::Other)),
        ];
        for (stack, wanted) in cases {
            assert_eq!(waits(&stack), wanted, "{stack:?}");
        }
    }

    #[test]
    fn goroutines_that_make_profiles_are_left_out_and_stacks_begin_where_they_differ() {
        let writes =
            ["runtime.goroutineProfileWithLabels", "runtime/pprof.writeGoroutine", "net/http.(*conn).serve"];
        let sleeps = ["runtime.gopark", "runtime.selectgo", "net/http/pprof.sleep", "net/http/pprof.Profile"];
        let labelled = ["main.labelled", "runtime/pprof.Do", "main.main"];
        let waits = ["runtime.gopark", "runtime.chanrecv", "runtime.chanrecv1", "main.work"];
        let bare = ["runtime.gopark"];
        let none = ["main.no"];
        let all = [(&writes[..], 1), (&sleeps, 1), (&waits, 3), (&labelled, 1), (&bare, 2), (&none, 0)];
        let all = profile(&all);
        let wanted = [
            ("runtime.chanrecv".to_owned(), 3, Some(Wait::Channel)),
            ("main.labelled".to_owned(), 1, None),
            ("runtime.gopark".to_owned(), 2, Some(Wait::Other)),
        ];
        assert_eq!(groups(&all), wanted);
    }

    #[test]
    fn a_profile_of_something_else_is_refused() {
        let mut builder = ProfileBuilder::new(ProfileKind::Cpu, 1, 0);
        builder.add_hits(&[Frame::named("main.guilty", "x.go", 1)], 1, &[]).unwrap();
        assert_eq!(for_each_group(&builder.finish(1, &[]), |_| ()), None);
    }

    proptest! {
        #[test]
        fn damaged_profiles_are_read_to_an_end(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)
        ) {
            let stack = ["runtime.gopark", "runtime.selectgo", "main.work"];
            let mut bytes = prost::Message::encode_to_vec(&profile(&[(&stack, 5), (&["main.guilty"], 1)]));
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            if let Ok(profile) = decode(&bytes, &Limits::default()) {
                let mut seen = 0;
                let _other = for_each_group(&profile, |group| {
                    seen += 1;
                    assert!(group.count > 0);
                });
                prop_assert!(seen <= profile.sample.len());
            }
        }
    }
}
