//! Does every link in the documents lead somewhere, and is every document found? Links and their anchors,
//! files that are named, the index for automated readers, known issues and decision records.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use fleetprof_crds::Reason;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// The Markdown files of the checkout with their text, by their path in it.
fn documents() -> BTreeMap<PathBuf, String> {
    let root = root();
    let mut found = BTreeMap::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && name != "target" && name != "node_modules" && !name.starts_with('.') {
                folders.push(path);
            } else if name.ends_with(".md") {
                let text = std::fs::read_to_string(&path).unwrap();
                found.insert(path.strip_prefix(&root).unwrap().to_owned(), text);
            }
        }
    }
    found
}

/// The lines of a document that are not inside a code block.
fn prose(text: &str) -> Vec<&str> {
    let mut code = false;
    let outside = |line: &&str| {
        let fence = line.trim_start().starts_with("```");
        code ^= fence;
        !code && !fence
    };
    text.lines().filter(outside).collect()
}

/// What stands between `open` and `close`, each time.
fn between<'a>(text: &'a str, open: &str, close: char) -> Vec<&'a str> {
    text.split(open).skip(1).filter_map(|rest| rest.split_once(close)).map(|(inner, _)| inner).collect()
}

/// A line without the text in backticks.
fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect()
}

/// The targets of the links of a document.
fn links(text: &str) -> Vec<String> {
    let lines = prose(text).into_iter().map(without_code);
    lines
        .flat_map(|line| between(&line, "](", ')').into_iter().map(str::to_owned).collect::<Vec<_>>())
        .collect()
}

/// The anchor that a heading gets: lower case, blanks as hyphens, no punctuation.
fn slug(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    kept.chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

fn anchors(text: &str) -> BTreeSet<String> {
    let headings = prose(text).into_iter().filter(|line| line.starts_with('#'));
    headings.map(|line| slug(line.trim_start_matches('#'))).collect()
}

/// The path in the checkout that a link in a document leads to.
fn resolve(document: &Path, link: &str) -> PathBuf {
    let mut path = document.parent().unwrap().to_owned();
    for part in Path::new(link).components() {
        match part {
            Component::ParentDir => assert!(path.pop(), "{} leads out: {link}", document.display()),
            Component::Normal(name) => path.push(name),
            _ => {}
        }
    }
    path
}

/// What is wrong with a link, if anything. Other sites are not asked.
fn broken(document: &Path, link: &str, all: &BTreeMap<PathBuf, String>) -> Option<String> {
    if link.contains("://") || link.starts_with("mailto:") {
        return None;
    }
    let (file, anchor) = link.split_once('#').map_or((link, None), |(file, anchor)| (file, Some(anchor)));
    let path = if file.is_empty() { document.to_owned() } else { resolve(document, file) };
    if !root().join(&path).exists() {
        return Some(format!("{}: {link}: no such file", document.display()));
    }
    let anchor = anchor?;
    let known = all.get(&path).is_some_and(|text| anchors(text).contains(anchor));
    (!known).then(|| format!("{}: {link}: no such heading", document.display()))
}

#[test]
fn every_link_leads_to_a_file_and_a_heading() {
    let all = documents();
    let index = std::fs::read_to_string(root().join("docs/llms.txt")).unwrap();
    let texts =
        all.iter().map(|(path, text)| (path.as_path(), text)).chain([(Path::new("docs/llms.txt"), &index)]);
    let found: Vec<String> = texts
        .flat_map(|(path, text)| {
            links(text).into_iter().filter_map(|link| broken(path, &link, &all)).collect::<Vec<_>>()
        })
        .collect();
    assert!(found.is_empty(), "{found:#?}");
}

/// `a/{b,c}.rs` as `a/b.rs` and `a/c.rs`.
fn expand(path: &str) -> Vec<String> {
    let Some((before, rest)) = path.split_once('{') else { return vec![path.to_owned()] };
    let Some((names, after)) = rest.split_once('}') else { return vec![path.to_owned()] };
    names.split(',').map(|name| format!("{before}{name}{after}")).collect()
}

/// Whether a text in backticks is meant as a path of the checkout.
fn is_path(text: &str) -> bool {
    const FOLDERS: [&str; 8] =
        ["crds/", "operator/", "tests/", "charts/", "docs/", "examples/", ".github/", ".ci/"];
    FOLDERS.iter().any(|folder| text.starts_with(folder))
        && !text.contains(|c: char| c.is_whitespace() || matches!(c, '*' | '…' | '<'))
}

#[test]
fn every_file_that_a_guide_names_exists() {
    let mut found = Vec::new();
    for (path, text) in documents() {
        for line in prose(&text) {
            let named = line.split('`').skip(1).step_by(2).filter(|text| is_path(text)).flat_map(expand);
            let missing = named.filter(|name| !root().join(name).exists());
            found.extend(missing.map(|name| format!("{}: {name}", path.display())));
        }
    }
    assert!(found.is_empty(), "no such file: {found:#?}");
}

/// The targets that a line of a document, a guide's command or a workflow gives to make.
fn made(line: &str) -> Vec<&str> {
    let starts = line.match_indices("make ").filter(|(at, _)| {
        let before = line[..*at].chars().next_back();
        before.is_none_or(|c| c == '`') || line.trim_start().starts_with("- run: ")
    });
    let rest = starts.map(|(at, word)| &line[at + word.len()..]);
    rest.filter_map(|rest| rest.split(|c: char| !c.is_ascii_lowercase()).next()).collect()
}

#[test]
fn every_target_that_a_guide_or_a_workflow_makes_exists() {
    let makefile = std::fs::read_to_string(root().join("Makefile")).unwrap();
    let targets: BTreeSet<&str> =
        makefile.lines().filter_map(|line| Some(line.split_once(": ## ")?.0)).collect();
    let workflows = std::fs::read_dir(root().join(".github/workflows")).unwrap();
    let texts = workflows.map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap());
    let texts: Vec<String> = texts.chain(documents().into_values()).collect();
    let wanted: BTreeSet<&str> = texts.iter().flat_map(|text| text.lines()).flat_map(made).collect();
    assert!(wanted.contains("lint") && wanted.contains("demo"), "{wanted:?}");
    let missing: Vec<&&str> = wanted.difference(&targets).collect();
    assert!(missing.is_empty(), "the Makefile has no {missing:?}");
}

#[test]
fn every_test_against_a_kubernetes_is_run() {
    let read = |file| std::fs::read_to_string(root().join(file)).unwrap_or_default();
    let (makefile, suites) = (read("Makefile"), read("tests/suites.sh"));
    for entry in std::fs::read_dir(root().join("tests/tests")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy();
        let mut named = [&makefile, &suites].into_iter().flat_map(|text| text.split("--test "));
        let named = named.any(|rest| rest.split_whitespace().next() == Some(&name));
        assert!(named, "neither make api nor make cluster runs tests/tests/{name}.rs");
    }
}

#[test]
fn the_index_for_automated_readers_lists_every_document() {
    let index = Path::new("docs/llms.txt");
    let text = std::fs::read_to_string(root().join(index)).unwrap();
    let mut lines = text.lines().filter(|line| !line.is_empty());
    assert!(lines.next().unwrap().starts_with("# "), "it begins with a title");
    assert!(lines.next().unwrap().starts_with("> "), "then comes a summary");
    for line in text.lines().filter(|line| line.starts_with("- ")) {
        let described = line.split_once("): ").is_some_and(|(_, about)| about.len() > 10);
        assert!(line.starts_with("- [") && described, "each link says what it leads to: {line}");
    }
    let listed: BTreeSet<PathBuf> = links(&text).iter().map(|link| resolve(index, link)).collect();
    let missing: Vec<PathBuf> = documents().into_keys().filter(|path| !listed.contains(path)).collect();
    assert!(missing.is_empty(), "docs/llms.txt lacks {missing:?}");
}

/// The sections of a document under headings of a level, with their titles.
fn sections<'a>(text: &'a str, heading: &str) -> Vec<(&'a str, &'a str)> {
    let parts = text.split(heading).skip(1);
    parts.map(|part| part.split_once('\n').unwrap_or((part, ""))).collect()
}

#[test]
fn every_known_issue_names_a_reason_or_a_decision() {
    let text = std::fs::read_to_string(root().join("docs/known-issues.md")).unwrap();
    let issues = sections(&text, "\n### ");
    assert!(issues.len() >= 10, "{} issues", issues.len());
    for (title, body) in issues {
        let reason = between(body, "- **Reason**: `", '`').into_iter().next();
        let decision = between(body, "- **Decision**: [", '\n').into_iter().next();
        match (reason, decision) {
            (Some(name), _) => {
                let known = Reason::ALL.iter().any(|reason| reason.as_str() == name);
                assert!(known, "{title}: there is no reason {name}");
            }
            (None, Some(link)) => {
                assert!(link.contains("](adr/0"), "{title}: {link} is not a decision record")
            }
            (None, None) => panic!("{title}: names neither a reason nor a decision record"),
        }
        for part in ["Symptom", "Cause", "What to do"] {
            assert!(body.contains(&format!("- **{part}**: ")), "{title}: {part} is missing");
        }
    }
}

#[test]
fn every_decision_record_is_complete_and_in_the_index() {
    let all = documents();
    let index = &all[Path::new("docs/adr/README.md")];
    let records = all.iter().filter(|(path, _)| path.starts_with("docs/adr") && !path.ends_with("README.md"));
    for (at, (path, text)) in records.enumerate() {
        let name = path.file_name().unwrap().to_string_lossy();
        let number = format!("{:04}", at + 1);
        assert!(name.starts_with(&number), "{name} follows {at:04}");
        let title = text.lines().next().unwrap().strip_prefix(&format!("# {number}: ")).unwrap();
        assert!(
            index.contains(&format!("| [{number}]({name}) | {title}")),
            "the index lacks {name}: {title}"
        );
        for part in
            ["\n- Status: ", "\n- Date: 20", "\n## Context\n", "\n## Decision\n", "\n## Alternatives\n"]
        {
            assert!(text.contains(part), "{name} lacks {part:?}");
        }
        assert!(text.contains("\n## Consequences\n"), "{name} lacks its consequences");
    }
}

#[test]
fn the_crates_depend_on_what_the_architecture_says() {
    let workspace = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let named = |line: &str| Some(line.split_once("name = \"")?.1.split_once('"')?.0.to_owned());
    let rows = std::fs::read_to_string(root().join("docs/architecture.md")).unwrap();
    let rows: Vec<Vec<&str>> = rows
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| line.split('`').skip(1).step_by(2).map(|path| path.trim_end_matches('/')).collect())
        .filter(|row: &Vec<&str>| root().join(row[0]).join("Cargo.toml").exists())
        .collect();
    let members = workspace.split_once("members = [").unwrap().1.split_once(']').unwrap().0;
    assert_eq!(rows.len(), members.matches('"').count() / 2, "each crate has a row");
    let manifest = |path: &str| std::fs::read_to_string(root().join(path).join("Cargo.toml")).unwrap();
    let package: BTreeMap<String, &str> =
        rows.iter().map(|row| (manifest(row[0]).lines().find_map(named).unwrap(), row[0])).collect();
    for row in &rows {
        let text = manifest(row[0]);
        let keys = text.lines().filter_map(|line| package.get(line.split(['.', ' ', '=']).next()?));
        let depends: BTreeSet<&str> = keys.copied().collect();
        assert_eq!(depends, row[1..].iter().copied().collect(), "dependencies of {}", row[0]);
    }
}

#[test]
fn headings_become_the_anchors_that_forges_make() {
    assert_eq!(slug(" What can get in the way?"), "what-can-get-in-the-way");
    assert_eq!(slug(" `profilesessions/NAME` and more"), "profilesessionsname-and-more");
    assert_eq!(expand("a/{b,c}.rs"), ["a/b.rs", "a/c.rs"]);
}
