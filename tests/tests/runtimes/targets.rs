//! Which programs are captured, and what must be found in their profiles? The programs are those of the
//! agent's own tests, in the images that `tests/runtimes.sh` builds.

use anyhow::{Context, Result, ensure};
use fleetprof_tests::root;
use serde_json::Value;

/// Where the sources of the programs are.
const SOURCES: &str = "operator/agent/tests/capture/targets";

/// A program in a container.
#[derive(Clone, Copy)]
pub struct Target {
    /// As a part of names of objects.
    pub name: &'static str,
    /// The runtime with its version, as the table of the guide says it.
    pub runtime: &'static str,
    /// The same, as statuses say it.
    pub status: &'static str,
    /// Name of its image.
    pub image: &'static str,
    /// Its command.
    pub command: &'static [&'static str],
    /// A variable of its environment.
    pub variable: Option<(&'static str, &'static str)>,
    /// The command of another container beside it.
    pub beside: Option<&'static [&'static str]>,
    /// CPU time after which it does what it always does, in seconds.
    pub warm: u64,
    /// What is found.
    pub guilty: &'static [Guilty],
    /// Kinds that take a session of their own.
    pub alone: &'static [&'static str],
    /// Least part of its CPU time in the profile, in %.
    pub coverage: i64,
    /// Whether an agent of the node sees its functions too. Where a collector has to reach a port of the pod, it sees
    /// no more than native code, and says so.
    pub from_outside: bool,
}

/// What must be on top of the profile of a kind.
#[derive(Clone, Copy)]
pub struct Guilty {
    /// The kind.
    pub kind: &'static str,
    /// The function.
    pub function: &'static str,
    /// How it stands out.
    pub rank: Rank,
    /// Its source file, and a text in the line that is told where lines are.
    pub place: (&'static str, &'static str),
}

/// How a function stands out of a profile.
#[derive(Clone, Copy)]
pub enum Rank {
    /// No other has more itself.
    First,
    /// It has so many percent with what it calls.
    Holds(f64),
}

const fn first(kind: &'static str, function: &'static str, file: &'static str, line: &'static str) -> Guilty {
    Guilty { kind, function, rank: Rank::First, place: (file, line) }
}

const fn holds(
    kind: &'static str,
    function: &'static str,
    percent: f64,
    file: &'static str,
    line: &'static str,
) -> Guilty {
    Guilty { kind, function, rank: Rank::Holds(percent), place: (file, line) }
}

const GUILTY: &str = "// the guilty line";
const RUNTIMES: &str = "fleetprof-runtimes:test";
const STATIC: &str = "fleetprof-static:test";
const VERSIONS: &str = "fleetprof-versions:test";

const TARGET: Target = Target {
    name: "",
    runtime: "",
    status: "",
    image: RUNTIMES,
    command: &[],
    variable: None,
    beside: None,
    warm: 1,
    guilty: &[],
    alone: &[],
    coverage: 50,
    from_outside: true,
};

const BY_PYTHON: &[Guilty] = &[
    first("cpu", "guilty", "busy.py", "# the guilty line"),
    first("wall", "sleeper", "busy.py", "time.sleep(0.05)"),
];
const BY_NODE: [Guilty; 3] = [
    first("cpu", "guilty", "busy.js", GUILTY),
    first("heap", "hoard", "busy.js", "function hoard()"),
    holds("alloc", "churn", 30.0, "busy.js", "function churn()"),
];
const BY_GO: &[Guilty] = &[
    first("cpu", "main.guilty", "served.go", GUILTY),
    first("alloc", "main.churn", "served.go", "dropped = make("),
    first("heap", "main.hoard", "served.go", "kept = append("),
    holds("lock", "main.contend", 90.0, "served.go", "func contend("),
    holds("block", "main.contend", 30.0, "served.go", "func contend("),
    holds("goroutine", "main.stuck", 5.0, "served.go", "func stuck("),
    holds("wall", "main.contend", 5.0, "served.go", "func contend("),
];
const BY_PHP: &[Guilty] = &[
    first("cpu", "Shop::guilty", "busy.php", GUILTY),
    holds("wall", "Shop::guilty", 10.0, "busy.php", GUILTY),
];
const BY_JAVA: &[Guilty] = &[
    first("cpu", "Busy.guilty", "Busy", "sum += Math.sqrt(i)"),
    first("alloc", "Busy.allocates", "Busy", "kept = new long["),
    holds("lock", "Busy.contends", 30.0, "Busy", "synchronized (MONITOR) {"),
    holds("wall", "Busy.guilty", 5.0, "Busy", "sum += Math.sqrt(i)"),
    holds("heap", "byte[]", 1.0, "", ""),
];

/// Every runtime once.
pub const RUNTIMES_ONCE: &[Target] = &[
    Target {
        name: "python",
        runtime: "CPython 3.11",
        status: "Python 3.11",
        command: &["python3", "/targets/busy.py"],
        guilty: BY_PYTHON,
        ..TARGET
    },
    Target {
        name: "native",
        runtime: "C, static",
        status: "Native",
        image: STATIC,
        command: &["/hot", "spin"],
        guilty: &[first("cpu", "guilty", "hot.c", GUILTY), holds("wall", "guilty", 30.0, "hot.c", GUILTY)],
        alone: &["wall"],
        ..TARGET
    },
    Target {
        name: "go-served",
        runtime: "Go, serving its profiles",
        status: "Go 1.",
        image: STATIC,
        command: &["/served", "rates"],
        guilty: BY_GO,
        ..TARGET
    },
    Target {
        name: "go",
        runtime: "Go, others",
        status: "Go 1.",
        image: STATIC,
        command: &["/served", "unserved"],
        guilty: &[first("cpu", "main.guilty", "served.go", GUILTY)],
        ..TARGET
    },
    Target {
        name: "java",
        runtime: "OpenJDK 17",
        status: "JVM",
        command: &["java", "-XX:+UseG1GC", "-Xmx128m", "-cp", "/targets", "Busy", "cpu", "alloc", "lock"],
        warm: 4,
        guilty: BY_JAVA,
        coverage: 35,
        ..TARGET
    },
    Target {
        name: "node",
        runtime: "Node.js 18",
        status: "Node.js",
        command: &["node", "/targets/busy.js", "spin"],
        warm: 2,
        guilty: &[BY_NODE[0], BY_NODE[1]],
        from_outside: false,
        ..TARGET
    },
    Target {
        name: "dotnet",
        runtime: ".NET 8",
        status: ".NET",
        command: &["/dotnet/dotnet", "exec", "/targets/busy.dll", "spin", "alloc"],
        warm: 3,
        guilty: &[
            first("cpu", "Busy.Guilty", "Busy.cs", GUILTY),
            first("alloc", "Busy.Allocates", "Busy.cs", "kept = new byte["),
            holds("wall", "Busy.Guilty", 5.0, "Busy.cs", GUILTY),
        ],
        alone: &["alloc"],
        ..TARGET
    },
    Target {
        name: "ruby",
        runtime: "Ruby 3.1",
        status: "Ruby",
        command: &["ruby", "/targets/busy.rb", "spin"],
        guilty: &[
            first("cpu", "guilty", "busy.rb", "# of the guilty method"),
            holds("wall", "guilty", 20.0, "busy.rb", "while n > 0"),
        ],
        ..TARGET
    },
    Target {
        name: "php",
        runtime: "PHP 8.2, CLI",
        status: "PHP 8.2",
        command: &["php", "/targets/busy.php"],
        guilty: BY_PHP,
        ..TARGET
    },
    Target {
        name: "fpm",
        runtime: "PHP 8.2, FPM",
        status: "PHP 8.2",
        command: &["php-fpm8.2", "-y", "/targets/fpm.conf"],
        beside: Some(&["python3", "/targets/fastcgi.py", "9000", "/targets/busy.php"]),
        guilty: BY_PHP,
        ..TARGET
    },
    Target {
        name: "erlang",
        runtime: "Erlang/OTP 25, `+JPperf true`",
        status: "Erlang",
        command: &["erl", "-noshell", "-pa", "/targets", "-s", "busy", "main"],
        variable: Some(("ERL_FLAGS", "+JPperf true")),
        warm: 2,
        guilty: &[first("cpu", "$busy:guilty/2", "", "")],
        ..TARGET
    },
];

/// Other versions of some.
pub const VERSIONS_MORE: &[Target] = &[
    Target {
        name: "python-310",
        runtime: "CPython 3.10",
        status: "Python 3.10",
        image: VERSIONS,
        command: &["/python3.10/bin/python3.10", "/targets/busy.py"],
        guilty: BY_PYTHON,
        ..TARGET
    },
    Target {
        name: "python-312",
        runtime: "CPython 3.12",
        status: "Python 3.12",
        image: VERSIONS,
        command: &["/python3.12/bin/python3.12", "/targets/busy.py"],
        guilty: BY_PYTHON,
        ..TARGET
    },
    Target {
        name: "python-314",
        runtime: "CPython 3.14",
        status: "Python 3.14",
        image: VERSIONS,
        command: &["/python3.14/bin/python3.14", "/targets/busy.py"],
        guilty: BY_PYTHON,
        ..TARGET
    },
    Target {
        name: "node-22",
        runtime: "Node.js 22",
        status: "Node.js",
        image: VERSIONS,
        command: &["/node22/node", "/targets/busy.js", "spin"],
        warm: 2,
        guilty: &BY_NODE,
        alone: &["alloc"],
        from_outside: false,
        ..TARGET
    },
];

/// Containers of several processes that work.
pub const PROCESSES: &[Target] = &[
    Target {
        name: "python-forks",
        command: &["python3", "/targets/forks.py", "prefork"],
        guilty: &[first("cpu", "guilty", "forks.py", "x += i * i")],
        ..TARGET
    },
    Target {
        name: "node-cluster",
        command: &["node", "/targets/busy.js", "cluster"],
        warm: 4,
        guilty: &[BY_NODE[0]],
        from_outside: false,
        ..TARGET
    },
    Target {
        name: "ruby-forks",
        command: &["ruby", "/targets/busy.rb", "forks"],
        guilty: &[first("cpu", "guilty", "busy.rb", "# of the guilty method")],
        ..TARGET
    },
];

/// A target of [`RUNTIMES_ONCE`].
///
/// # Errors
/// When none has that name.
pub fn named(name: &str) -> Result<&'static Target> {
    RUNTIMES_ONCE
        .iter()
        .find(|target| target.name == name)
        .with_context(|| format!("no target is named {name}"))
}

/// Kinds of profiles, in the order of the API.
pub const KINDS: [&str; 7] = ["cpu", "wall", "alloc", "heap", "lock", "block", "goroutine"];

impl Target {
    /// The kinds of each session: first all that need none of their own, also those that are not expected.
    pub fn sessions(&self) -> Vec<Vec<&'static str>> {
        let together = KINDS.into_iter().filter(|kind| !self.alone.contains(kind)).collect();
        std::iter::once(together).chain(self.alone.iter().map(|kind| vec![*kind])).collect()
    }

    /// What must be found of a kind.
    ///
    /// # Errors
    /// When the suite does not say it, so that a kind that is new would go unseen.
    pub fn guilty_of(&self, kind: &str) -> Result<&Guilty> {
        let found = self.guilty.iter().find(|guilty| guilty.kind == kind);
        found.with_context(|| format!("{kind} was captured too; say in targets.rs what must be found"))
    }
}

impl Guilty {
    /// Whether the answer of `/top` blames the function; its file and line must be right where they are told.
    /// Returns whether they are.
    ///
    /// # Errors
    /// When another function is blamed, or another place.
    pub fn is_blamed(&self, top: &Value) -> Result<bool> {
        let rows = top["rows"].as_array().context("/top has no rows")?;
        let row = rows.iter().find(|row| row["name"] == self.function);
        let row = row.with_context(|| format!("{} is not in the profile: {}", self.function, heads(rows)))?;
        let stands_out = match self.rank {
            Rank::First => rows[0]["name"] == self.function,
            Rank::Holds(percent) => row["cumPercent"].as_f64() >= Some(percent),
        };
        ensure!(stands_out, "{} does not stand out: {}", self.function, heads(rows));
        self.has_its_line(row)
    }

    fn has_its_line(&self, row: &Value) -> Result<bool> {
        let (file, line) = (row["file"].as_str().unwrap_or_default(), row["line"].as_u64().unwrap_or(0));
        if file.is_empty() || line == 0 {
            return Ok(false);
        }
        let (wanted, text) = self.place;
        ensure!(!wanted.is_empty(), "{} has the line {file}:{line} now; say where it is", self.function);
        let source = std::fs::read_to_string(root().join(SOURCES).join(source_of(wanted)))?;
        let lines = source.lines().zip(1..).filter(|(line, _)| line.contains(text)).map(|(_, n)| n);
        // The line itself, or that of the loop above it.
        let lines: Vec<u64> = lines.flat_map(|n| [n - 1, n]).collect();
        let is_right = file.rsplit('/').next() == Some(wanted) && lines.contains(&line);
        ensure!(is_right, "{} is at {file}:{line}, not in {wanted} at one of {lines:?}", self.function);
        Ok(true)
    }
}

/// Java tells classes, not files.
fn source_of(file: &str) -> &str {
    if file == "Busy" { "Busy.java" } else { file }
}

/// The first rows, for an error.
fn heads(rows: &[Value]) -> String {
    let head = |row: &Value| {
        let (file, line) = (row["file"].as_str().unwrap_or_default(), &row["line"]);
        format!("{} {file}:{line} {} % ({} %)", row["name"], row["selfPercent"], row["cumPercent"])
    };
    rows.iter().take(8).map(head).collect::<Vec<_>>().join(", ")
}
