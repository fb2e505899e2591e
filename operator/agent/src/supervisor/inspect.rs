//! What can be read of a process that only its own user may inspect? Its cgroup's figures, its runtime, and
//! what can be captured of it.
//!
//! `/proc/PID/root` and `/proc/PID/exe` open only to the process's own user. A root agent with the runtime's
//! default capabilities may not open them either, but may start a child as the target's user:
//! `fleetprof-agent inspect --pid N` prints what it finds as one line of JSON. A child also takes the look
//! that may take a while, see [`Sight::quick`].

use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use fleetprof_crds::wire::Offer;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt;

use super::signals::{self, Counters};
use super::usage::{self, Reading};
use crate::capture::collector;
use crate::capture::runtime::Runtime;
use crate::capture::sight::{HOST_NETWORK, Sight};
use crate::proc::{Owner, ProcTree};

/// Most bytes of a child's answer.
const MAX_ANSWER: u64 = 16 * 1024;
/// How long a child may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// What was read of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Inspection {
    /// Figures of its container's cgroup; `None` where they cannot be read.
    pub usage: Option<Reading>,
    /// What it runs and what can be captured of it; `None` where it was not asked for or may not be known.
    #[serde(default)]
    pub seen: Option<Seen>,
    /// Other counters of its container's cgroup; `None` where they were not asked for or cannot be read.
    #[serde(default)]
    pub counters: Option<Counters>,
}

/// What is wanted beside the use of CPU and memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// What the process runs and what can be captured of it.
    pub sight: bool,
    /// Other counters of its container's cgroup.
    pub counters: bool,
}

/// What a process runs and what can be captured of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Seen {
    /// Its runtime, such as `Python 3.11`.
    pub runtime: String,
    /// What can be captured.
    pub offers: Vec<Offer>,
}

impl From<&Sight> for Seen {
    fn from(sight: &Sight) -> Self {
        Self { runtime: sight.runtime.to_string(), offers: collector::offers(sight) }
    }
}

/// Inspects a process as the agent's own user, without what may take a while; says whether something does.
fn quick(tree: &ProcTree, pid: i32, wanted: Wanted) -> (Inspection, bool) {
    let sight = wanted.sight.then(|| Sight::quick(pid));
    let takes_a_while = matches!(sight, Some(None));
    let seen = sight.flatten().as_ref().and_then(known);
    let counters = wanted.counters.then(|| counters_of(tree, pid)).flatten();
    (Inspection { usage: usage_of(tree, pid), seen, counters }, takes_a_while)
}

fn known(sight: &Sight) -> Option<Seen> {
    (sight.runtime != Runtime::Unknown).then(|| Seen::from(sight))
}

fn usage_of(tree: &ProcTree, pid: i32) -> Option<Reading> {
    cgroup_roots(tree, pid).find_map(|root| usage::read(&root).ok())
}

fn counters_of(tree: &ProcTree, pid: i32) -> Option<Counters> {
    cgroup_roots(tree, pid).find_map(|root| signals::read(&root))
}

/// Where the cgroup of a process may be mounted: at its own `/sys/fs/cgroup`, which holds its container's
/// cgroup alone; where that shows the node's tree, at its path below it.
fn cgroup_roots(tree: &ProcTree, pid: i32) -> impl Iterator<Item = std::path::PathBuf> {
    let mount = tree.path(pid, "root/sys/fs/cgroup");
    let path =
        tree.cgroup(pid).unwrap_or_default().lines().find_map(|l| l.strip_prefix("0::/").map(str::to_owned));
    let below = path.filter(|p| !p.is_empty() && !p.starts_with("..")).map(|p| mount.join(p));
    below.into_iter().chain([mount])
}

/// Inspects a process; by a child where a look takes a while, or as its own user where the agent is root and
/// the process is not.
pub async fn inspect(tree: &ProcTree, pid: i32, wanted: Wanted) -> Inspection {
    let (found, takes_a_while) = quick(tree, pid, wanted);
    let owner = tree.owner(pid).filter(|owner| owner.uid != 0 && nix::unistd::geteuid().is_root());
    let lacks = found.usage.is_none()
        || (wanted.sight && found.seen.is_none())
        || (wanted.counters && found.counters.is_none());
    if !(takes_a_while || lacks && owner.is_some()) {
        return found;
    }
    match by_child(pid, owner, wanted).await {
        Some(Inspection { usage, seen, counters }) => Inspection {
            usage: found.usage.or(usage),
            seen: found.seen.or(seen),
            counters: found.counters.or(counters),
        },
        None => found,
    }
}

async fn by_child(pid: i32, user: Option<Owner>, wanted: Wanted) -> Option<Inspection> {
    let mut command = tokio::process::Command::new("/proc/self/exe");
    command.env_clear().args(["inspect", "--pid", &pid.to_string()]).kill_on_drop(true);
    if let Ok(value) = std::env::var(HOST_NETWORK) {
        command.env(HOST_NETWORK, value);
    }
    if let Some(Owner { uid, gid }) = user {
        command.uid(uid).gid(gid);
    }
    for (is_wanted, flag) in [(wanted.sight, "--sight"), (wanted.counters, "--counters")] {
        if is_wanted {
            command.arg(flag);
        }
    }
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().ok()?;
    // The child runs as the target's user, who could make it write without end.
    let mut stdout = child.stdout.take()?.take(MAX_ANSWER);
    let mut answer = Vec::new();
    let read = tokio::time::timeout(TIMEOUT, stdout.read_to_end(&mut answer)).await;
    let _ = child.kill().await;
    read.ok()?.ok()?;
    serde_json::from_slice(&answer).ok()
}

/// What the child does: inspect the process and print the result.
pub fn main(pid: i32, wanted: Wanted) -> io::Result<()> {
    let sight = wanted.sight.then(|| Sight::of(pid));
    let tree = ProcTree::new(Path::new("/proc"));
    let counters = wanted.counters.then(|| counters_of(&tree, pid)).flatten();
    let found = Inspection { usage: usage_of(&tree, pid), seen: sight.as_ref().and_then(known), counters };
    serde_json::to_writer(io::stdout().lock(), &found)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> std::path::PathBuf {
        let dir = std::env::temp_dir().join(format!("fleetprof-inspect-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        dir
    }

    fn write_v2(dir: &Path, memory: &str) {
        std::fs::create_dir_all(dir).unwrap();
        let files = [
            ("memory.current", memory),
            ("memory.max", "max"),
            ("memory.stat", ""),
            ("cpu.stat", "usage_usec 1"),
            ("cpu.max", "max 100000"),
        ];
        files.iter().for_each(|(name, text)| std::fs::write(dir.join(name), text).unwrap());
    }

    #[test]
    fn the_cgroup_is_found_at_its_mount_or_below_it() {
        let dir = scratch("found");
        let (tree, mount) = (ProcTree::new(&dir), dir.join("7/root/sys/fs/cgroup"));
        assert_eq!(quick(&tree, 7, Wanted::default()), (Inspection::default(), false));
        write_v2(&mount, "1000");
        std::fs::write(dir.join("7/cgroup"), "0::/../abc\n").unwrap();
        assert_eq!(usage_of(&tree, 7).unwrap().memory_bytes, 1000, "a mount of its own");
        std::fs::write(dir.join("7/cgroup"), "0::/kubepods/pod1/abc\n").unwrap();
        write_v2(&mount.join("kubepods/pod1/abc"), "50");
        assert_eq!(usage_of(&tree, 7).unwrap().memory_bytes, 50, "the node's whole tree");
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_container_of_cgroup_v1_is_measured_against_its_own_limits() {
        let dir = scratch("v1");
        let mount = dir.join("7/root/sys/fs/cgroup");
        // As runc mounts it: a folder for each pair of controllers, and a link for each of the two.
        for folder in ["memory", "cpu,cpuacct"] {
            std::fs::create_dir_all(mount.join(folder)).unwrap();
        }
        for link in ["cpu", "cpuacct"] {
            std::os::unix::fs::symlink("cpu,cpuacct", mount.join(link)).unwrap();
        }
        let files = [
            ("memory/memory.usage_in_bytes", "1000"),
            ("memory/memory.limit_in_bytes", "2000"),
            ("memory/memory.stat", "total_inactive_file 200"),
            ("cpu,cpuacct/cpuacct.usage", "7"),
            ("cpu,cpuacct/cpu.cfs_quota_us", "40000"),
            ("cpu,cpuacct/cpu.cfs_period_us", "100000"),
        ];
        files.iter().for_each(|(name, text)| std::fs::write(mount.join(name), text).unwrap());
        std::fs::write(dir.join("7/cgroup"), "4:memory:/kubepods/pod1/abc\n0::/\n").unwrap();
        let wanted = Reading {
            cpu_nanos: 7,
            cpu_limit_millis: Some(400),
            periods: None,
            memory_bytes: 800,
            memory_limit: Some(2000),
        };
        assert_eq!(usage_of(&ProcTree::new(&dir), 7), Some(wanted));
        std::fs::remove_dir_all(dir).unwrap();
    }
}
