//! What the supervisor's tests stand on: a fake gateway, a tree of processes, workers that are scripts, and
//! the real agent.

#![allow(dead_code, missing_docs)]

mod authority;
pub mod gateway;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fleetprof_crds::ProfileKind;
use fleetprof_crds::wire::{Order, OrderList};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

pub use authority::Authority;
pub use gateway::{FakeGateway, Fault};

/// The id of the container that is captured.
pub const BOX: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
pub const TOKEN: &str = "token-of-the-pod";

pub fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap()
}

pub fn order(capture: &str) -> Order {
    Order {
        capture: capture.into(),
        session: "session".into(),
        protocol: 1,
        container_id: format!("containerd://{BOX}"),
        profiles: vec![ProfileKind::Cpu],
        frequency_hz: 99,
        duration_ms: 10_000,
        slice_ms: 10_000,
        start_before: now() + 60,
        start_within_ms: None,
        cancel: false,
    }
}

/// The orders as a gateway of protocol 1 says them.
pub fn first_words(list: &OrderList) -> serde_json::Value {
    let mut list = serde_json::to_value(list).unwrap();
    for order in list["orders"].as_array_mut().unwrap() {
        let order = order.as_object_mut().unwrap();
        order.retain(|word, _| !["profiles", "startWithinMs"].contains(&word.as_str()));
    }
    list
}

/// A directory of a test, removed at its end.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("fleetprof-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().join(name);
        fs::create_dir_all(dir.join("spool")).unwrap();
        fs::create_dir_all(dir.join("kept")).unwrap();
        fs::write(dir.join("token"), TOKEN).unwrap();
        Self(dir)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Puts a process into the tree of processes, as the only one of [`BOX`]: it uses no CPU and 25 % of its
    /// memory.
    pub fn put_process(&self, pid: u32) {
        let dir = self.path(&format!("proc/{pid}"));
        let cgroup = dir.join("root/sys/fs/cgroup");
        fs::create_dir_all(&cgroup).unwrap();
        for file in ["stat", "status"] {
            let real = format!("/proc/{pid}/{file}");
            fs::copy(&real, dir.join(file)).unwrap();
            let owner = fs::metadata(&real).unwrap();
            let _needs_root = std::os::unix::fs::chown(dir.join(file), Some(owner.uid()), Some(owner.gid()));
        }
        fs::write(dir.join("cgroup"), format!("0::/../cri-containerd-{BOX}.scope\n")).unwrap();
        let files = [
            ("memory.current", "250000000"),
            ("memory.max", "1000000000"),
            ("memory.stat", "inactive_file 0"),
            ("cpu.stat", "usage_usec 5"),
            ("cpu.max", "50000 100000"),
        ];
        files.iter().for_each(|(name, text)| fs::write(cgroup.join(name), text).unwrap());
    }

    /// Writes a worker: a script that notes its request and when it began, and then does `body`. Functions
    /// for the body: `slice SEQ BYTES [KIND]`, `started`, `finished SAMPLES STOPPED`.
    pub fn worker(&self, body: &str) -> PathBuf {
        let path = self.path("worker");
        let kept = self.path("kept");
        let runs = self.path("runs");
        let script = format!(
            r#"#!/bin/sh
began=$(date +%s%N)
read -r request
echo "$began $request" >> {runs}
env > {runs}.env
out=$(echo "$request" | sed 's/.*"outputDir":"\([^"]*\)".*/\1/')
started() {{ echo '{{"started":{{"runtime":"Python 3.11","collector":"Python","method":"py-spy","why":"a test","startNanos":5000000000}}}}'; }}
slice() {{
  kind=${{3:-cpu}}; name=$kind-$1
  head -c "$2" /dev/urandom > "$out/.tmp"; cp "$out/.tmp" {kept}/$name; mv "$out/.tmp" "$out/$name.pb.gz"
  echo '{{"slice":{{"kind":"'$kind'","seq":'$1',"bytes":'$2',"samples":10,"startNanos":1,"durationNanos":1}}}}'
}}
finished() {{ echo '{{"finished":{{"samples":'$1',"expected":9,"taken":9,"lost":0,"slices":1,"targetExited":false,"stopped":'$2',"notes":[]}}}}'; exit 0; }}
{body}
"#,
            kept = kept.display(),
            runs = runs.display(),
        );
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    /// When each run of the worker began, nanoseconds since 1970, and its request.
    pub fn runs(&self) -> Vec<(u128, String)> {
        let text = fs::read_to_string(self.path("runs")).unwrap_or_default();
        text.lines()
            .map(|l| l.split_once(' ').unwrap())
            .map(|(at, request)| (at.parse().unwrap(), request.to_owned()))
            .collect()
    }

    pub fn wait_for_runs(&self, n: usize) {
        let start = Instant::now();
        while self.runs().len() < n {
            assert!(start.elapsed() < Duration::from_secs(30), "the worker did not run {n} times");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The bytes of a CPU slice.
    pub fn kept(&self, seq: u32) -> Vec<u8> {
        self.kept_of(ProfileKind::Cpu, seq)
    }

    pub fn kept_of(&self, kind: ProfileKind, seq: u32) -> Vec<u8> {
        fs::read(self.path("kept").join(format!("{kind}-{seq}"))).unwrap()
    }

    /// The slices in the spool.
    pub fn spooled(&self) -> usize {
        let dirs = fs::read_dir(self.path("spool/slices")).into_iter().flatten().flatten();
        dirs.flat_map(|d| fs::read_dir(d.path()).into_iter().flatten().flatten()).count()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the agent's log\n{}", self.log());
        }
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A process that waits to be captured.
pub struct Sleeper(pub Child);

impl Sleeper {
    pub fn new(scratch: &Scratch) -> Self {
        Self::start(scratch, &mut Command::new("sleep"))
    }

    /// One that another user owns; only root can start it.
    pub fn of_user(scratch: &Scratch, uid: u32) -> Self {
        Self::start(scratch, Command::new("sleep").uid(uid).gid(uid))
    }

    fn start(scratch: &Scratch, command: &mut Command) -> Self {
        let child = command.arg("1000").spawn().unwrap();
        scratch.put_process(child.id());
        Self(child)
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The agent.
pub struct Agent(pub Child);

impl Agent {
    /// Starts the agent as a sidecar; `env` adds or overrides.
    pub fn sidecar(scratch: &Scratch, gateway: &FakeGateway, env: &[(&str, &str)]) -> Self {
        Self::start("sidecar", scratch, gateway, env)
    }

    pub fn start(mode: &str, scratch: &Scratch, gateway: &FakeGateway, env: &[(&str, &str)]) -> Self {
        Self::run(Command::new(env!("CARGO_BIN_EXE_fleetprof-agent")), mode, scratch, gateway, env)
    }

    /// Starts the agent as a sidecar that is root with no capability to look at other users' processes.
    pub fn root_without_ptrace(scratch: &Scratch, gateway: &FakeGateway) -> Self {
        let mut command = Command::new("setpriv");
        command.args([
            "--bounding-set=-sys_ptrace",
            "--inh-caps=-sys_ptrace",
            env!("CARGO_BIN_EXE_fleetprof-agent"),
        ]);
        Self::run(command, "sidecar", scratch, gateway, &[])
    }

    /// Starts the agent as a sidecar whose app has filled the memory that they share.
    pub fn sidecar_of_full_memory(scratch: &Scratch, gateway: &FakeGateway) -> Self {
        let fill =
            "mount -t tmpfs -o size=256k none /dev/shm; cat /dev/zero > /dev/shm/full; exec \"$0\" \"$@\"";
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", fill, env!("CARGO_BIN_EXE_fleetprof-agent")]);
        let env = [("FLEETPROF_SPOOL", "/dev/shm/fleetprof-sidecar"), ("TMPDIR", "/proc/nothing")];
        Self::run(command, "sidecar", scratch, gateway, &env)
    }

    /// Removes what the app has filled the memory with.
    pub fn free_memory(&self) {
        fs::remove_file(format!("/proc/{}/root/dev/shm/full", self.0.id())).unwrap();
    }

    fn run(
        mut command: Command,
        mode: &str,
        scratch: &Scratch,
        gateway: &FakeGateway,
        env: &[(&str, &str)],
    ) -> Self {
        let log = fs::File::options().create(true).append(true).open(scratch.path("log")).unwrap();
        command.arg(mode).env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        command.env("FLEETPROF_GATEWAY", gateway.url()).env("FLEETPROF_CA", gateway.authority.pem());
        command
            .env("FLEETPROF_TOKEN_FILE", scratch.path("token"))
            .env("FLEETPROF_SPOOL", scratch.path("spool"));
        command.env("FLEETPROF_PROC", scratch.path("proc")).env("FLEETPROF_LOG", "debug");
        if scratch.path("worker").exists() {
            command.env("FLEETPROF_WORKER", scratch.path("worker"));
        }
        command.envs(env.iter().copied());
        Self(command.spawn().unwrap())
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.0.id()).unwrap()), signal).unwrap();
    }

    pub fn kill_9(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// Waits for the agent to end by itself: its exit code.
    pub fn end(mut self, within: Duration) -> Option<i32> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status.code();
            }
            assert!(start.elapsed() < within, "the agent does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// A figure of its memory in KiB, such as `VmRSS` or `RssAnon`.
    pub fn memory(&self, key: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let value = status.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(':')).unwrap();
        value.trim().trim_end_matches(" kB").parse().unwrap()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Whether any file below `dir` satisfies `test`.
pub fn any_file(dir: &Path, test: &dyn Fn(&Path) -> bool) -> bool {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|e| e.path()).any(|p| if p.is_dir() { any_file(&p, test) } else { test(&p) })
}
