//! Which commands are there?

use clap::{Parser, Subcommand};

use crate::apps::AppsArgs;
use crate::compare::{DiffArgs, RegressArgs};
use crate::completion::CompletionArgs;
use crate::console::ConsoleArgs;
use crate::doctor::DoctorArgs;
use crate::flags::Flags;
use crate::get::GetArgs;
use crate::now::NowArgs;
use crate::read::{FlameArgs, TopArgs};
use crate::sessions::SessionsArgs;

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
    /// Say whether a new revision is slower: 0 no, 1 yes, 3 it cannot be told, 2 an error.
    Regress(RegressArgs),
    /// Look for what is wrong, with the reasons of the status and what to do.
    Doctor(DoctorArgs),
    /// Serve a page on this machine that shows and starts sessions.
    Console(ConsoleArgs),
    /// Print a completion script, or install completion for kubectl.
    Completion(CompletionArgs),
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
}
