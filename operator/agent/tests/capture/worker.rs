//! Starts targets and workers, and reads what workers say and write.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use fleetprof_agent::capture::protocol::{CaptureRequest, Event, Failed, Finished, Started};
use fleetprof_agent::proc;

/// The capabilities of a container that asks for none: Docker's and containerd's default set.
pub const DEFAULT_CAPABILITIES: &str = "a80425fb";

/// Which collector captures: whichever offers it, or the one of this name.
pub const AUTO: Option<&str> = None;
pub const PYTHON: Option<&str> = Some("python");
pub const NATIVE: Option<&str> = Some("native");

/// A fresh directory that every user may write to.
pub fn directory() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("fleetprof-capture-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let path = std::env::temp_dir().join(name);
    std::fs::create_dir_all(&path).unwrap();
    open_to_all(&path);
    path
}

fn open_to_all(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).unwrap();
}

/// A file of `targets/`.
pub fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/capture/targets").join(name)
}

/// A program of `targets/`, compiled once and readable for every user.
pub fn compiled(name: &str) -> PathBuf {
    built(name, &[])
}

/// The same with the C library in it, and no symbols for a debugger.
pub fn linked_statically(name: &str) -> PathBuf {
    built(name, &["-static", "-g0"])
}

fn built(name: &str, more: &[&str]) -> PathBuf {
    static DONE: Mutex<BTreeMap<String, PathBuf>> = Mutex::new(BTreeMap::new());
    let mut done = DONE.lock().unwrap();
    let compile = || {
        let out = directory().join(format!("{name}{}", more.concat()));
        let flags = ["-O2", "-fomit-frame-pointer", "-g"];
        let status = Command::new("gcc")
            .args(flags)
            .args(more)
            .arg("-o")
            .arg(&out)
            .arg(source(&format!("{name}.c")))
            .arg("-lpthread")
            .status()
            .unwrap();
        assert!(status.success(), "gcc could not compile {name}.c");
        out
    };
    done.entry(format!("{name} {more:?}")).or_insert_with(compile).clone()
}

/// The Go program of `targets/`, without symbols and debug information, as images mostly hold it.
pub fn stripped_go() -> PathBuf {
    built_go("hot.go")
}

/// A Go program of `targets/`, stripped, built once.
pub fn built_go(name: &str) -> PathBuf {
    static DONE: Mutex<BTreeMap<String, PathBuf>> = Mutex::new(BTreeMap::new());
    let build = || {
        let out = directory().join(name.replace('.', "-"));
        let mut go = Command::new("go");
        let status = go.args(["build", "-ldflags=-s -w", "-o"]).arg(&out).arg(source(name)).status().unwrap();
        assert!(status.success(), "go could not build {name}");
        out
    };
    DONE.lock().unwrap().entry(name.to_owned()).or_insert_with(build).clone()
}

/// The worker, where every user can run it. It is large, so that one copy of each build is kept, in a folder of
/// its own: that is its image.
fn program() -> &'static Path {
    static COPY: OnceLock<PathBuf> = OnceLock::new();
    COPY.get_or_init(|| {
        let built = Path::new(env!("CARGO_BIN_EXE_fleetprof-worker"));
        let age =
            built.metadata().unwrap().modified().unwrap().duration_since(std::time::UNIX_EPOCH).unwrap();
        let image = std::env::temp_dir().join(format!("fleetprof-capture-image-{}", age.as_nanos()));
        if !image.exists() {
            let fresh = directory();
            std::fs::copy(built, fresh.join("fleetprof-worker")).unwrap();
            let renamed = std::fs::rename(fresh, &image);
            assert!(renamed.is_ok() || image.exists(), "{renamed:?}");
        }
        image.join("fleetprof-worker")
    })
}

/// Puts rbspy into the worker's image as the real one has it: it can be run, not read.
pub fn install_rbspy() {
    use std::os::unix::fs::PermissionsExt;
    static DONE: OnceLock<()> = OnceLock::new();
    DONE.get_or_init(|| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/rbspy.sh");
        let output = Command::new(script).stderr(Stdio::inherit()).output().unwrap();
        assert!(output.status.success(), "tests/rbspy.sh could not build rbspy");
        let built = String::from_utf8(output.stdout).unwrap();
        let fresh = directory().join("rbspy");
        std::fs::copy(built.trim(), &fresh).unwrap();
        std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o111)).unwrap();
        std::fs::rename(fresh, program().with_file_name("rbspy")).unwrap();
    });
}

/// A process that ends with the test.
pub struct Target(pub Child);

impl Target {
    /// Starts `hot` with arguments.
    pub fn hot(arguments: &[&str]) -> Self {
        Self::start(Command::new(compiled("hot")).args(arguments))
    }

    /// Starts `hot` as another user.
    pub fn hot_as(uid: &str, arguments: &[&str]) -> Self {
        Self::start(Command::new(compiled("launch")).args(["-u", uid]).arg(compiled("hot")).args(arguments))
    }

    /// Starts `busy.py` with an interpreter.
    pub fn python(interpreter: &str) -> Self {
        let script = directory().join("busy.py");
        std::fs::copy(source("busy.py"), &script).unwrap();
        Self::start(Command::new(interpreter).arg(script))
    }

    pub fn start(command: &mut Command) -> Self {
        let target = Self(command.stdout(Stdio::piped()).spawn().unwrap());
        std::thread::sleep(Duration::from_millis(400));
        target
    }

    pub fn pid(&self) -> i32 {
        i32::try_from(self.0.id()).unwrap()
    }

    /// CPU time used so far.
    pub fn cpu(&self) -> Duration {
        let stat = proc::stat(self.pid()).unwrap();
        Duration::from_millis(10 * (stat.user_ticks + stat.system_ticks))
    }

    /// A line of the status file, such as `State` or `TracerPid`.
    pub fn status(&self, key: &str) -> String {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = text.lines().find(|l| l.starts_with(key)).unwrap();
        line.split_once(':').unwrap().1.trim().to_owned()
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// A request for a capture of so many milliseconds.
pub fn request(pid: i32, collector: Option<&str>, duration_ms: u64) -> CaptureRequest {
    CaptureRequest {
        pid,
        profiles: vec![fleetprof_crds::ProfileKind::Cpu],
        start_ticks: None,
        container: None,
        collector: collector.map(str::to_owned),
        duration_ms,
        frequency_hz: 99,
        slice_ms: 1500,
        output_dir: directory(),
        labels: BTreeMap::from([("k8s.pod.name".to_owned(), "orders-0".to_owned())]),
        assume_target_uid: false,
        memory_bytes: None,
        owner: None,
    }
}

/// A worker that was started.
pub struct Worker {
    pub child: Child,
    stdin: Option<ChildStdin>,
    output: BufReader<std::process::ChildStdout>,
    directory: PathBuf,
}

impl Worker {
    /// Starts a worker; `launch` are arguments of `launch` for fewer rights, or none.
    pub fn start(launch: &[&str], request: &CaptureRequest) -> Self {
        Self::start_program(program(), launch, request)
    }

    /// Starts a worker without anything beside its program.
    pub fn start_bare(request: &CaptureRequest) -> Self {
        Self::start_program(Path::new(env!("CARGO_BIN_EXE_fleetprof-worker")), &[], request)
    }

    fn start_program(program: &Path, launch: &[&str], request: &CaptureRequest) -> Self {
        let mut command =
            if launch.is_empty() { Command::new(program) } else { Command::new(compiled("launch")) };
        if !launch.is_empty() {
            command.args(launch).arg(program);
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take();
        let line = serde_json::to_string(request).unwrap() + "\n";
        stdin.as_mut().unwrap().write_all(line.as_bytes()).unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, stdin, output, directory: request.output_dir.clone() }
    }

    /// The next event, or none when the worker has ended.
    pub fn event(&mut self) -> Option<Event> {
        let mut line = String::new();
        let n = self.output.read_line(&mut line).unwrap();
        (n > 0).then(|| serde_json::from_str(&line).unwrap_or_else(|e| panic!("{line}: {e}")))
    }

    /// Waits for the end.
    pub fn finish(mut self) -> Outcome {
        let mut events = Vec::new();
        while let Some(event) = self.event() {
            events.push(event);
        }
        drop(self.stdin.take());
        Outcome { events, status: self.child.wait().unwrap(), directory: self.directory.clone() }
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        nix::sys::signal::kill(pid, signal).unwrap();
    }
}

/// Everything a worker said and wrote.
#[derive(Debug)]
pub struct Outcome {
    pub events: Vec<Event>,
    pub status: ExitStatus,
    pub directory: PathBuf,
}

impl Outcome {
    pub fn started(&self) -> &Started {
        let found = self.events.iter().find_map(|e| if let Event::Started(s) = e { Some(s) } else { None });
        found.unwrap_or_else(|| panic!("not started: {self:?}"))
    }

    pub fn finished(&self) -> &Finished {
        let Some(Event::Finished(finished)) = self.events.last() else { panic!("not finished: {self:?}") };
        assert_eq!(self.status.code(), Some(0));
        let slices = self.events.iter().filter(|e| matches!(e, Event::Slice(_))).count();
        assert_eq!(
            (finished.slices as usize, finished.slices as usize),
            (slices, self.files().len()),
            "{self:?}"
        );
        finished
    }

    pub fn failed(&self) -> &Failed {
        let Some(Event::Failed(failed)) = self.events.last() else { panic!("not failed: {self:?}") };
        assert_eq!(self.status.code(), Some(1));
        failed
    }

    /// The slices; nothing else may be in the directory, and those of each kind are numbered without gaps.
    pub fn files(&self) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> =
            std::fs::read_dir(&self.directory).unwrap().map(|e| e.unwrap().path()).collect();
        // Number 10 comes after number 9.
        files.sort_by_key(|file| (file.as_os_str().len(), file.clone()));
        let mut next = BTreeMap::new();
        for file in &files {
            let name = file.file_name().unwrap().to_str().unwrap();
            let (kind, _) = name.split_once('-').unwrap();
            let seq: &mut u32 = next.entry(kind.to_owned()).or_default();
            assert_eq!(name, format!("{kind}-{seq}.pb.gz"));
            *seq += 1;
        }
        files
    }

    /// The slices of a kind.
    pub fn files_of(&self, kind: &str) -> Vec<PathBuf> {
        let is_of = |file: &PathBuf| {
            file.file_name().unwrap().to_str().unwrap().split_once('-').is_some_and(|(k, _)| k == kind)
        };
        self.files().into_iter().filter(is_of).collect()
    }

    /// `go tool pprof` over all slices of CPU: the independent reader of what was written.
    pub fn pprof(&self, options: &[&str]) -> String {
        self.pprof_of("cpu", options)
    }

    /// The same over the slices of a kind.
    pub fn pprof_of(&self, kind: &str, options: &[&str]) -> String {
        let output = Command::new("go")
            .args(["tool", "pprof", "-symbolize=none"])
            .args(options)
            .args(self.files_of(kind))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// CPU time in all slices, by this project's own reader.
    pub fn cpu(&self) -> Duration {
        let total = self.profiles().iter().map(|p| fleetprof_profile::total(p, 1)).sum::<i64>();
        Duration::from_nanos(u64::try_from(total).unwrap())
    }

    pub fn profiles(&self) -> Vec<fleetprof_profile::Profile> {
        let read = |f: &PathBuf| {
            fleetprof_profile::decode_valid(&std::fs::read(f).unwrap(), &fleetprof_profile::Limits::default())
                .unwrap()
        };
        self.files_of("cpu").iter().map(read).collect()
    }

    /// The hottest function by `go tool pprof -top` and its share in %.
    pub fn hottest(&self) -> (String, f64) {
        let top = self.pprof(&["-top"]);
        let row = top
            .lines()
            .skip_while(|l| !l.trim_start().starts_with("flat"))
            .nth(1)
            .unwrap_or_else(|| panic!("{top}"));
        let fields: Vec<&str> = row.split_ascii_whitespace().collect();
        (fields[5..].join(" "), fields[1].trim_end_matches('%').parse().unwrap())
    }

    /// Asserts that `guilty` has nine tenths of the time, with room for a small sample.
    pub fn blames_the_guilty(&self) {
        self.blames("guilty");
    }

    /// The same for a function of another name.
    pub fn blames(&self, guilty: &str) {
        let (name, share) = self.hottest();
        assert!(
            name == guilty && (75.0..=100.0).contains(&share),
            "{name} {share} %\n{}",
            self.pprof(&["-top"])
        );
    }
}

/// Waits until something is so, at most so long.
pub fn within(limit: Duration, mut check: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    while start.elapsed() < limit {
        if check() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    check()
}

/// At which moments of a capture a worker is killed, each below `longest`: as many as `FLEETPROF_DEATHS` says,
/// which `make soak` sets to hundreds, or a few. By the golden ratio, any number of them is spread evenly.
pub fn deaths(few: u32, longest: Duration) -> impl Iterator<Item = (u32, Duration)> {
    let rounds = std::env::var("FLEETPROF_DEATHS").map_or(few, |n| n.parse().unwrap());
    (0..rounds).map(move |round| (round, longest.mul_f64((f64::from(round) * 0.618_033_988_75).fract())))
}
