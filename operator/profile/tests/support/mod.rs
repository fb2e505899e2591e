//! What does `go tool pprof` say about a profile that we wrote?

// Each test binary uses a part of this.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use fleetprof_profile::{
    Frame, Label, Line, MappingInfo, Profile, ProfileBuilder, ProfileKind, Top, TopRow, encode,
};

/// 10 ms.
pub const PERIOD: i64 = 10_000_000;

/// A profile in a file.
pub struct Stored {
    path: PathBuf,
    /// Whether the file goes away with this.
    temporary: bool,
}

impl Stored {
    /// Writes a profile to a temporary file, which goes away with this.
    pub fn new(profile: &Profile) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("fleetprof-oracle-{}-{number}.pb.gz", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, encode(profile).expect("it encodes")).expect("a file");
        let temporary = true;
        Self { path, temporary }
    }

    /// One that is there already and stays.
    pub fn at(path: PathBuf) -> Self {
        let temporary = false;
        Self { path, temporary }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Stored {
    fn drop(&mut self) {
        if self.temporary {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Runs `go tool pprof` with `arguments` on files; fails with what it printed when it does.
pub fn pprof(arguments: &[&str], files: &[&Stored]) -> Vec<u8> {
    let output = Command::new("go")
        .args(["tool", "pprof", "-symbolize=none"])
        .args(arguments)
        .args(files.iter().map(|file| file.path()))
        .env("PPROF_TMPDIR", std::env::temp_dir())
        .output()
        .expect("go is installed: `go tool pprof` judges what we write");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "go tool pprof {arguments:?}: {errors}");
    output.stdout
}

/// The same as text.
pub fn pprof_text(arguments: &[&str], files: &[&Stored]) -> String {
    String::from_utf8(pprof(arguments, files)).expect("text")
}

/// One row of `-top`: self value, self %, cumulative value, cumulative %.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Self value, in the unit asked for.
    pub own: i64,
    /// Self percent, as printed.
    pub own_percent: String,
    /// Cumulative value.
    pub cum: i64,
    /// Cumulative percent, as printed.
    pub cum_percent: String,
}

/// The rows of `-top`, by the name that stands behind the numbers, all of them, in whole units.
pub fn pprof_top(arguments: &[&str], files: &[&Stored]) -> BTreeMap<String, Row> {
    let all = ["-top", "-nodecount=100000", "-nodefraction=0", "-edgefraction=0"];
    let arguments: Vec<&str> = all.iter().chain(arguments).copied().collect();
    let text = pprof_text(&arguments, files);
    let body = text.lines().skip_while(|line| !line.contains("flat%")).skip(1);
    body.map(row).collect()
}

fn row(line: &str) -> (String, Row) {
    let mut rest = line.trim_start();
    let mut column = || {
        let (column, after) = rest.split_once(' ').expect("a column");
        rest = after.trim_start();
        column.to_owned()
    };
    let number = |text: String| {
        let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().expect("a whole number")
    };
    let (own, own_percent, _sum, cum, cum_percent) =
        (number(column()), column(), column(), number(column()), column());
    let row = Row { own, own_percent, cum, cum_percent };
    (rest.trim_end().trim_end_matches(" (inline)").to_owned(), row)
}

/// Our rows as pprof prints them with `-filefunctions`, values divided by `scale`.
pub fn our_top(top: &Top, scale: i64) -> BTreeMap<String, Row> {
    let row = |row: &TopRow| Row {
        own: row.self_value / scale,
        own_percent: percent(row.self_percent),
        cum: row.cum_value / scale,
        cum_percent: percent(row.cum_percent),
    };
    let name = |row: &TopRow| format!("{} {}", row.name, row.file).trim().to_owned();
    top.rows.iter().map(|r| (name(r), row(r))).collect()
}

/// A percentage as pprof prints it: two digits that matter below 1, none at 0 and 100.
fn percent(value: f64) -> String {
    match value {
        0.0 => "0%".to_owned(),
        value if value >= 99.95 => "100%".to_owned(),
        value if value >= 1.0 => format!("{value:.2}%"),
        value => {
            let digits = (1 - value.log10().floor() as i32).max(0) as usize;
            let text = format!("{value:.digits$}");
            format!("{}%", text.trim_end_matches('0'))
        }
    }
}

/// A CPU profile as a collector makes it: recursion, inlined functions, two functions of one name, a frame
/// without a symbol, labels, two mappings. `weight` scales it, `slide` moves the process in memory.
pub fn rich(weight: u32, slide: u64) -> Profile {
    let mut builder = ProfileBuilder::new(ProfileKind::Cpu, PERIOD, 1_763_700_000_000_000_000);
    let app = builder.mapping(&mapping("/app/cart", 0x40_0000 + slide, "aa11"));
    let libc = builder.mapping(&mapping("/lib/libc.so.6", 0x7f00_0000 + slide, "bb22"));
    let main =
        Frame { start_line: 3, ..Frame::named("main", "main.rs", 10) }.at(0x40_1000 + slide, Some(app));
    let work = |line| {
        Frame { start_line: 20, ..Frame::named("work", "work.rs", line) }
            .at(0x40_2000 + slide + line as u64, Some(app))
    };
    let other_work = Frame::named("work", "other.rs", 5);
    let inlined = Frame {
        inlined: vec![line("hash::mix", "mix.rs", 7), line("hash::finish", "hash.rs", 8)],
        ..Frame::named("lookup", "lookup.rs", 9)
    }
    .at(0x40_3000 + slide, Some(app));
    let native = Frame::unsymbolized(0x7f00_0123 + slide, Some(libc));
    let thread = [Label::text("thread", "worker-1")];
    let stacks: [(Vec<Frame<'_>>, u32, &[Label<'_>]); 7] = [
        (vec![work(21), main.clone()], 40, &[]),
        (vec![work(22), main.clone()], 25, &thread),
        (vec![work(21), work(23), work(22), main.clone()], 10, &[]),
        (vec![inlined.clone(), work(24), main.clone()], 15, &thread),
        (vec![native, work(25), main.clone()], 5, &[]),
        (vec![other_work, main.clone()], 4, &[]),
        (vec![main], 1, &[]),
    ];
    for (stack, hits, labels) in stacks {
        builder.add_hits(&stack, hits * weight, labels).expect("a sample");
    }
    builder.finish(10_000_000_000, &["made for the oracle"])
}

fn line<'a>(function: &'a str, file: &'a str, line: i64) -> Line<'a> {
    Line { function, file, line, ..Line::default() }
}

fn mapping<'a>(file: &'a str, memory_start: u64, build_id: &'a str) -> MappingInfo<'a> {
    MappingInfo {
        memory_start,
        memory_limit: memory_start + 0x10_0000,
        file,
        build_id,
        ..MappingInfo::default()
    }
}
