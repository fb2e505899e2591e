//! Which commands are there?

use clap::{Parser, Subcommand};

use crate::apps::AppsArgs;
use crate::compare::{DiffArgs, RegressArgs};
use crate::completion::CompletionArgs;
use crate::console::ConsoleArgs;
use crate::doctor::DoctorArgs;
use crate::flags::Flags;
use crate::get::GetArgs;
use crate::man::ManArgs;
use crate::now::NowArgs;
use crate::read::{FlameArgs, TopArgs};
use crate::sessions::SessionsArgs;
use crate::symbols::SymbolsArgs;

/// Profile apps in a Kubernetes cluster and read the results.
///
/// kubectl's flags go after the command: kubectl fleetprof sessions --context prod.
#[derive(Parser, Debug)]
#[command(name = "kubectl-fleetprof", bin_name = "kubectl fleetprof", version, about)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) flags: Flags,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// The commands.
#[derive(Subcommand, Debug)]
pub(crate) enum Verb {
    /// Profile a workload, pods or all apps of a policy now.
    Now(Box<NowArgs>),
    /// List the apps that policies link, and why some cannot be profiled.
    Apps(AppsArgs),
    /// List sessions.
    Sessions(SessionsArgs),
    /// Show a session in words.
    Get(GetArgs),
    /// List the hottest functions of a session.
    Top(TopArgs),
    /// Save a flame graph, or the profile, of a session.
    Flame(FlameArgs),
    /// Show what changed from another session to this one; with --fail-on as a gate.
    Diff(DiffArgs),
    /// Say whether a new revision is slower; exits with 0 if not, 1 if so, 2 on an error, 3 if inconclusive.
    Regress(RegressArgs),
    /// List the files whose functions have no names in profiles, and upload files with symbols.
    Symbols(SymbolsArgs),
    /// Look for what is wrong, with the reasons of the status and what to do.
    Doctor(DoctorArgs),
    /// Serve a page on this machine that shows and starts sessions.
    Console(ConsoleArgs),
    /// Print a completion script, or install completion for kubectl.
    Completion(CompletionArgs),
    /// Write the man pages.
    // Packagers need it once, people never.
    #[command(hide = true)]
    Man(ManArgs),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn shorthands_mean_what_they_mean_to_kubectl() {
        let wanted = [
            ("namespace", 'n'),
            ("server", 's'),
            ("all_namespaces", 'A'),
            ("selector", 'l'),
            ("output", 'o'),
            ("watch", 'w'),
            ("container", 'c'),
            ("filename", 'f'),
        ];
        let command = Cli::command();
        let all =
            command.get_subcommands().flat_map(clap::Command::get_arguments).chain(command.get_arguments());
        for argument in all {
            let Some(short) = argument.get_short() else { continue };
            let id = argument.get_id().as_str();
            assert!(wanted.contains(&(id, short)) || matches!(short, 'h' | 'V'), "-{short} is {id}");
        }
    }

    #[test]
    fn flags_that_every_command_of_kubectl_takes_are_taken() {
        let sets = [
            "--cache-dir /tmp/x --disable-compression",
            "--disable-compression=true --insecure-skip-tls-verify=false",
            "--insecure-skip-tls-verify --request-timeout=5s",
        ];
        for set in sets {
            let parsed = Cli::try_parse_from(words(&format!("kubectl-fleetprof sessions {set} -A")));
            let flags = parsed.unwrap_or_else(|error| panic!("{set}: {error}")).flags;
            assert_eq!(flags.insecure_skip_tls_verify, set.contains("verify "), "{set}");
        }
    }

    /// The words of a line of shell, without its comment.
    fn words(line: &str) -> Vec<String> {
        let (mut words, mut quote) = (vec![String::new()], None);
        for c in line.chars() {
            match (c, quote) {
                ('#', None) if words.last().is_some_and(String::is_empty) => break,
                ('\'' | '"', None) => quote = Some(c),
                (c, Some(open)) if c == open => quote = None,
                (' ', None) => words.push(String::new()),
                _ => words.last_mut().unwrap().push(c),
            }
        }
        words.into_iter().filter(|word| !word.is_empty()).collect()
    }

    #[test]
    fn the_commands_of_the_guides_are_understood() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let guide = std::fs::read_to_string(root.join("docs/plugin.md")).unwrap();
        let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
        let lines: Vec<&str> =
            guide.lines().chain(readme.lines()).filter(|l| l.starts_with("kubectl fleetprof ")).collect();
        assert!(lines.len() > 15, "{lines:?}");
        for line in &lines {
            let parsed = Cli::try_parse_from(words(line).into_iter().skip(1));
            assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
        }
        for command in Cli::command().get_subcommands() {
            let name = command.get_name();
            let shown = lines.iter().any(|line| words(line).get(2).is_some_and(|word| word == name));
            assert!(shown, "docs/plugin.md shows no kubectl fleetprof {name}");
        }
    }

    /// The words of a shortcut's command, with what k9s puts in for its variables.
    fn command_of(shortcut: &serde_json::Value) -> Vec<String> {
        let words: Vec<&str> =
            shortcut["args"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
        let [flag, script, name, rest @ ..] = words.as_slice() else { panic!("{words:?}") };
        assert_eq!((*flag, *name), ("-c", "sh"));
        // k9s would replace any other variable, and the shell would read what it replaced it with.
        assert!(script.contains("\"$@\"") && script.matches('$').count() == 1, "{script}");
        let values = [("$NAMESPACE", "shop"), ("$NAME", "orders-1"), ("$CONTEXT", "arn:aws:eks:a b")];
        let filled = rest.iter().map(|word| {
            values.iter().fold((*word).to_owned(), |word, (name, value)| word.replace(name, value))
        });
        let filled: Vec<String> = filled.collect();
        assert!(filled.iter().all(|word| !word.contains('$')), "k9s does not know a variable of {rest:?}");
        filled
    }

    #[test]
    fn the_shortcuts_for_k9s_are_understood_by_k9s_and_by_this_program() {
        let file = include_str!("../../../docs/k9s-plugin.yaml");
        let read: serde_json::Value = serde_yaml::from_str(file).unwrap();
        let fields = ["shortCut", "description", "dangerous", "scopes", "command", "args"];
        let (mut keys, mut verbs) = (Vec::new(), Vec::new());
        for (name, shortcut) in read["plugins"].as_object().unwrap() {
            assert!(name.starts_with("fleetprof-"), "{name} could be another plugin's");
            assert!(shortcut.as_object().unwrap().keys().all(|key| fields.contains(&&**key)), "{name}");
            assert!(
                !shortcut["description"].as_str().unwrap().is_empty() && shortcut["command"] == "sh",
                "{name}"
            );
            let scopes = shortcut["scopes"].as_array().unwrap();
            assert!(!scopes.is_empty(), "{name}");
            keys.extend(scopes.iter().map(|scope| (scope.to_string(), shortcut["shortCut"].to_string())));
            let words = command_of(shortcut);
            assert_eq!(words[..2], ["kubectl", "fleetprof"], "{name}");
            let parsed = Cli::try_parse_from(&words[1..]).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(parsed.flags.namespace.as_deref(), Some("shop"), "{name}");
            assert_eq!(parsed.flags.context.as_deref(), Some("arn:aws:eks:a b"), "{name}");
            let starts = matches!(parsed.verb, Verb::Now(_));
            assert_eq!(shortcut["dangerous"] == true, starts, "{name}: what starts a session is dangerous");
            verbs.push(words[2].clone());
        }
        let all = keys.len();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), all, "two shortcuts of the same row have the same key: {keys:?}");
        for wanted in ["now", "top", "flame"] {
            assert!(verbs.iter().any(|verb| verb == wanted), "{wanted}: {verbs:?}");
        }
    }
}
