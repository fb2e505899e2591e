//! Is the text of this repository plain English? Fails on phrases that read as translated, in code, comments,
//! guides and manifests.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use std::path::{Path, PathBuf};

/// Phrases that read as translated, with what to write instead. Only phrases that are wrong everywhere belong
/// here: a list with exceptions teaches people to ignore it.
const PHRASES: &[(&str, &str)] = &[
    ("all the same", "\"anyway\" or \"still\""),
    ("anew", "\"again\", or a verb such as \"recreate\" or \"restart\""),
    ("as it stands", "\"current\", or drop it"),
    ("be rid of", "\"remove\""),
    ("for a person", "\"human-readable\", or drop it"),
    ("has had its", "the event, such as \"timed out\""),
    ("heard of", "\"reported\" or \"seen\""),
    ("in truth", "\"in total\" or \"actually\""),
    ("is tried again", "\"retrying\" or \"is retried\""),
    ("make no sense", "\"invalid\""),
    ("makes no sense", "\"invalid\""),
    ("nobody's", "who is affected, or drop it"),
    ("of ours", "\"of fleetprof\", or the name of the component"),
    ("stands in", "\"is in\", \"is stored in\" or \"is listed in\""),
    ("tells of", "\"reports\" or \"shows\""),
    ("what is so", "\"meaning\""),
    ("what it is about", "the subject itself"),
];
/// `is no …` is wrong but for these: write "is not a …", or say what is wrong with it.
const IS_NO: &[&str] = &["longer", "more"];
/// Endings of files with text that people read.
const ENDINGS: &[&str] = &["md", "py", "rs", "sh", "tpl", "txt", "yaml"];
/// Folders without text of this repository.
const SKIPPED: &[&str] = &[".git", "generated", "target"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn texts(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let (path, kind) = (entry.as_ref().unwrap().path(), entry.unwrap().file_type().unwrap());
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let ending = path.extension().unwrap_or_default().to_string_lossy().into_owned();
        if kind.is_dir() && !SKIPPED.contains(&name.as_str()) {
            texts(&path, found);
        } else if kind.is_file() && ENDINGS.contains(&ending.as_str()) && name != "wording.rs" {
            found.push(path);
        }
    }
}

/// The lower-case words of a text with their line numbers. A line break, and what begins a line of a comment
/// or of a wrapped string, does not part a phrase; the end of a sentence does.
fn words(text: &str) -> Vec<(usize, String)> {
    let clean = |word: &str| word.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase();
    let mut words = Vec::new();
    for (n, line) in text.lines().enumerate() {
        for word in line.split_whitespace() {
            words.push((n + 1, clean(word)));
            if word.ends_with(['.', ':', ';', '?']) {
                words.push((n + 1, ".".to_owned()));
            }
        }
    }
    words.retain(|(_, word)| !word.is_empty());
    words
}

/// What to write in place of the phrase that begins at the first of these words, if one does.
fn objection(words: &[(usize, String)], before: Option<&str>) -> Option<String> {
    let word = |n: usize| words.get(n).map_or("", |(_, word)| word.as_str());
    if word(0) == "is"
        && word(1) == "no"
        && !before.is_some_and(|word| word.ends_with("there"))
        && !IS_NO.contains(&word(2))
    {
        return Some(format!("\"is no {}\": write \"is not …\", or say what is wrong with it", word(2)));
    }
    let begins = |phrase: &str| phrase.split(' ').enumerate().all(|(n, part)| word(n) == part);
    let (phrase, instead) = PHRASES.iter().find(|(phrase, _)| begins(phrase))?;
    Some(format!("\"{phrase}\": write {instead}"))
}

#[test]
fn no_phrase_reads_as_translated() {
    let mut paths = Vec::new();
    texts(&root(), &mut paths);
    assert!(paths.len() > 300, "{} files", paths.len());
    let mut found = Vec::new();
    for path in paths {
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        let words = words(&text);
        for at in 0..words.len() {
            let before = at.checked_sub(1).map(|n| words[n].1.as_str());
            if let Some(objection) = objection(&words[at..], before) {
                found.push(format!("{}:{}: {objection}", path.display(), words[at].0));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn a_phrase_is_found_across_lines_and_exceptions_are_not() {
    let found = |text: &str| {
        let words = words(text);
        (0..words.len()).find_map(|at| objection(&words[at..], at.checked_sub(1).map(|n| &*words[n].1)))
    };
    for bad in ["/// made\n/// anew.", "it stands \\\n    in the status", "This is no profile."] {
        assert!(found(bad).is_some(), "{bad}");
    }
    for good in ["There is no leader.", "it is no longer there", "a renewal", "in the truth"] {
        assert_eq!(found(good), None, "{good}");
    }
}
