//! Which container does a process belong to? The id of the container, told by the lines of
//! `/proc/PID/cgroup`.

/// Length of a container's id in hex digits, with every runtime.
const ID_LENGTH: usize = 64;

/// The id of the container in the text of a `/proc/PID/cgroup`; `None` for a process of the host, and for one
/// whose container shares our own cgroup namespace (then it is our own container).
///
/// Understood: cgroup v1 and v2; the cgroupfs and systemd drivers; containerd, CRI-O, Docker and Podman;
/// paths seen from within another cgroup namespace (`/../<id>`); nodes that are containers themselves.
#[must_use]
pub fn container_id(text: &str) -> Option<&str> {
    text.lines().take(64).find_map(|line| in_path(line.splitn(3, ':').nth(2)?))
}

/// A node can be a container, and a container can hold containers. The kubelet's own container is the first
/// one below the last `kubepods`; seen through a cgroup namespace it is the first of all; elsewhere it is the
/// innermost.
fn in_path(path: &str) -> Option<&str> {
    if let Some(at) = path.rfind("kubepods") {
        let below = path.get(at..)?;
        return components(below).next();
    }
    if path.starts_with("/..") { components(path).next() } else { components(path).last() }
}

fn components(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter_map(in_component)
}

/// `<id>`, `docker-<id>.scope`, `crio-<id>.scope`, `cri-containerd-<id>.scope`, `…slice:cri-containerd:<id>`.
fn in_component(component: &str) -> Option<&str> {
    let name = component.strip_suffix(".scope").unwrap_or(component);
    let (prefix, id) = name.split_at_checked(name.len().checked_sub(ID_LENGTH)?)?;
    let is_hex = id.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    let is_apart = prefix.is_empty() || prefix.ends_with(['-', ':']);
    // The monitor of a CRI-O container carries the container's id but runs none of its processes.
    let is_monitor = prefix.contains("conmon");
    (is_hex && is_apart && !is_monitor).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const B: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn every_runtime_and_driver_is_understood() {
        let cases = [
            (
                "cgroup v2, systemd, containerd",
                "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podX.slice/cri-containerd-{A}.scope",
                Some(A),
            ),
            ("cgroup v2, cgroupfs, containerd", "0::/kubepods/burstable/pod1b/{A}", Some(A)),
            ("cgroup v2, CRI-O", "0::/kubepods.slice/kubepods-podX.slice/crio-{A}.scope/container", Some(A)),
            ("cgroup v2, Docker", "0::/kubepods.slice/kubepods-podX.slice/docker-{A}.scope", Some(A)),
            ("a cgroup namespace, systemd", "0::/../cri-containerd-{A}.scope", Some(A)),
            ("a cgroup namespace, cgroupfs", "0::/../{A}/init", Some(A)),
            ("a cgroup namespace, containers within", "0::/../{A}/docker/{B}", Some(A)),
            (
                "cgroup v1, several lines",
                "12:pids:/kubepods/besteffort/pod1/{A}\n1:name=systemd:/kubepods/besteffort/pod1/{A}\n0::/",
                Some(A),
            ),
            ("cgroup v1, the first line without id", "3:cpuset:/\n2:cpu,cpuacct:/kubepods/pod1/{A}", Some(A)),
            (
                "containerd's slice with colons",
                "1:memory:/system.slice/containerd.service/kubepods-podX.slice:cri-containerd:{A}",
                Some(A),
            ),
            ("a node that is a container", "0::/docker/{B}/kubelet/kubepods/pod1/{A}", Some(A)),
            ("a container in a container", "0::/kubepods/pod1/{A}/docker/{B}", Some(A)),
            ("Docker alone", "0::/docker/{A}", Some(A)),
            ("Podman", "0::/machine.slice/libpod-{A}.scope/container", Some(A)),
            ("our own cgroup namespace", "0::/", None),
            ("a process of the host", "0::/system.slice/sshd.service", None),
            ("CRI-O's monitor", "0::/kubepods.slice/crio-conmon-{A}.scope", None),
            ("an id that is too long", "0::/kubepods/f{A}", None),
            ("an id that is too short", "0::/kubepods/8391a15b064721d58d9b0229df8983b0", None),
            (
                "upper case is not an id",
                "0::/kubepods/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
                None,
            ),
            ("a character of several bytes at the cut", "0::/kubepods/é{A}", None),
            ("nothing", "", None),
            ("no cgroup line", "garbage", None),
        ];
        for (what, text, wanted) in cases {
            let text = text.replace("{A}", A).replace("{B}", B);
            assert_eq!(container_id(&text), wanted, "{what}");
        }
    }
}
