//! Which kubeconfig is in force? As with kubectl: the file of `--kubeconfig`, else those of `KUBECONFIG` that
//! exist, else `~/.kube/config`.
//!
//! kube reads and merges a file, but refuses a list of which one is missing, and takes an empty
//! `current-context`, which kubectl writes where there is none, for one that later files cannot change. What is
//! there and cannot be read is an error, never nothing: without it a command would act elsewhere.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use kube::config::{Kubeconfig, KubeconfigError};

use crate::exit::Failure;
use crate::flags::Flags;

/// The files that are looked for, the first of which counts most.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Files {
    paths: Vec<PathBuf>,
    /// Whether a flag names it, so that it has to exist.
    named: bool,
}

impl Files {
    /// Those of the flags and the environment.
    pub(crate) fn of(flags: &Flags) -> Self {
        let (list, home) = (std::env::var_os("KUBECONFIG"), std::env::home_dir());
        Self::chosen(flags.kubeconfig.as_deref(), list, home)
    }

    fn chosen(flag: Option<&Path>, list: Option<OsString>, home: Option<PathBuf>) -> Self {
        let paths = match (flag, list.filter(|list| !list.is_empty())) {
            (Some(file), _) => vec![file.to_owned()],
            (None, Some(list)) => {
                std::env::split_paths(&list).filter(|file| *file != Path::new("")).collect()
            }
            (None, None) => home.into_iter().map(|home| home.join(".kube/config")).collect(),
        };
        Self { paths, named: flag.is_some() }
    }

    /// Whether a flag names the file.
    pub(crate) const fn are_named(&self) -> bool {
        self.named
    }

    /// All of them as one; nothing where none exists.
    ///
    /// # Errors
    /// A file cannot be read, or parsed, or the one that a flag names does not exist.
    pub(crate) fn read(&self) -> Result<Option<Kubeconfig>, Failure> {
        let mut all: Option<Kubeconfig> = None;
        for path in &self.paths {
            let file = match Kubeconfig::read_from(path) {
                Err(KubeconfigError::ReadConfig(error, _))
                    if error.kind() == ErrorKind::NotFound && !self.named =>
                {
                    continue;
                }
                read => read.and_then(|mut file| {
                    file.current_context = file.current_context.filter(|name| !name.is_empty());
                    all.take().unwrap_or_default().merge(file)
                }),
            };
            all = Some(file.map_err(|error| self.unreadable(path, &error))?);
        }
        Ok(all)
    }

    fn unreadable(&self, path: &Path, error: &KubeconfigError) -> Failure {
        let why = match error {
            KubeconfigError::ReadConfig(error, _) => error.to_string(),
            // The error of the parser quotes the file, which has credentials.
            KubeconfigError::Parse(error) => error.location().map_or_else(
                || "it is not a kubeconfig".to_owned(),
                |at| format!("line {} is not that of a kubeconfig", at.line()),
            ),
            other => other.to_string(),
        };
        let by = if self.named { "--kubeconfig" } else { "KUBECONFIG" };
        let path = path.display();
        Failure::error(format!(
            "the kubeconfig {path} cannot be read: {why}; repair it, or choose another one with {by}"
        ))
    }

    /// What is said where none exists.
    pub(crate) fn missing(&self) -> Failure {
        let paths: Vec<String> = self.paths.iter().map(|path| path.display().to_string()).collect();
        let at = if paths.is_empty() { String::new() } else { format!(" at {}", paths.join(" or ")) };
        Failure::error(format!(
            "there is no kubeconfig{at}: set KUBECONFIG, or pass --kubeconfig or --server"
        ))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// As kubectl writes them: with a current context, and without one any more.
    const ONE: &str = "{current-context: a, contexts: [{name: a, context: {cluster: a}}]}";
    const UNSET: &str = "{current-context: '', contexts: [{name: b, context: {cluster: b}}]}";
    const BROKEN: &str = "users:\n- name: ada\n  user: {token: s3cret\n  clusters: s3cret [\n";

    /// Current context and all contexts of the files of a folder; `None` where there is none.
    type Read = Result<Option<(Option<String>, Vec<String>)>, String>;

    fn read(flag: Option<&str>, list: Option<&str>) -> Read {
        let home = tempfile::tempdir().unwrap();
        let at = |name: &str| home.path().join(name);
        fs::create_dir(at(".kube")).unwrap();
        for (name, text) in [("one", ONE), ("unset", UNSET), ("broken", BROKEN), (".kube/config", UNSET)] {
            fs::write(at(name), text).unwrap();
        }
        let list = list.map(|list| {
            let all = list.split(':').map(|name| if name.is_empty() { PathBuf::new() } else { at(name) });
            std::env::join_paths(all).unwrap()
        });
        let flag = flag.map(at);
        let files = Files::chosen(flag.as_deref(), list, Some(home.path().to_owned()));
        let all = files.read().map_err(|error| error.to_string())?;
        Ok(all
            .map(|all| (all.current_context, all.contexts.into_iter().map(|context| context.name).collect())))
    }

    #[test]
    fn files_are_found_and_merged_as_by_kubectl() {
        let has = |current: Option<&str>, contexts: &[&str]| {
            let contexts = contexts.iter().map(|name| (*name).to_owned()).collect();
            Ok(Some((current.map(str::to_owned), contexts)))
        };
        let cases = [
            (None, Some("one:absent"), has(Some("a"), &["a"])),
            (None, Some("absent::one"), has(Some("a"), &["a"])),
            (None, Some("unset:one"), has(Some("a"), &["b", "a"])),
            (None, Some("unset"), has(None, &["b"])),
            (None, Some("absent"), Ok(None)),
            (None, Some(":"), Ok(None)),
            (None, Some(""), has(None, &["b"])),
            (None, None, has(None, &["b"])),
            (Some("one"), Some("broken"), has(Some("a"), &["a"])),
        ];
        for (flag, list, wanted) in cases {
            assert_eq!(read(flag, list), wanted, "--kubeconfig {flag:?}, KUBECONFIG={list:?}");
        }
    }

    #[test]
    fn a_file_that_is_there_but_cannot_be_read_is_never_taken_for_none() {
        let cases = [
            (None, "broken", "line "),
            (None, "one:broken", "with KUBECONFIG"),
            (None, ".kube", "with KUBECONFIG"),
            (Some("absent"), "one", "with --kubeconfig"),
            (Some("broken"), "one", "with --kubeconfig"),
        ];
        for (flag, list, wanted) in cases {
            let said = read(flag, Some(list)).unwrap_err();
            assert!(said.contains(wanted) && said.contains("cannot be read"), "{flag:?} {list}: {said}");
            assert!(!said.contains("s3cret") && !said.contains('\n'), "{said}");
        }
    }
}
