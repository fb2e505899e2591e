//! How does the shell complete `kubectl fleetprof …`? kubectl runs `kubectl_complete-fleetprof` with the
//! words so far, the last of which is being typed; the plugin answers when it is called by that name, so a
//! link to it is all that completion needs.
//!
//! ```text
//! words ─► clap: commands, flags, fixed values ─┐
//!      └─► names that only the cluster knows ───┴─► value TAB description, and in the last line a directive
//! ```

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Command, FromArgMatches, ValueEnum};
use clap_complete::{CompletionCandidate, Shell};
use serde_json::Value;

use crate::cluster::{Ask, Cluster};
use crate::exit::{Exit, Failure};
use crate::flags::Flags;
use crate::kubeconfig::Files;
use crate::output;
use crate::paths;
use crate::policies;

/// The name under which kubectl asks.
const NAME: &str = "kubectl_complete-fleetprof";
/// A shell that waits longer is worse than one that completes nothing.
const PATIENCE: Duration = Duration::from_secs(2);
/// Most names that are offered.
const MOST: &str = "100";
/// Asks for names without the objects.
const METADATA: &str = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";
/// Tells the shell to complete no files.
const NO_FILES: &str = ":4";

/// What to print or install.
#[derive(Args, Debug)]
pub(crate) struct CompletionArgs {
    /// The shell to print a script for, which completes kubectl-fleetprof; or install, to complete kubectl
    /// fleetprof in every shell where kubectl's own completion works.
    #[arg(value_name = "SHELL")]
    what: What,
    /// With install: a folder in PATH for the link; by default that of the plugin.
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    Bash,
    Zsh,
    Fish,
    Install,
}

/// Prints or installs it; `command` is the plugin's.
pub(crate) fn run(args: &CompletionArgs, command: Command) -> Result<Exit, Failure> {
    let shell = match args.what {
        What::Bash => Shell::Bash,
        What::Zsh => Shell::Zsh,
        What::Fish => Shell::Fish,
        What::Install => return install(args.dir.as_deref()),
    };
    let mut script = Vec::new();
    let mut command = command.bin_name("kubectl-fleetprof");
    clap_complete::generate(shell, &mut command, "kubectl-fleetprof", &mut script);
    output::bytes(&script)?;
    Ok(Exit::Data)
}

fn install(folder: Option<&Path>) -> Result<Exit, Failure> {
    let program = std::env::current_exe()
        .map_err(|error| Failure::error(format!("the plugin cannot find its own program: {error}")))?;
    let (called, path) = (std::env::args_os().next().unwrap_or_default(), std::env::var_os("PATH"));
    let program = as_called(&called, &path.unwrap_or_default(), &program).unwrap_or(program);
    let folder = folder.or(program.parent()).unwrap_or(Path::new("."));
    let link = folder.join(NAME);
    let is_ours = std::fs::read_link(&link).is_ok_and(|to| to.file_name() == program.file_name());
    if is_ours {
        // After an update, the old link may lead nowhere.
        let _ = std::fs::remove_file(&link);
    }
    std::os::unix::fs::symlink(&program, &link).map_err(|error| {
        Failure::error(format!(
            "{} cannot be created: {error}; choose a folder in PATH with --dir",
            link.display()
        ))
    })?;
    output::print(&format!("{}\n", link.display()))?;
    output::note(
        "kubectl now completes kubectl fleetprof, provided that this link is in PATH and your shell has kubectl's \
         completion.",
    );
    Ok(Exit::Data)
}

/// The path by which the program was called. That may be a link which an update leaves in place, as Krew's is,
/// while the program behind it lies elsewhere and goes.
fn as_called(called: &OsStr, path: &OsStr, program: &Path) -> Option<PathBuf> {
    let folders: Vec<PathBuf> = match called.as_encoded_bytes().contains(&b'/') {
        true => vec![std::env::current_dir().ok()?],
        false => std::env::split_paths(path).filter(|folder| folder.is_absolute()).collect(),
    };
    let program = program.canonicalize().ok()?;
    let is_it = |place: &PathBuf| place.canonicalize().is_ok_and(|real| real == program);
    folders.iter().map(|folder| folder.join(called)).find(is_it)
}

/// Whether kubectl asks for a completion.
pub(crate) fn is_asked(arguments: &[OsString]) -> bool {
    let program = arguments.first().map(Path::new).and_then(Path::file_stem);
    program.is_some_and(|name| name == NAME)
}

/// Answers kubectl. Says nothing where something goes wrong: the shell is waiting.
pub(crate) async fn answer(command: &Command, mut arguments: Vec<OsString>) -> Result<Exit, Failure> {
    if arguments.len() < 2 {
        arguments.push(OsString::new());
    }
    if let Some(program) = arguments.first_mut() {
        *program = "kubectl-fleetprof".into();
    }
    let words: Vec<String> = arguments.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let at = arguments.len() - 1;
    let fixed =
        clap_complete::engine::complete(&mut command.clone(), arguments, at, None).unwrap_or_default();
    let typed = words.last().map(String::as_str).unwrap_or_default();
    let is_flag = |candidate: &CompletionCandidate| candidate.get_value().to_string_lossy().starts_with('-');
    let mut lines: Vec<String> = fixed
        .iter()
        .filter(|candidate| !candidate.is_hide_set())
        // As kubectl does: flags are offered to those who begin one.
        .filter(|candidate| typed.starts_with('-') || !is_flag(candidate))
        .map(|candidate| {
            let help = candidate.get_help().map(ToString::to_string).unwrap_or_default();
            line(&candidate.get_value().to_string_lossy(), help.lines().next().unwrap_or_default())
        })
        .collect();
    if let Some(live) = wanted(command, &words[1..]) {
        let names = tokio::time::timeout(PATIENCE, names(live, command, &words)).await;
        let names = names.ok().and_then(Result::ok).unwrap_or_default();
        lines.extend(
            names.iter().filter(|(name, _)| name.starts_with(typed)).map(|(name, about)| line(name, about)),
        );
    }
    output::print(&format!("{}{NO_FILES}\n", lines.concat()))?;
    Ok(Exit::Data)
}

fn line(value: &str, about: &str) -> String {
    match about {
        "" => format!("{value}\n"),
        about => format!("{value}\t{about}\n"),
    }
}

/// Names that only the cluster, or the kubeconfig, knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Live {
    Sessions,
    Apps,
    Policies,
    Pods,
    Namespaces,
    Contexts,
}

/// What the last of these words may be the beginning of, if that is a name.
fn wanted(command: &Command, words: &[String]) -> Option<Live> {
    let (typed, before) = words.split_last()?;
    match before.last().map(String::as_str) {
        Some("-n" | "--namespace") => return Some(Live::Namespaces),
        Some("--context") => return Some(Live::Contexts),
        Some("--base") => return Some(Live::Sessions),
        Some("--policy") => return Some(Live::Policies),
        Some(flag) if takes_value(command, flag) => return None,
        _ => {}
    }
    if typed.starts_with('-') {
        return None;
    }
    let mut positional = Vec::new();
    let mut skip = false;
    for word in before {
        if !skip && !word.starts_with('-') {
            positional.push(word.as_str());
        }
        skip = !skip && takes_value(command, word);
    }
    match positional.as_slice() {
        ["get" | "top" | "flame" | "diff" | "regress"] => Some(Live::Sessions),
        ["now"] => Some(Live::Apps),
        ["doctor"] => Some(Live::Pods),
        _ => None,
    }
}

/// Whether the next word is the value of this flag.
fn takes_value(command: &Command, flag: &str) -> bool {
    let mut all = command.get_arguments().chain(command.get_subcommands().flat_map(Command::get_arguments));
    let long = flag.strip_prefix("--");
    let short =
        flag.strip_prefix('-').filter(|name| name.chars().count() == 1).and_then(|name| name.chars().next());
    all.any(|argument| {
        let named = (long.is_some() && argument.get_long() == long)
            || (short.is_some() && argument.get_short() == short);
        named && argument.get_action().takes_values() && !argument.is_require_equals_set()
    })
}

async fn names(live: Live, command: &Command, words: &[String]) -> Result<Vec<(String, String)>, Failure> {
    let so_far = &words[..words.len().saturating_sub(1)];
    let matches = command.clone().ignore_errors(true).try_get_matches_from(so_far);
    let flags = matches.ok().and_then(|matches| Flags::from_arg_matches(&matches).ok()).unwrap_or_default();
    if live == Live::Contexts {
        return Ok(contexts(&flags));
    }
    let cluster = Cluster::open(&flags).await?;
    let namespace = paths::namespace(cluster.namespace())?;
    let path = match live {
        Live::Apps => return apps(&cluster, namespace).await,
        Live::Sessions => paths::sessions(Some(namespace)),
        Live::Policies => paths::policies(Some(namespace)),
        Live::Pods => format!("/api/v1/namespaces/{namespace}/pods"),
        Live::Namespaces | Live::Contexts => "/api/v1/namespaces".to_owned(),
    };
    let list = cluster.json(&Ask::get(paths::with(&path, &[("limit", MOST)])).accept(METADATA)).await?;
    let name = |item: &Value| Some((item["metadata"]["name"].as_str()?.to_owned(), String::new()));
    Ok(list["items"].as_array().into_iter().flatten().filter_map(name).collect())
}

async fn apps(cluster: &Cluster, namespace: &str) -> Result<Vec<(String, String)>, Failure> {
    let all = policies::list(cluster, Some(namespace)).await?;
    let here = all.iter().flat_map(policies::Policy::apps).filter(|(of, _)| *of == namespace);
    Ok(here
        .map(|(_, app)| (format!("{}/{}", app.kind, app.name), app.runtime.clone().unwrap_or_default()))
        .collect())
}

fn contexts(flags: &Flags) -> Vec<(String, String)> {
    let all = Files::of(flags).read().ok().flatten().unwrap_or_default().contexts;
    all.into_iter().map(|context| (context.name, String::new())).collect()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn names_are_asked_for_where_names_belong() {
        let cases = [
            ("top |", Some(Live::Sessions)),
            ("-n shop top |", Some(Live::Sessions)),
            ("top --rows 5 |", Some(Live::Sessions)),
            ("top --rows |", None),
            ("top a |", None),
            ("diff a --base |", Some(Live::Sessions)),
            ("now -n |", Some(Live::Namespaces)),
            ("now --wait |", Some(Live::Apps)),
            ("now --policy |", Some(Live::Policies)),
            ("doctor |", Some(Live::Pods)),
            ("sessions -A |", None),
            ("top -|", None),
            ("--context |", Some(Live::Contexts)),
            ("|", None),
        ];
        for (text, live) in cases {
            let words: Vec<String> = text.split(' ').map(|word| word.replace('|', "")).collect();
            assert_eq!(wanted(&Cli::command(), &words), live, "{text}");
        }
    }

    #[test]
    fn the_link_leads_to_what_was_called_and_not_to_what_an_update_removes() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().canonicalize().unwrap().join(name);
        for folder in ["store/v1", "bin", "other"] {
            std::fs::create_dir_all(at(folder)).unwrap();
        }
        std::fs::write(at("store/v1/kubectl-fleetprof"), "").unwrap();
        std::fs::write(at("other/kubectl-fleetprof"), "another one").unwrap();
        std::os::unix::fs::symlink("../store/v1/kubectl-fleetprof", at("bin/kubectl-fleetprof")).unwrap();
        let (program, link) = (at("store/v1/kubectl-fleetprof"), at("bin/kubectl-fleetprof"));
        let path = std::env::join_paths([at("other"), at("bin")]).unwrap();
        let called = |name: &OsStr| as_called(name, &path, &program);
        assert_eq!(called(link.as_os_str()), Some(link.clone()), "as kubectl calls it");
        assert_eq!(called(OsStr::new("kubectl-fleetprof")), Some(link), "as a shell calls it");
        assert_eq!(called(program.as_os_str()), Some(program.clone()));
        assert_eq!(called(OsStr::new("/gone/kubectl-fleetprof")), None);
        assert_eq!(called(OsStr::new("")), None);
    }

    #[test]
    fn the_plugin_answers_by_the_name_that_it_is_called_by() {
        let called = |name: &str| is_asked(&[name.into()]);
        assert!(called("/home/ada/.krew/bin/kubectl_complete-fleetprof"));
        assert!(!called("/usr/bin/kubectl-fleetprof") && !is_asked(&[]));
    }
}
