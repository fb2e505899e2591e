//! Which containers are there to be profiled, and by which of its processes is each known? Pure functions.
//!
//! A capture is of all processes of a container. The one that uses most CPU gives it its runtime, and its
//! user to the worker.

use std::collections::{BTreeMap, HashMap};

use crate::proc::Process;

/// Command of an agent, as the kernel cuts it to 15 bytes.
const AGENT_COMMAND: &str = "fleetprof-agent";
/// Command of the process that holds a pod's namespaces open.
const PAUSE_COMMAND: &str = "pause";
/// What part of a container's CPU time a program uses at least that does its work: one in so many.
const WORKING_SHARE: u64 = 10;
/// Clock ticks that tell who works: 0.1 s. A shell that starts the program takes less.
const PROVEN_TICKS: u64 = 10;
/// A container and the processes in it, in the order of their pids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// The runtime's id.
    pub id: String,
    /// Its living processes, never empty.
    pub processes: Vec<Process>,
}

/// The containers that can be profiled, at most `max`: never our own, another agent's, nor the pod's pause
/// container.
#[must_use]
pub fn containers(processes: &[Process], own_pid: i32, max: usize) -> Vec<Container> {
    let own = processes.iter().find(|p| p.pid == own_pid).and_then(|p| p.container.as_deref());
    let mut groups: BTreeMap<&str, Vec<Process>> = BTreeMap::new();
    for process in processes.iter().filter(|p| p.is_alive()) {
        if let Some(id) = process.container.as_deref().filter(|id| Some(*id) != own) {
            groups.entry(id).or_default().push(process.clone());
        }
    }
    let profiled = groups.into_iter().filter(|(_, members)| !is_infrastructure(members));
    let mut all: Vec<Container> =
        profiled.map(|(id, processes)| Container { id: id.to_owned(), processes }).collect();
    all.sort_by_key(|c| c.processes.first().map(|p| p.pid));
    all.truncate(max);
    all
}

fn is_infrastructure(members: &[Process]) -> bool {
    let is_agent = members.first().is_some_and(|p| p.command == AGENT_COMMAND);
    is_agent || members.iter().all(|p| p.command == PAUSE_COMMAND)
}

/// Whether the pod's pause container is visible, so that the pod shares its process namespace.
#[must_use]
pub fn sees_pause(processes: &[Process]) -> bool {
    processes.iter().any(|p| p.command == PAUSE_COMMAND)
}

/// CPU time of processes at an earlier moment, by pid and start time.
pub type Earlier = HashMap<(i32, u64), u64>;

/// The CPU times of now, for the choice of later.
#[must_use]
pub fn cpu_times(processes: &[Process]) -> Earlier {
    processes.iter().map(|p| ((p.pid, p.start_ticks), p.cpu_ticks)).collect()
}

/// The process that a container is known by: the busiest since `earlier`; where that is even, the busiest of
/// all time, then the oldest. Names and parents say nothing: a shell may wait or work, and what a daemon has
/// for a parent is an accident.
#[must_use]
pub fn main_process<'a>(container: &'a Container, earlier: &Earlier) -> Option<&'a Process> {
    let lately = |p: &Process| {
        earlier.get(&(p.pid, p.start_ticks)).map_or(0, |before| p.cpu_ticks.saturating_sub(*before))
    };
    container
        .processes
        .iter()
        .max_by_key(|p| (lately(p), p.cpu_ticks, std::cmp::Reverse((p.start_ticks, p.pid))))
}

/// Programs that do a container's work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Working<'a> {
    /// Of each program its busiest process, but the one of `main`; the busiest first.
    pub others: Vec<&'a Process>,
    /// Whether CPU time tells that they do. Where hardly any was used, they are all that run.
    pub is_proven: bool,
}

/// The programs that do a container's work beside the one that `main` runs, at most `max`: those whose
/// processes used a tenth of the CPU time of all that live. Helpers that wait do not: what is captured of
/// them says nothing about the container.
#[must_use]
pub fn working<'a>(container: &'a Container, main: &Process, max: usize) -> Working<'a> {
    let mut programs: BTreeMap<&str, (u64, &Process)> = BTreeMap::new();
    for process in &container.processes {
        let (used, busiest) = programs.entry(&process.command).or_insert((0, process));
        *used = used.saturating_add(process.cpu_ticks);
        if process.cpu_ticks > busiest.cpu_ticks {
            *busiest = process;
        }
    }
    let total = programs.values().fold(0_u64, |sum, (used, _)| sum.saturating_add(*used));
    let is_proven = total >= PROVEN_TICKS;
    let works = |used: u64| !is_proven || used.saturating_mul(WORKING_SHARE) >= total;
    let mut others: Vec<(u64, &Process)> = programs
        .into_iter()
        .filter(|(command, (used, _))| *command != main.command && works(*used))
        .map(|(_, program)| program)
        .collect();
    others.sort_by_key(|(used, process)| (std::cmp::Reverse(*used), process.pid));
    Working { others: others.into_iter().map(|(_, process)| process).take(max).collect(), is_proven }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: i32, parent: i32, command: &str, cpu_ticks: u64, container: &str) -> Process {
        let container = (!container.is_empty()).then(|| container.to_owned());
        Process { pid, parent, command: command.into(), state: b'S', cpu_ticks, start_ticks: 5, container }
    }

    fn container(processes: &[(i32, i32, &str, u64)]) -> Container {
        let processes = processes
            .iter()
            .map(|(pid, parent, command, cpu)| process(*pid, *parent, command, *cpu, "a"))
            .collect();
        Container { id: "a".into(), processes }
    }

    #[test]
    fn the_agent_pause_and_the_dead_are_no_targets() {
        let mut zombie = process(30, 1, "dead", 0, "z");
        zombie.state = b'Z';
        let seen = [
            process(1, 0, "pause", 0, "p"),
            process(9, 1, "python3", 0, "web"),
            process(10, 9, "pause", 0, "web"),
            process(7, 1, "redis", 0, "cache"),
            process(20, 1, "fleetprof-agent", 0, "own"),
            process(21, 20, "python3", 0, "own"),
            process(25, 1, "fleetprof-agent", 0, "other-agent"),
            zombie,
            process(99, 0, "sshd", 0, ""),
        ];
        let found = containers(&seen, 20, 64);
        assert_eq!(found.iter().map(|c| c.id.as_str()).collect::<Vec<_>>(), ["cache", "web"]);
        assert_eq!(found[1].processes.len(), 2);
        assert_eq!(containers(&seen, 20, 1).len(), 1);
        assert!(sees_pause(&seen) && !sees_pause(&seen[3..4]));
    }

    #[test]
    fn a_container_is_known_by_its_busiest_process_whatever_its_name_and_parent() {
        type Case = (&'static str, &'static [(i32, i32, &'static str, u64)], &'static [(i32, u64)], i32);
        let cases: &[Case] = &[
            ("a single process", &[(1, 0, "server", 3)], &[], 1),
            ("a shell that waits", &[(1, 0, "entrypoint.sh", 1), (7, 1, "server", 9)], &[], 7),
            ("a shell that works itself", &[(1, 0, "bash", 99), (7, 1, "sleep", 0)], &[], 1),
            ("a child of another kind", &[(1, 0, "java", 10), (8, 1, "convert", 500)], &[], 8),
            ("a daemon of the pause process", &[(1, 0, "tail", 0), (9, 1, "python3", 7)], &[], 9),
            (
                "workers with names of their own: the busiest ever",
                &[(1, 0, "gunicorn: maste", 2), (7, 1, "gunicorn: worke", 50), (8, 1, "gunicorn: worke", 70)],
                &[],
                8,
            ),
            (
                "the busiest lately",
                &[(1, 0, "gunicorn", 2), (7, 1, "gunicorn", 50), (8, 1, "gunicorn", 70)],
                &[(1, 2), (7, 10), (8, 69)],
                7,
            ),
            ("idle workers: the oldest", &[(1, 0, "node", 0), (7, 1, "node", 0)], &[], 1),
        ];
        for (what, processes, earlier, wanted) in cases {
            let container = container(processes);
            let earlier = earlier.iter().map(|(pid, cpu)| ((*pid, 5), *cpu)).collect();
            assert_eq!(main_process(&container, &earlier).map(|p| p.pid), Some(*wanted), "{what}");
        }
    }

    #[test]
    fn programs_that_use_a_tenth_of_the_cpu_time_do_the_work_and_helpers_do_not() {
        type Case = (&'static str, &'static [(i32, i32, &'static str, u64)], i32, &'static [i32], bool);
        let cases: &[Case] = &[
            (
                "Erlang and its helpers",
                &[(1, 0, "beam.smp", 90), (7, 1, "erl_child_setup", 1), (8, 7, "inet_gethost", 0)],
                1,
                &[],
                true,
            ),
            (
                "a web server and its workers",
                &[(1, 0, "nginx", 1), (2, 1, "nginx", 9), (3, 0, "php-fpm", 60), (4, 3, "php-fpm", 30)],
                3,
                &[2],
                true,
            ),
            (
                "many that do little each, but much together",
                &[(1, 0, "java", 80), (2, 1, "log", 4), (3, 1, "log", 5), (4, 1, "log", 1), (5, 1, "sh", 1)],
                1,
                &[3],
                true,
            ),
            ("just below a tenth", &[(1, 0, "app", 91), (2, 1, "tail", 9)], 1, &[], true),
            ("just a tenth", &[(1, 0, "app", 90), (2, 1, "tail", 10)], 1, &[2], true),
            (
                "nobody did anything yet",
                &[(1, 0, "sh", 1), (2, 1, "node", 2), (3, 1, "log", 0)],
                2,
                &[1, 3],
                false,
            ),
        ];
        for (what, processes, main, others, is_proven) in cases {
            let container = container(processes);
            let main = container.processes.iter().find(|p| p.pid == *main).unwrap();
            let working = working(&container, main, 7);
            let pids: Vec<i32> = working.others.iter().map(|p| p.pid).collect();
            assert_eq!((pids.as_slice(), working.is_proven), (*others, *is_proven), "{what}");
        }
    }

    #[test]
    fn of_many_programs_the_busiest_are_looked_at() {
        let container = container(&[(1, 0, "a", 10), (2, 0, "b", 30), (3, 0, "c", 20), (4, 0, "d", 40)]);
        let working = working(&container, &container.processes[3], 2);
        assert_eq!(working.others.iter().map(|p| p.pid).collect::<Vec<_>>(), [2, 3]);
    }

    #[test]
    fn a_reused_pid_has_no_past() {
        let container = container(&[(1, 0, "node", 50), (7, 1, "node", 60)]);
        let earlier = HashMap::from([((7, 4), 0), ((1, 5), 40)]);
        assert_eq!(main_process(&container, &earlier).map(|p| p.pid), Some(1));
    }
}
