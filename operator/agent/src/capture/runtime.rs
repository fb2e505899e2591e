//! Which runtime does a target run? A pure function over its path and mappings, and what its program holds.

use std::fmt;
use std::fs::File;
use std::io;

use object::{Object, ObjectSection, ReadCache};

use super::held;
use crate::proc::{self, Mapping};

/// Most bytes read of a Go binary's build information.
const MAX_GO_INFO: u64 = 64 * 1024;

/// Names of PHP's programs, without their version.
const PHP_PROGRAMS: &[&str] = &["php", "php-fpm", "php-cgi", "phpdbg"];

/// The runtime of a process. Its text goes over the wire: `Python 3.11`, `Native`, `Go 1.26`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Runtime {
    /// `CPython`, with major and minor version where the file names tell.
    Python(Option<(u8, u8)>),
    /// A Java virtual machine.
    Jvm,
    /// Node.js.
    Node,
    /// Ruby.
    Ruby,
    /// PHP, with major and minor version where the file names tell.
    Php(Option<(u8, u8)>),
    /// Erlang's virtual machine (BEAM), which runs Elixir as well.
    Beam,
    /// .NET (`CoreCLR`).
    DotNet,
    /// Go, with its version, such as `1.26`.
    Go(Option<String>),
    /// Compiled code without one of these runtimes.
    Native,
    /// The process may not be looked at.
    Unknown,
}

impl fmt::Display for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Python(Some((major, minor))) => write!(f, "Python {major}.{minor}"),
            Self::Python(None) => f.write_str("Python"),
            Self::Jvm => f.write_str("JVM"),
            Self::Node => f.write_str("Node.js"),
            Self::Ruby => f.write_str("Ruby"),
            Self::Php(Some((major, minor))) => write!(f, "PHP {major}.{minor}"),
            Self::Php(None) => f.write_str("PHP"),
            Self::Beam => f.write_str("Erlang"),
            Self::DotNet => f.write_str(".NET"),
            Self::Go(Some(version)) => write!(f, "Go {version}"),
            Self::Go(None) => f.write_str("Go"),
            Self::Native => f.write_str("Native"),
            Self::Unknown => f.write_str("Unknown"),
        }
    }
}

/// The runtime of a process, as far as `/proc` tells; never fails.
pub fn detect(pid: i32) -> Runtime {
    let Ok(exe) = std::fs::read_link(format!("/proc/{pid}/exe")) else {
        return Runtime::Unknown;
    };
    let maps = proc::maps(pid).unwrap_or_default();
    classify(&exe.to_string_lossy(), &maps, || held::by(pid))
}

/// The runtime by the executable's path, the mappings, and what the program holds, which is asked last.
pub fn classify(exe: &str, maps: &[Mapping], held: impl FnOnce() -> Option<Runtime>) -> Runtime {
    let name = base_name(exe);
    let libraries = || maps.iter().filter_map(Mapping::file).map(base_name);
    if libraries().any(|l| l == "libjvm.so") {
        return Runtime::Jvm;
    }
    if libraries().any(|l| l == "libcoreclr.so") {
        return Runtime::DotNet;
    }
    let version =
        libraries().find_map(|l| version_after(l, "libpython")).or_else(|| version_after(name, "python"));
    if version.is_some() || name == "python" || name == "python3" {
        return Runtime::Python(version);
    }
    if name == "ruby" || starts_with_version(name, "ruby") || libraries().any(|l| l.starts_with("libruby")) {
        return Runtime::Ruby;
    }
    if let Some(version) = libraries().find_map(|l| php(l, &["libphp"])).or_else(|| php(name, PHP_PROGRAMS)) {
        return Runtime::Php(version);
    }
    if name == "beam.smp" || name == "beam" {
        return Runtime::Beam;
    }
    if name == "node" || name == "nodejs" || libraries().any(|l| l.starts_with("libnode.so")) {
        return Runtime::Node;
    }
    held().unwrap_or(Runtime::Native)
}

fn base_name(path: &str) -> &str {
    path.trim_end_matches(" (deleted)").rsplit('/').next().unwrap_or(path)
}

fn starts_with_version(name: &str, prefix: &str) -> bool {
    name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

/// PHP by the name of its program or library: `php8.2`, `php-fpm`, `libphp.so`; with its version where it has one.
fn php(name: &str, names: &[&str]) -> Option<Option<(u8, u8)>> {
    let name = name.trim_end_matches(".so");
    names.iter().find_map(|prefix| match name.strip_prefix(prefix)? {
        "" => Some(None),
        _ => version_after(name, prefix).map(Some),
    })
}

/// `python3.11`, `libpython3.11.so.1.0`, `python3.13t` → (3, 11 or 13); `php8.2` → (8, 2).
fn version_after(name: &str, prefix: &str) -> Option<(u8, u8)> {
    let (major, rest) = name.strip_prefix(prefix)?.split_once('.')?;
    let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    Some((major.parse().ok()?, rest.get(..digits)?.parse().ok()?))
}

/// The version of the Go toolchain that built a program; `Some("")` where the mark is there but unreadable.
pub(super) fn go_version(program: File) -> io::Result<Option<String>> {
    let cache = ReadCache::new(program);
    let Ok(elf) = object::File::parse(&cache) else {
        return Ok(None);
    };
    let Some(section) = elf.section_by_name(".go.buildinfo") else {
        return Ok(None);
    };
    let range = (section.address(), section.size().min(MAX_GO_INFO));
    let data = section.data_range(range.0, range.1).ok().flatten().unwrap_or_default();
    Ok(Some(parse_go_info(data).unwrap_or_default()))
}

/// Major and minor version in a `.go.buildinfo` section of Go 1.18 or newer.
fn parse_go_info(data: &[u8]) -> Option<String> {
    let body = data.strip_prefix(b"\xff Go buildinf:")?;
    let inline = body.get(1)? & 2 != 0;
    let text = data.get(32..).filter(|_| inline)?;
    let (&length, text) = text.split_first()?;
    // Versions are far shorter than 128 bytes, so that the length is a single byte of its varint.
    let version = std::str::from_utf8(text.get(..usize::from(length))?).ok()?;
    let numbers = version.strip_prefix("go")?;
    let mut parts = numbers.split(|c: char| !c.is_ascii_digit());
    let (major, minor) = (parts.next()?, parts.next()?);
    (!major.is_empty() && !minor.is_empty()).then(|| format!("{major}.{minor}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn maps(paths: &[&str]) -> Vec<Mapping> {
        let line = |p: &&str| format!("1000-2000 r-xp 00000000 fd:01 7 {p}\n");
        proc::parse_maps(&paths.iter().map(line).collect::<String>())
    }

    #[test]
    fn runtimes_are_told_by_names() {
        let go = |version: &str| Runtime::Go(Some(version.to_owned()));
        let cases: &[(&str, &[&str], Option<Runtime>, &str)] = &[
            ("/usr/bin/python3.11", &[], None, "Python 3.11"),
            ("/usr/local/bin/python3.13t", &[], None, "Python 3.13"),
            ("/usr/bin/python3", &[], None, "Python"),
            ("/usr/sbin/uwsgi", &["/usr/lib/libpython3.9.so.1.0"], None, "Python 3.9"),
            ("/usr/lib/jvm/21/bin/java", &["/usr/lib/jvm/21/lib/server/libjvm.so"], None, "JVM"),
            ("/opt/jpype/python3.11", &["/jdk/libjvm.so"], None, "JVM"),
            ("/usr/bin/node", &[], None, "Node.js"),
            ("/usr/local/bin/ruby", &[], None, "Ruby"),
            ("/usr/bin/ruby3.1", &["/usr/lib/libruby-3.1.so"], None, "Ruby"),
            ("/usr/share/dotnet/dotnet", &["/usr/share/dotnet/libcoreclr.so"], None, ".NET"),
            ("/app/server", &[], Some(go("1.26")), "Go 1.26"),
            ("/app/server", &[], Some(Runtime::Go(None)), "Go"),
            ("/app/shop", &["/lib/libc.so.6"], Some(Runtime::Node), "Node.js"),
            ("/app/shop", &["/usr/lib/libpython3.9.so.1.0"], Some(Runtime::Node), "Python 3.9"),
            ("/app/server (deleted)", &["/lib/libc.so.6"], None, "Native"),
            ("/usr/bin/pythonista", &["/usr/lib/libboost_python311.so"], None, "Native"),
            ("/usr/bin/rubyfruit", &[], None, "Native"),
            ("/usr/bin/php8.2", &[], None, "PHP 8.2"),
            ("/usr/sbin/php-fpm8.4", &[], None, "PHP 8.4"),
            ("/usr/local/sbin/php-fpm", &[], None, "PHP"),
            ("/usr/sbin/apache2", &["/usr/lib/apache2/modules/libphp8.2.so"], None, "PHP 8.2"),
            ("/usr/local/bin/frankenphp", &["/usr/local/lib/libphp.so"], Some(go("1.26")), "PHP"),
            ("/usr/bin/phpmyadmin", &[], None, "Native"),
            ("/usr/lib/erlang/erts-13.1.5/bin/beam.smp", &[], None, "Erlang"),
        ];
        for (exe, libraries, held, wanted) in cases {
            assert_eq!(
                classify(exe, &maps(libraries), || held.clone()).to_string(),
                *wanted,
                "{exe} {libraries:?}"
            );
        }
    }

    #[test]
    fn go_build_information() {
        let mut data = b"\xff Go buildinf:\x08\x02".to_vec();
        data.resize(32, 0);
        let with = |text: &[u8]| [data.as_slice(), &[u8::try_from(text.len()).unwrap()], text].concat();
        assert_eq!(parse_go_info(&with(b"go1.26.1")), Some("1.26".into()));
        assert_eq!(parse_go_info(&with(b"go1.27rc1")), Some("1.27".into()));
        assert_eq!(parse_go_info(&with(b"devel")), None);
        assert_eq!(parse_go_info(&data), None);
        assert_eq!(parse_go_info(b"\x7fELF"), None);
    }

    #[test]
    fn a_process_that_is_not_there_is_unknown() {
        assert_eq!(detect(i32::MAX), Runtime::Unknown);
    }
}
