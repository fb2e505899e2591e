//! What can be read of a process that only its own user may inspect? Its cgroup's figures and its runtime.
//!
//! `/proc/PID/root` and `/proc/PID/exe` open only to the process's own user. A root agent with the runtime's
//! default capabilities may not open them either, but may start a child as the target's user: `fleetprof-agent
//! inspect --pid N` prints what it finds as one line of JSON.

use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt;

use super::usage::{self, Reading};
use crate::capture::runtime::{self, Runtime};
use crate::proc::{Owner, ProcTree};

/// Most bytes of a child's answer.
const MAX_ANSWER: u64 = 4096;
/// How long a child may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// What was read of a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Inspection {
    /// Figures of its container's cgroup; `None` where they cannot be read.
    pub usage: Option<Reading>,
    /// Its runtime, such as `Python 3.11`; `None` where it was not asked for or may not be known.
    pub runtime: Option<String>,
}

/// Inspects a process as the agent's own user.
#[must_use]
pub fn direct(tree: &ProcTree, pid: i32, with_runtime: bool) -> Inspection {
    let usage = cgroup_roots(tree, pid).find_map(|root| usage::read(&root).ok());
    let runtime = with_runtime.then(|| runtime::detect(pid)).filter(|r| *r != Runtime::Unknown);
    Inspection { usage, runtime: runtime.map(|r| r.to_string()) }
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

/// Inspects a process; as its own user where the agent is root and the process is not.
pub async fn inspect(tree: &ProcTree, pid: i32, with_runtime: bool) -> Inspection {
    let found = direct(tree, pid, with_runtime);
    let owner = tree.owner(pid).filter(|owner| owner.uid != 0 && nix::unistd::geteuid().is_root());
    match owner {
        Some(owner) if found.usage.is_none() || (with_runtime && found.runtime.is_none()) => {
            as_user(pid, owner, with_runtime).await.unwrap_or(found)
        }
        _ => found,
    }
}

async fn as_user(pid: i32, Owner { uid, gid }: Owner, with_runtime: bool) -> Option<Inspection> {
    let mut command = tokio::process::Command::new("/proc/self/exe");
    command.env_clear().args(["inspect", "--pid", &pid.to_string()]).uid(uid).gid(gid).kill_on_drop(true);
    if with_runtime {
        command.arg("--runtime");
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
pub fn main(pid: i32, with_runtime: bool) -> io::Result<()> {
    let found = direct(&ProcTree::new(Path::new("/proc")), pid, with_runtime);
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
        assert_eq!(direct(&tree, 7, false), Inspection { usage: None, runtime: None });
        write_v2(&mount, "1000");
        std::fs::write(dir.join("7/cgroup"), "0::/../abc\n").unwrap();
        assert_eq!(direct(&tree, 7, false).usage.unwrap().memory_bytes, 1000, "a mount of its own");
        std::fs::write(dir.join("7/cgroup"), "0::/kubepods/pod1/abc\n").unwrap();
        write_v2(&mount.join("kubepods/pod1/abc"), "50");
        assert_eq!(direct(&tree, 7, false).usage.unwrap().memory_bytes, 50, "the node's whole tree");
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
            memory_bytes: 800,
            memory_limit: Some(2000),
        };
        assert_eq!(direct(&ProcTree::new(&dir), 7, false).usage, Some(wanted));
        std::fs::remove_dir_all(dir).unwrap();
    }
}
