//! Do imports point down the floors? Each crate's source is read for what its folders import of each other.
//!
//! ```text
//! source ─► code (no comments, strings, tests) ─► imports ─► graph between top-level modules ─► circles
//! ```
//! A circle of folders cannot be taken apart, tested or moved piece by piece, and the compiler allows it.
#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The crates whose folders are held to it.
const CRATES: [&str; 6] =
    ["crds", "operator/core", "operator/profile", "operator/controller", "operator/agent", "operator/plugin"];

/// What lies at the ground of the core: facts, small rules and texts that every decision needs.
const GROUND: [&str; 18] = [
    "agent",
    "budget",
    "conditions",
    "container",
    "destination",
    "hash",
    "image",
    "outbox",
    "pick",
    "pod",
    "sampling",
    "schedule",
    "selector",
    "storage",
    "text",
    "time",
    "view",
    "capture",
];

/// The folders of the core that decide, with those of them that each may import beside the ground.
const FLOORS: &[(&str, &[&str])] = &[
    ("election", &[]),
    ("inject", &[]),
    ("link", &["inject"]),
    ("trigger", &["inject", "link"]),
    ("policy", &["inject", "link", "trigger"]),
    ("session", &["inject"]),
];

/// One file's import of another top-level module.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Import {
    from: String,
    to: String,
    file: String,
    path: String,
}

#[test]
fn no_folder_imports_a_folder_that_imports_it() {
    let mut faults = Vec::new();
    for folder in CRATES {
        let sources = sources(folder);
        assert!(!sources.is_empty(), "{folder}/src holds no source");
        faults.extend(circles(&imports(&sources)).iter().map(|import| sentence(folder, import)));
    }
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn the_decisions_of_the_core_lie_on_their_floors() {
    let mut faults = Vec::new();
    let known = |name: &str| GROUND.contains(&name) || FLOORS.iter().any(|(floor, _)| *floor == name);
    let sources = sources("operator/core");
    for name in modules(&sources) {
        if !known(&name) {
            faults.push(format!("operator/core/src/{name} has no floor; give it one in GROUND or FLOORS"));
        }
    }
    for import in imports(&sources) {
        let below =
            FLOORS.iter().find(|(floor, _)| *floor == import.from).map_or(&[][..], |(_, below)| below);
        if !GROUND.contains(&import.to.as_str()) && !below.contains(&import.to.as_str()) {
            let Import { from, to, file, path } = import;
            faults.push(format!(
                "operator/core/src/{file} imports {path}, but {from} lies below or beside {to}"
            ));
        }
    }
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

fn sentence(folder: &str, import: &Import) -> String {
    let Import { from, to, file, path } = import;
    format!("{folder}/src/{file} imports {path}, and {to} imports {from} in turn, itself or by others")
}

/// The imports that lie on a circle: the module that is imported leads back to the one that imports.
fn circles(imports: &[Import]) -> Vec<Import> {
    let mut next: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for import in imports {
        next.entry(&import.from).or_default().insert(&import.to);
    }
    let leads = |from: &str, to: &str| {
        let (mut seen, mut todo) = (BTreeSet::new(), vec![from]);
        while let Some(at) = todo.pop() {
            if at == to {
                return true;
            }
            todo.extend(next.get(at).into_iter().flatten().filter(|n| seen.insert(**n)));
        }
        false
    };
    imports.iter().filter(|i| leads(&i.to, &i.from)).cloned().collect()
}

/// The files of a crate with their text, by their path below `src`. Files of tests are left out.
fn sources(folder: &str) -> Vec<(String, String)> {
    let root = fleetprof_tests::root().join(folder).join("src");
    let mut found = Vec::new();
    read(&root, &root, &mut found);
    found
}

fn read(root: &Path, folder: &Path, found: &mut Vec<(String, String)>) {
    for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        let name = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            read(root, &path, found);
        } else if name.ends_with(".rs") && !is_test(&name) {
            found.push((name, std::fs::read_to_string(&path).unwrap()));
        }
    }
}

fn is_test(file: &str) -> bool {
    file.split('/').any(|part| part == "tests" || part == "tests.rs" || part.ends_with("_tests.rs"))
}

/// The imports between top-level modules.
fn imports(sources: &[(String, String)]) -> Vec<Import> {
    let modules = modules(sources);
    let lent = lent(sources, &modules);
    let mut all = BTreeSet::new();
    for (file, text) in sources {
        let own = module(file);
        let Some(from) = own.first() else { continue };
        for path in paths(&production(&code(text)), &own) {
            let name = path.split("::").next().unwrap_or_default();
            let to = if modules.contains(name) { Some(name) } else { lent.get(name).map(String::as_str) };
            if let Some(to) = to.filter(|to| to != from) {
                let (from, to) = (from.clone(), to.to_owned());
                all.insert(Import { from, to, file: file.clone(), path: format!("crate::{path}") });
            }
        }
    }
    all.into_iter().collect()
}

/// The top-level modules.
fn modules(sources: &[(String, String)]) -> BTreeSet<String> {
    sources.iter().filter_map(|(file, _)| module(file).into_iter().next()).collect()
}

/// The module of a file: `policy/mod.rs` is `policy`, `lib.rs` is the root.
fn module(file: &str) -> Vec<String> {
    let parts = file.trim_end_matches(".rs").split('/');
    parts.filter(|part| !matches!(*part, "mod" | "lib" | "main")).map(str::to_owned).collect()
}

/// What the root lends of its modules: `pub use reason::Reason` makes `crate::Reason` an import of `reason`.
fn lent(sources: &[(String, String)], modules: &BTreeSet<String>) -> BTreeMap<String, String> {
    let mut lent = BTreeMap::new();
    let roots = sources.iter().filter(|(file, _)| module(file).is_empty());
    for (_, text) in roots {
        let code = production(&code(text));
        for import in code.split(';').filter_map(|item| item.split_once("use ").map(|(_, rest)| rest.trim()))
        {
            let Some((of, names)) = import.trim_start_matches("crate::").split_once("::") else { continue };
            if modules.contains(of) {
                let names = names.split(|c: char| !is_word(c)).filter(|n| !n.is_empty());
                lent.extend(names.map(|name| (name.to_owned(), of.to_owned())));
            }
        }
    }
    lent
}

const fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// The text without comments and string literals.
fn code(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let skip = match c {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |end| end + 2),
            'r' if !out.ends_with(is_word) => raw_string(rest),
            '"' => string(rest),
            '\'' => character(rest),
            _ => 0,
        };
        let len = if skip == 0 { c.len_utf8() } else { skip };
        out.push_str(if skip == 0 { &rest[..len] } else { " " });
        rest = &rest[len..];
    }
    out
}

/// Length of the string that `text` begins with.
fn string(text: &str) -> usize {
    let mut escaped = false;
    let end = text.char_indices().skip(1).find(|(_, c)| {
        let ends = *c == '"' && !escaped;
        escaped = *c == '\\' && !escaped;
        ends
    });
    end.map_or(text.len(), |(at, _)| at + 1)
}

/// Length of the raw string that `text` begins with; 0 where it begins with a word or a raw name.
fn raw_string(text: &str) -> usize {
    let hashes = text[1..].chars().take_while(|c| *c == '#').count();
    if !text[1 + hashes..].starts_with('"') {
        return 0;
    }
    let (start, end) = (2 + hashes, format!("\"{}", "#".repeat(hashes)));
    text[start..].find(&end).map_or(text.len(), |at| start + at + end.len())
}

/// Length of the character that `text` begins with; 0 where it begins with a lifetime.
fn character(text: &str) -> usize {
    let mut chars = text.char_indices().skip(1);
    match chars.next() {
        Some((_, '\\')) => text[2..].find('\'').map_or(0, |at| {
            // The quote itself may be what is escaped.
            if at == 0 { 4 } else { at + 3 }
        }),
        Some(_) => chars.next().filter(|(_, c)| *c == '\'').map_or(0, |(at, _)| at + 1),
        None => 0,
    }
}

/// The code without the items that are built for tests alone.
fn production(code: &str) -> String {
    let mark = "#[cfg(test)]";
    let mut out = String::with_capacity(code.len());
    let mut rest = code;
    while let Some(at) = rest.find(mark) {
        out.push_str(&rest[..at]);
        rest = &rest[at + mark.len()..];
        rest = &rest[item(rest)..];
    }
    out.push_str(rest);
    out
}

/// Length of the item that `code` begins with: up to its semicolon, or to the end of its block.
fn item(code: &str) -> usize {
    let mut depth = 0i32;
    let end = code.char_indices().find(|(_, c)| {
        depth += i32::from(*c == '{') - i32::from(*c == '}');
        depth == 0 && matches!(c, ';' | '}')
    });
    end.map_or(code.len(), |(at, _)| at + 1)
}

/// The paths from the root that the code of the module `own` names by `crate::` or `super::`.
fn paths(code: &str, own: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    for (word, base) in [("crate::", Some(0)), ("super::", None)] {
        let mut from = 0;
        while let Some(at) = code[from..].find(word).map(|at| at + from) {
            let mut rest = &code[at + word.len()..];
            let mut depth = base.unwrap_or(own.len().saturating_sub(1));
            while base.is_none() && rest.starts_with(word) {
                (rest, depth) = (&rest[word.len()..], depth.saturating_sub(1));
            }
            from = code.len() - rest.len();
            // Paths in the same module are not imports; one word may be the end of another.
            if depth == 0 && !code[..at].ends_with(is_word) {
                found.extend(tree(rest));
            }
        }
    }
    found
}

/// The paths of an import: `a::b` is one, `{a::b, c}` are two.
fn tree(rest: &str) -> Vec<String> {
    let path = |text: &str| {
        let text: String = text.trim().chars().take_while(|c| is_word(*c) || *c == ':').collect();
        text.trim_end_matches(':').to_owned()
    };
    let Some(inner) = rest.strip_prefix('{') else { return vec![path(rest)] };
    let mut depth = 0i32;
    let mut parts = vec![String::new()];
    for c in inner.chars() {
        depth += i32::from(c == '{') - i32::from(c == '}');
        match c {
            _ if depth < 0 => break,
            ',' if depth == 0 => parts.push(String::new()),
            _ => parts.last_mut().unwrap().push(c),
        }
    }
    parts.iter().map(|part| path(part)).filter(|path| !path.is_empty()).collect()
}

#[test]
fn imports_are_found_as_they_are_written() {
    let lib = "pub mod a; pub mod b; pub mod c; pub use b::{One, Two};";
    let cases: &[(&str, &str, &[&str])] = &[
        ("a.rs", "use crate::b::X;", &["b"]),
        ("a.rs", "use crate::{b::{X, Y}, c};", &["b", "c"]),
        ("a.rs", "use crate::{\n    b, // crate::c\n};", &["b"]),
        ("a/mod.rs", "use super::b::X; use self::own::Y;", &["b"]),
        ("a/own.rs", "use super::b; use super::super::c::Z;", &["c"]),
        ("a/own.rs", "use super::{b, c};", &[]),
        ("a.rs", "fn f() -> crate::b::X { crate::c::f() }", &["b", "c"]),
        ("a.rs", "use crate::One; use crate::Three;", &["b"]),
        ("a.rs", "pub(crate) fn f() {} use other_crate::b::X;", &[]),
        ("a.rs", "/// See [`crate::b`].\nfn f() { g(\"crate::b\", r#\"crate::\"c\"#, '\"', 'x'); }", &[]),
        ("a.rs", "fn f<'a>(x: &'a str) -> char { '\\'' } use crate::c;", &["c"]),
        ("a.rs", "#[cfg(test)]\nmod tests;\nuse crate::b;", &["b"]),
        ("a.rs", "#[cfg(test)]\nmod tests { use crate::b; fn f() { if true {} } }\nuse crate::c;", &["c"]),
        ("a.rs", "#[cfg(test)]\nuse crate::b::{X, Y};\nuse crate::c;", &["c"]),
        ("a/tests/mod.rs", "use crate::b;", &["b"]),
    ];
    for (file, text, wanted) in cases {
        let files = [("lib.rs", lib), ("b.rs", ""), ("c.rs", ""), (file, text)];
        let sources: Vec<_> = files.iter().map(|(f, t)| ((*f).to_owned(), (*t).to_owned())).collect();
        let found = imports(&sources);
        let found: Vec<&str> = found.iter().map(|i| i.to.as_str()).collect();
        assert_eq!(found, *wanted, "{file}: {text}");
    }
    assert!(
        is_test("a/tests/mod.rs") && is_test("a/tests.rs") && is_test("a_tests.rs") && !is_test("test.rs")
    );
}

#[test]
fn circles_are_found_whatever_their_length() {
    let import = |(from, to): (&str, &str)| Import {
        from: from.into(),
        to: to.into(),
        file: format!("{from}.rs"),
        path: format!("crate::{to}"),
    };
    let circle = |pairs: &[(&str, &str)]| {
        let all: Vec<Import> = pairs.iter().map(|p| import(*p)).collect();
        circles(&all).into_iter().map(|i| format!("{}{}", i.from, i.to)).collect::<Vec<_>>()
    };
    assert_eq!(circle(&[("a", "b"), ("b", "c"), ("a", "c")]), [""; 0]);
    assert_eq!(circle(&[("a", "b"), ("b", "a"), ("b", "c")]), ["ab", "ba"]);
    assert_eq!(circle(&[("a", "b"), ("b", "c"), ("c", "a"), ("d", "a")]), ["ab", "bc", "ca"]);
    let said = sentence("operator/core", &import(("a", "b")));
    assert!(said.starts_with("operator/core/src/a.rs imports crate::b"), "{said}");
}
