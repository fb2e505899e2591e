//! Do we read the profiles that a Go program writes about itself?

#![allow(clippy::expect_used)]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use fleetprof_profile::{
    Limits, Overlap, Profile, decode_valid, default_value_index, encode, merge, retain_labels, top, total,
};
use support::{Stored, our_top, pprof_top};

/// Burns time, memory and locks, and writes a profile of each kind into the directory it is given.
const PROGRAM: &str = r#"
package main

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"sync"
	"time"
)

var kept [][]byte

//go:noinline
func burn(until time.Time) (sum int) {
	for time.Now().Before(until) {
		for i := 0; i < 1000; i++ {
			sum += i * i
		}
	}
	return
}

func recurse(depth int, until time.Time) int {
	if depth == 0 {
		return burn(until)
	}
	return recurse(depth-1, until)
}

func write(dir, name string) {
	file, err := os.Create(filepath.Join(dir, name+".pb.gz"))
	if err != nil {
		panic(err)
	}
	defer file.Close()
	if err := pprof.Lookup(name).WriteTo(file, 0); err != nil {
		panic(err)
	}
}

func main() {
	dir := os.Args[1]
	runtime.MemProfileRate = 512
	runtime.SetMutexProfileFraction(1)
	file, err := os.Create(filepath.Join(dir, "cpu.pb.gz"))
	if err != nil {
		panic(err)
	}
	if err := pprof.StartCPUProfile(file); err != nil {
		panic(err)
	}
	pprof.Do(context.Background(), pprof.Labels("thread", "main"), func(context.Context) {
		recurse(5, time.Now().Add(400*time.Millisecond))
	})
	burn(time.Now().Add(200 * time.Millisecond))
	pprof.StopCPUProfile()
	file.Close()
	var lock sync.Mutex
	var group sync.WaitGroup
	for i := 0; i < 4; i++ {
		group.Add(1)
		go func() {
			defer group.Done()
			for j := 0; j < 20; j++ {
				lock.Lock()
				time.Sleep(100 * time.Microsecond)
				kept = append(kept, make([]byte, 4096))
				lock.Unlock()
			}
		}()
	}
	group.Wait()
	runtime.GC()
	for _, name := range []string{"heap", "allocs", "mutex", "goroutine"} {
		write(dir, name)
	}
}
"#;

struct Directory(PathBuf);

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Compiles and runs the program; the profiles lie in the directory until it goes away.
fn run_the_program() -> Directory {
    let path = std::env::temp_dir().join(format!("fleetprof-foreign-{}", std::process::id()));
    std::fs::create_dir_all(&path).expect("a directory");
    let directory = Directory(path);
    let source = directory.0.join("main.go");
    std::fs::write(&source, PROGRAM).expect("a file");
    let output = Command::new("go")
        .arg("run")
        .args([&source, &directory.0])
        .env("GOFLAGS", "-mod=mod")
        .output()
        .expect("go is installed");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "go run: {errors}");
    directory
}

fn read(directory: &Path, name: &str) -> Profile {
    let bytes = std::fs::read(directory.join(format!("{name}.pb.gz"))).expect("a profile");
    decode_valid(&bytes, &Limits::default()).expect("what Go wrote is valid")
}

/// Results from the profile, and after rewriting it, match what pprof computes from Go's own file.
fn agrees(directory: &Path, name: &str) {
    let profile = read(directory, name);
    assert!(total(&profile, 0) > 0, "{name} holds samples");
    let own_file = directory.join(format!("{name}.pb.gz"));
    let index = default_value_index(&profile);
    let shown = ["-filefunctions", &format!("-sample_index={index}"), "-unit=minimum"];
    let theirs = pprof_top(&shown, &[&Stored::at(own_file.clone())]);
    let written = Stored::new(&profile);
    let rewritten = pprof_top(&shown, &[&written]);
    assert_eq!(theirs, rewritten, "{name} as Go and as we wrote it");
    let ours = our_top(&top(&profile, index, usize::MAX), 1);
    let percents = |rows: std::collections::BTreeMap<String, support::Row>| {
        let both = |row: support::Row| (row.own_percent, row.cum_percent);
        rows.into_iter().map(|(name, row)| (name, both(row))).collect::<Vec<_>>()
    };
    assert_eq!(percents(ours), percents(theirs), "{name}");
}

#[test]
fn what_go_writes_is_read_summed_and_written_as_pprof_does() {
    let directory = run_the_program();
    for name in ["cpu", "heap", "allocs", "mutex", "goroutine"] {
        agrees(&directory.0, name);
    }
    let mut cpu = read(&directory.0, "cpu");
    let twice = merge([&cpu, &cpu], Overlap::Sequential).expect("it merges with itself");
    assert_eq!(total(&twice, 1), 2 * total(&cpu, 1));
    retain_labels(&mut cpu, |_| false);
    let bytes = encode(&cpu).expect("it encodes");
    assert!(decode_valid(&bytes, &Limits::default()).is_ok());
}
