//! Is a slower function of a program that really ran found by the profiles that it wrote?

use std::path::{Path, PathBuf};
use std::process::Command;

use fleetprof_profile::verdict::{About, Outcome, PodCapture, Settings, Side, What, verdict};
use fleetprof_profile::{Limits, decode_valid};

/// Serves requests for 1.2 s of CPU time; the second argument is how many rounds `digest` takes.
const PROGRAM: &str = r#"
package main

import (
	"os"
	"runtime/pprof"
	"strconv"
	"syscall"
	"time"
)

var sink uint64

//go:noinline
func rounds(count int) (sum uint64) {
	for i := 0; i < count; i++ {
		sum = sum*6364136223846793005 + uint64(i)
	}
	return
}

//go:noinline
func digest(count int) { sink += rounds(count) + 1 }

//go:noinline
func parse() {
	for i := uint64(0); i < 60000; i++ {
		sink ^= sink<<7 + i
	}
}

//go:noinline
func render() {
	for i := uint64(0); i < 60000; i++ {
		sink += sink>>3 ^ i
	}
}

//go:noinline
func handle(count int) {
	parse()
	digest(count)
	render()
}

func used() time.Duration {
	var usage syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func main() {
	count, err := strconv.Atoi(os.Args[2])
	if err != nil {
		panic(err)
	}
	file, err := os.Create(os.Args[1])
	if err != nil {
		panic(err)
	}
	if err := pprof.StartCPUProfile(file); err != nil {
		panic(err)
	}
	for used() < 1200*time.Millisecond {
		handle(count)
	}
	pprof.StopCPUProfile()
	file.Close()
}
"#;

struct Directory(PathBuf);

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn build() -> Directory {
    let path = std::env::temp_dir().join(format!("fleetprof-verdict-{}", std::process::id()));
    std::fs::create_dir_all(&path).expect("a directory");
    let directory = Directory(path);
    std::fs::write(directory.0.join("main.go"), PROGRAM).expect("a file");
    let output = Command::new("go")
        .args(["build", "-o", "orders", "main.go"])
        .current_dir(&directory.0)
        .env("GOFLAGS", "-mod=mod")
        .output()
        .expect("go is installed");
    assert!(output.status.success(), "go build: {}", String::from_utf8_lossy(&output.stderr));
    directory
}

/// Runs a pod of a revision and reads what it wrote about itself.
fn run(directory: &Path, side: Side, n: usize, rounds: &str) -> PodCapture {
    let path = directory.join(format!("{side:?}-{n}.pb.gz"));
    let status = Command::new(directory.join("orders")).arg(&path).arg(rounds).status().expect("it runs");
    assert!(status.success(), "{status}");
    let bytes = std::fs::read(path).expect("a profile");
    let profile = decode_valid(&bytes, &Limits::default()).expect("what Go wrote is valid");
    // What the machine does beside is not load: each pod uses the same CPU time.
    let about = About {
        pod: format!("{side:?}-{n}"),
        side,
        moment: 0,
        pod_seconds: 10.0,
        cpu_seconds: None,
        coverage: None,
    };
    PodCapture::of_profile(&profile, about).expect("a CPU profile")
}

#[test]
fn a_slower_function_of_a_real_program_is_named() {
    let directory = build();
    let mut captures: Vec<PodCapture> = (0..4).map(|n| run(&directory.0, Side::Old, n, "60000")).collect();
    captures.extend((0..4).map(|n| run(&directory.0, Side::New, n, "300000")));
    let verdict = verdict(&captures, &Settings::default(), 1);
    println!("{}\ndispersion {:?}", verdict.message(), verdict.dispersion);
    assert_eq!(verdict.outcome, Outcome::Regressed, "{verdict:?}");
    let rose: Vec<&str> =
        verdict.functions.iter().filter(|f| f.what == What::Rose).map(|f| f.name.as_str()).collect();
    // Which of them comes first depends on how often the runtime interrupts the loop.
    assert!(!rose.is_empty(), "{verdict:?}");
    assert!(rose.iter().all(|name| ["main.rounds", "main.digest", "main.handle"].contains(name)), "{rose:?}");
}
