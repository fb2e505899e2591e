//! How is a container captured whose processes run as several users, by an agent that is root and may not trace
//! every process? By a worker for each user and group, which sees their processes alone.
//!
//! ```text
//!                    ┌─► worker of user 0: stays root ──► slices ─┐ merged
//! worker ─► users ───┤                                            ├────────► slices, events, one verdict
//!                    └─► worker of user 33: becomes it ─► slices ─┘
//! ```
//! This process captures nothing and stays root, so that it can start, stop and read its workers. A worker is as
//! hostile as its targets: what it says is bounded, and its slices are decoded with limits and counted here.

mod conclusion;
mod gathered;
mod worker;

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use fleetprof_crds::ProfileKind;
use nix::unistd::Uid;

use self::gathered::Gathered;
use self::worker::Worker;
use super::limits;
use super::protocol::{CaptureRequest, Cover, Event, Failure, Finished};
use super::slices::SliceWriter;
use crate::proc::{self, Owner, ProcTree, Process};

/// Most users whose processes are captured at a time: the busiest ones.
const MAX_USERS: usize = 4;
/// Most workers that are started during a capture: the processes of a user may all end, and others begin.
const MAX_STARTS: usize = 16;
/// A worker that may have less memory than this is not started, in bytes.
const LEAST_MEMORY: u64 = 16 << 20;
/// How often users that are new are looked for.
const LOOK: Duration = Duration::from_secs(1);
/// How long a worker is listened to before anything else is looked at.
const LISTEN: Duration = Duration::from_millis(100);
/// A worker that would capture for less than this is not started.
const SHORTEST: Duration = Duration::from_secs(1);
/// How long a worker may take to end: a little less than the kill timer of this process, which ends all of them.
const LATE: Duration = Duration::from_secs(limits::GRACE.as_secs() - 3);
/// How much later than their workers' slices the merged ones are written, so that those are all there.
const BEHIND: Duration = Duration::from_secs(1);
/// How long the worker of the container's main process may take to start before another one speaks for all.
const SPOKESMAN: Duration = Duration::from_secs(5);

/// A capture of a container of several users.
pub struct Users<'a> {
    request: &'a CaptureRequest,
    /// Most workers at a time.
    most: usize,
    /// Bytes that each may allocate, and that the slices which wait here may take.
    memory: u64,
}

impl<'a> Users<'a> {
    /// `None` where one worker is enough, or has to be: one user, no right to become others, the right to trace
    /// all of them, or too little memory for several workers.
    pub fn of(request: &'a CaptureRequest) -> Option<Self> {
        let is_meant = request.assume_target_uid && request.container.is_some() && request.owner.is_none();
        let may = || Uid::effective().is_root() && !proc::may_trace_all() && proc::may_become_others();
        if !is_meant || !may() {
            return None;
        }
        let all = request.memory_bytes.unwrap_or(limits::DATA).min(limits::DATA);
        let affordable = usize::try_from((all / LEAST_MEMORY).saturating_sub(1)).unwrap_or(MAX_USERS);
        let most = processes(request).len().min(MAX_USERS).min(affordable);
        (most > 1).then(|| Self { request, most, memory: all / (most as u64 + 1) })
    }

    /// Captures to the end.
    ///
    /// # Errors
    /// There is not a profile, or none that can be written.
    pub fn capture(
        self,
        writer: &mut SliceWriter,
        emit: &mut dyn FnMut(&Event),
    ) -> Result<Finished, Failure> {
        let slice = Duration::from_millis(self.request.slice_ms);
        let mut run = Run::new(self, writer, emit);
        run.look();
        let (mut next_slice, mut next_look) = (slice + BEHIND, LOOK);
        while run.workers.iter().any(|worker| !worker.is_over) {
            run.listen();
            let now = run.began.elapsed();
            run.stop_or_kill(now);
            if now >= next_look && !run.stopped {
                run.look();
                next_look = now + LOOK;
            }
            if now >= next_slice {
                run.flush()?;
                next_slice += slice;
            }
        }
        run.flush()?;
        run.conclude()
    }
}

/// The living processes of a container by user and group.
fn processes(request: &CaptureRequest) -> BTreeMap<Owner, Vec<Process>> {
    let mut users: BTreeMap<Owner, Vec<Process>> = BTreeMap::new();
    let inside = |p: &Process| p.is_alive() && p.container.is_some() && p.container == request.container;
    for process in ProcTree::new("/proc").processes().unwrap_or_default().into_iter().filter(inside) {
        if let Ok(owner) = proc::owner(process.pid) {
            users.entry(owner).or_default().push(process);
        }
    }
    users
}

/// The users to start workers for, of those that have none: that of `main` first, then the busiest. One whose
/// processes have used no CPU yet has no worker until they do, unless with `idle_too`.
fn chosen<'a>(
    users: &'a BTreeMap<Owner, Vec<Process>>,
    main: i32,
    idle_too: bool,
) -> Vec<(Owner, &'a Process)> {
    let ticks = |all: &[Process]| all.iter().map(|p| p.cpu_ticks).fold(0, u64::saturating_add);
    let mut chosen: Vec<_> = users
        .iter()
        .map(|(owner, all)| (all.iter().any(|p| p.pid == main), ticks(all), *owner, all))
        .filter(|(has_main, ticks, ..)| *has_main || *ticks > 0 || idle_too)
        .collect();
    chosen.sort_by_key(|(has_main, ticks, ..)| std::cmp::Reverse((*has_main, *ticks)));
    let is_main = |p: &&Process| p.pid == main;
    let known_by =
        |all: &'a [Process]| all.iter().find(is_main).or_else(|| all.iter().max_by_key(|p| p.cpu_ticks));
    chosen.into_iter().filter_map(|(_, _, owner, all)| Some((owner, known_by(all)?))).collect()
}

/// The capture under way.
struct Run<'a> {
    users: Users<'a>,
    writer: &'a mut SliceWriter,
    emit: &'a mut dyn FnMut(&Event),
    workers: Vec<Worker>,
    gathered: Gathered,
    said: Receiver<(usize, Option<Event>)>,
    /// For the threads that listen.
    to: SyncSender<(usize, Option<Event>)>,
    began: Instant,
    ends: Duration,
    stopped: bool,
    has_started: bool,
}

impl<'a> Run<'a> {
    fn new(users: Users<'a>, writer: &'a mut SliceWriter, emit: &'a mut dyn FnMut(&Event)) -> Self {
        let (to, said) = sync_channel(64);
        Self {
            gathered: Gathered::new(&users.request.profiles, users.memory),
            ends: Duration::from_millis(users.request.duration_ms),
            users,
            writer,
            emit,
            workers: Vec::new(),
            said,
            to,
            began: Instant::now(),
            stopped: false,
            has_started: false,
        }
    }

    /// Starts workers for users that have none.
    fn look(&mut self) {
        let left = self.ends.saturating_sub(self.began.elapsed());
        if left < SHORTEST.min(self.ends) {
            return;
        }
        let request = self.users.request;
        let idle_too = request.profiles.iter().any(|kind| *kind != ProfileKind::Cpu);
        let all = processes(request);
        for (owner, first) in chosen(&all, request.pid, idle_too) {
            let is_known = self.workers.iter().any(|w| w.owner == owner && !w.may_have_successor());
            let alive = self.workers.iter().filter(|worker| !worker.is_over).count();
            if is_known || alive >= self.users.most || self.workers.len() >= MAX_STARTS {
                continue;
            }
            let asked = CaptureRequest {
                pid: first.pid,
                start_ticks: Some(first.start_ticks),
                owner: Some(owner),
                duration_ms: u64::try_from(left.as_millis()).unwrap_or(u64::MAX),
                memory_bytes: Some(self.users.memory),
                ..request.clone()
            };
            let number = self.workers.len();
            let processes = all.get(&owner).map_or(1, Vec::len);
            self.workers.push(Worker::start(number, owner, processes, asked, &self.to));
        }
    }

    /// Takes in what workers say, for a moment.
    fn listen(&mut self) {
        let until = Instant::now() + LISTEN;
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            let Ok((number, event)) = self.said.recv_timeout(left) else { break };
            let Some(worker) = self.workers.get_mut(number) else { continue };
            match event {
                Some(Event::Slice(written)) => {
                    if let Err(failure) = self.gathered.take(number, &worker.directory, &written) {
                        worker.fail(failure);
                    }
                    worker.cover = written.cover.or(worker.cover);
                }
                Some(event) => worker.hear(event),
                None => worker.end(),
            }
        }
        self.tell_started(false);
    }

    /// Says once how the container is captured: in the words of its main process's worker, if that has any.
    fn tell_started(&mut self, now: bool) {
        let spokesman = self.workers.first();
        let waits = spokesman.is_some_and(|w| !w.is_over && w.started.is_none());
        if self.has_started || (waits && !now && self.began.elapsed() < SPOKESMAN) {
            return;
        }
        if let Some(started) = self.workers.iter().find_map(|worker| worker.started.clone()) {
            self.has_started = true;
            (self.emit)(&Event::Started(started));
        }
    }

    /// Passes a stop on, and ends what overstays its time.
    fn stop_or_kill(&mut self, now: Duration) {
        if limits::stop_requested() && !self.stopped {
            self.stopped = true;
            self.ends = now;
            self.workers.iter().for_each(Worker::ask_to_stop);
        }
        if now > self.ends + LATE {
            self.workers.iter_mut().filter(|worker| !worker.is_over).for_each(Worker::end);
        }
    }

    /// Writes what was gathered, a slice of each kind.
    fn flush(&mut self) -> Result<(), Failure> {
        if !self.gathered.is_empty() {
            self.tell_started(true);
        }
        while let Some(written) = self.gathered.write(self.writer)? {
            let progress = limits::progress();
            let cover = self.cover();
            progress.set_cover(cover);
            progress.samples.store(self.gathered.samples(), std::sync::atomic::Ordering::Relaxed);
            progress.slices.store(self.writer.written(), std::sync::atomic::Ordering::Relaxed);
            (self.emit)(&Event::Slice(super::protocol::SliceWritten { cover: Some(cover), ..written }));
        }
        Ok(())
    }

    /// What is covered: CPU time is counted here, and each worker reads the count of the whole container.
    fn cover(&self) -> Cover {
        let covers = || self.workers.iter().filter_map(|worker| worker.cover);
        Cover {
            processes: covers().map(|cover| cover.processes).fold(0, u32::saturating_add),
            cpu_nanos: self.gathered.cpu_nanos(),
            used_nanos: covers().filter_map(|cover| cover.used_nanos).max(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: i32, cpu_ticks: u64) -> Process {
        let (command, container) = ("app".into(), Some("c".into()));
        Process { pid, parent: 0, command, state: b'S', cpu_ticks, start_ticks: 5, container }
    }

    #[test]
    fn the_user_of_the_main_process_comes_first_then_the_busiest_and_idle_ones_wait() {
        let user = |uid| Owner { uid, gid: uid };
        let users = BTreeMap::from([
            (user(0), vec![process(1, 3)]),
            (user(33), vec![process(7, 50), process(8, 90)]),
            (user(70), vec![process(9, 0)]),
            (user(80), vec![process(10, 400)]),
        ]);
        let pids = |main, idle_too| {
            chosen(&users, main, idle_too).into_iter().map(|(o, p)| (o.uid, p.pid)).collect::<Vec<_>>()
        };
        assert_eq!(pids(7, false), [(33, 7), (80, 10), (0, 1)]);
        assert_eq!(pids(9, false), [(70, 9), (80, 10), (33, 8), (0, 1)], "an idle main process counts");
        assert_eq!(pids(1, true), [(0, 1), (80, 10), (33, 8), (70, 9)]);
    }

    #[test]
    fn one_worker_is_enough_where_it_was_not_asked_to_become_anybody() {
        let text = r#"{"pid":1,"container":"c","profiles":["cpu"],"durationMs":1000,"frequencyHz":99,
            "sliceMs":1000,"outputDir":"/tmp"}"#;
        let request: CaptureRequest = serde_json::from_str(text).unwrap();
        assert!(Users::of(&request).is_none());
        let owner = Some(Owner { uid: 0, gid: 0 });
        let request = CaptureRequest { owner, assume_target_uid: true, ..request };
        assert!(Users::of(&request).is_none(), "a worker of one user starts no others");
    }
}
