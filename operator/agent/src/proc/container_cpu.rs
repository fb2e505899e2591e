//! How much CPU time did a container use, by the count of its own cgroup?

use std::path::{Path, PathBuf};

use super::{ProcTree, cgroup, read_bounded};

/// Most bytes of a cgroup file.
const MAX_BYTES: u64 = 16 * 1024;

/// CPU time that the container used since its start, in nanoseconds, read through one of its processes.
/// `None` where the process is not of the container or is gone, and where its files may not be read.
#[must_use]
pub fn container_cpu(pid: i32, container: &str) -> Option<u64> {
    let tree = ProcTree::new("/proc");
    let text = tree.cgroup(pid).ok()?;
    let is_inside = cgroup::container_id(&text) == Some(container);
    is_inside.then(|| read(&tree.path(pid, "root/sys/fs/cgroup"), &text, container)).flatten()
}

fn read(mount: &Path, cgroup: &str, container: &str) -> Option<u64> {
    files(cgroup, container).into_iter().find_map(|file| {
        let text = read_bounded(mount.join(file), MAX_BYTES).ok()?;
        parse(&String::from_utf8_lossy(&text))
    })
}

/// Where the count may stand below the mount, best first: the node's whole tree can be mounted there, or the
/// container's own cgroup alone.
fn files(cgroup: &str, container: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in cgroup.lines().take(64) {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let counts_cpu = controllers.split(',').any(|c| c == "cpuacct");
        let folders: &[&str] = match controllers {
            "" => &[""],
            _ if counts_cpu => &[controllers, "cpuacct"],
            _ => continue,
        };
        let file = if controllers.is_empty() { "cpu.stat" } else { "cpuacct.usage" };
        for folder in folders {
            files.extend(own_part(path, container).map(|own| Path::new(folder).join(own).join(file)));
            files.push(Path::new(folder).join(file));
        }
    }
    files
}

/// The path down to the container's own cgroup: it may have others within. `None` where the path is of
/// another cgroup namespace.
fn own_part<'a>(path: &'a str, container: &str) -> Option<&'a str> {
    let path = path.strip_prefix('/').filter(|path| !path.starts_with(".."))?;
    let id = path.find(container)? + container.len();
    let end = path.get(id..)?.find('/').map_or(path.len(), |more| id + more);
    path.get(..end)
}

/// `usage_usec` of `cpu.stat`, or the number of `cpuacct.usage`.
fn parse(text: &str) -> Option<u64> {
    let micros = text.lines().find_map(|line| line.strip_prefix("usage_usec "));
    match micros {
        Some(micros) => micros.trim().parse::<u64>().ok()?.checked_mul(1000),
        None => text.trim().parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn both_versions_count_cpu_time() {
        assert_eq!(parse("usage_usec 42\nuser_usec 40\n"), Some(42_000));
        assert_eq!(parse("4711\n"), Some(4711));
        assert_eq!((parse("user_usec 40\n"), parse("usage_usec x\n"), parse("")), (None, None, None));
    }

    #[test]
    fn the_count_is_looked_for_in_the_tree_of_the_node_and_in_the_cgroup_alone() {
        let cases: [(&str, &[&str]); 5] = [
            ("0::/../{ID}", &["cpu.stat"]),
            (
                "0::/kubepods.slice/cri-containerd-{ID}.scope",
                &["kubepods.slice/cri-containerd-{ID}.scope/cpu.stat", "cpu.stat"],
            ),
            ("0::/kubepods/pod1/{ID}/init", &["kubepods/pod1/{ID}/cpu.stat", "cpu.stat"]),
            (
                "5:memory:/kubepods/{ID}\n4:cpu,cpuacct:/kubepods/{ID}\n1:name=systemd:/x",
                &[
                    "cpu,cpuacct/kubepods/{ID}/cpuacct.usage",
                    "cpu,cpuacct/cpuacct.usage",
                    "cpuacct/kubepods/{ID}/cpuacct.usage",
                    "cpuacct/cpuacct.usage",
                ],
            ),
            ("garbage", &[]),
        ];
        for (cgroup, wanted) in cases {
            let named = |text: &str| text.replace("{ID}", ID);
            let wanted: Vec<PathBuf> = wanted.iter().map(|path| named(path).into()).collect();
            assert_eq!(files(&named(cgroup), ID), wanted, "{cgroup}");
        }
    }

    /// The tree of cgroup v2, which machines with v1 have beside it.
    const UNIFIED: &str = "/sys/fs/cgroup/unified";
    /// A process in the cgroup `$0` that sees what a process of a container does: its own cgroup as root, mounted at
    /// the usual place.
    const CONTAINED: &str = r#"echo $$ > "$0/cgroup.procs" && exec unshare --mount --cgroup sh -c \
        'mount -t cgroup2 none /sys/fs/cgroup && echo mounted && while :; do :; done'"#;

    /// A cgroup of the test, and the busy process in it.
    struct Cgroup(PathBuf, Option<std::process::Child>);

    impl Drop for Cgroup {
        fn drop(&mut self) {
            if let Some(process) = &mut self.1 {
                let _ = process.kill();
                let _ = process.wait();
            }
            std::fs::remove_dir(&self.0).expect("the test's own cgroup is removed");
        }
    }

    #[test]
    fn a_kernel_with_cgroup_v2_counts_what_a_container_uses() {
        use std::io::{BufRead, BufReader};
        use std::process::{Command, Stdio};
        use std::time::Duration;

        let id = format!("{:064x}", std::process::id());
        let path = Path::new(UNIFIED).join(&id);
        if let Err(error) = std::fs::create_dir(&path) {
            eprintln!("SKIPPED: cgroup v2 is not tested, as {} cannot be made: {error}", path.display());
            return;
        }
        let mut cgroup = Cgroup(path, None);
        let mut command = Command::new("sh");
        command.args(["-c", CONTAINED]).arg(&cgroup.0).stdout(Stdio::piped());
        let process = cgroup.1.insert(command.spawn().unwrap());
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "mounted\n");
        let pid = i32::try_from(process.id()).unwrap();
        let of_node = || {
            let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
            let own = text.lines().find(|line| line.starts_with("0::")).unwrap();
            read(Path::new(UNIFIED), own, &id).unwrap()
        };
        let used_by_process = || {
            let text = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap();
            text.split(' ').next().unwrap().parse::<u64>().unwrap()
        };
        let (before, began) = (container_cpu(pid, &id).unwrap(), used_by_process());
        std::thread::sleep(Duration::from_secs(1));
        let (after, ended) = (container_cpu(pid, &id).unwrap(), used_by_process());
        let (counted, used) = ((after - before) as f64, (ended - began) as f64);
        assert!(used > 0.0 && (counted / used - 1.0).abs() < 0.1, "{counted} ns counted, {used} ns used");
        assert!(of_node() >= after, "the tree of the node counts the same");
    }

    #[test]
    fn a_process_of_no_container_has_no_count() {
        let me = i32::try_from(std::process::id()).unwrap();
        assert_eq!(container_cpu(me, ID), None);
        assert_eq!(container_cpu(i32::MAX, ID), None);
    }
}
