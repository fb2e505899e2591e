//! `kubectl fleetprof man`: what do the man pages say? They are made of the definitions that the command line and
//! its help come from, so none can be out of date: one for the plugin and one for each command, also below others.

use std::path::PathBuf;

use clap::{Args, Command};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use crate::exit::{Exit, Failure};
use crate::output;

/// Where to write them.
#[derive(Args, Debug)]
pub(crate) struct ManArgs {
    /// The folder to write to, such as ~/.local/share/man/man1; it is created if it does not exist.
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
}

/// Writes them; `command` is the plugin's.
pub(crate) fn run(args: &ManArgs, command: Command) -> Result<Exit, Failure> {
    let failed = |path: &PathBuf, error: &std::io::Error| {
        Failure::error(format!("{} cannot be written: {error}; choose another folder", path.display()))
    };
    let pages = pages(command).map_err(|error| failed(&args.folder, &error))?;
    std::fs::create_dir_all(&args.folder).map_err(|error| failed(&args.folder, &error))?;
    for (name, page) in &pages {
        let path = args.folder.join(name);
        std::fs::write(&path, page).map_err(|error| failed(&path, &error))?;
    }
    output::note(&format!("Wrote {} man pages to {}.", pages.len(), args.folder.display()));
    Ok(Exit::Data)
}

/// The pages by the names of their files.
fn pages(command: Command) -> std::io::Result<Vec<(String, Vec<u8>)>> {
    let mut command = without_help(command);
    command.build();
    let mut pages = Vec::new();
    add(&command, &["kubectl", "kubectl-fleetprof"], &mut pages)?;
    Ok(pages)
}

/// Without the commands `help`, which clap gives everything that has commands.
fn without_help(command: Command) -> Command {
    command.disable_help_subcommand(true).mut_subcommands(without_help)
}

/// Adds the page of a command, and those of the commands below it; `above` are the pages that lead to it.
fn add(command: &Command, above: &[&str], pages: &mut Vec<(String, Vec<u8>)>) -> std::io::Result<()> {
    pages.push(page(command.clone(), above)?);
    let name = command.get_display_name().unwrap_or_else(|| command.get_name());
    let mut way = above.to_vec();
    way.extend((!way.contains(&name)).then_some(name));
    command.get_subcommands().filter(|verb| !verb.is_hide_set()).try_for_each(|verb| add(verb, &way, pages))
}

fn page(command: Command, above: &[&str]) -> std::io::Result<(String, Vec<u8>)> {
    let source = concat!("fleetprof ", env!("CARGO_PKG_VERSION"));
    let man = Man::new(command).source(source).manual("kubectl fleetprof");
    let mut page = Vec::new();
    man.render(&mut page)?;
    let mut roff = Roff::new();
    roff.control("SH", ["EXIT STATUS"]);
    for exit in Exit::ALL {
        roff.control("TP", []);
        roff.text([bold(exit.code().to_string())]).text([roman(exit.meaning())]);
    }
    roff.control("SH", ["SEE ALSO"]);
    let mut see = Vec::new();
    for (at, name) in above.iter().enumerate() {
        see.extend((at > 0).then(|| roman(", ")));
        see.extend([bold(*name), roman("(1)")]);
    }
    roff.text(see);
    page.extend(roff.render().into_bytes());
    Ok((man.get_filename(), page))
}

#[cfg(test)]
mod tests {
    use std::process::{Command as Process, Stdio};

    use clap::CommandFactory;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn every_command_has_a_page_with_all_of_its_flags() {
        let pages = pages(Cli::command()).unwrap();
        let text = |name: &str| {
            let found = pages.iter().find(|(file, _)| file == name);
            let page = found.unwrap_or_else(|| panic!("{name} is missing")).1.clone();
            // Roff escapes hyphens with a backslash.
            String::from_utf8(page).unwrap().replace("\\-", "-")
        };
        let whole = text("kubectl-fleetprof.1");
        let command = Cli::command();
        let below = |of: &Command| -> Vec<Command> {
            of.get_subcommands().filter(|verb| !verb.is_hide_set()).cloned().collect()
        };
        let first: Vec<(String, Command, String)> = below(&command)
            .into_iter()
            .map(|verb| (verb.get_name().to_owned(), verb, whole.clone()))
            .collect();
        let nested: Vec<(String, Command, String)> = first
            .iter()
            .flat_map(|(name, verb, _)| {
                let parent = text(&format!("kubectl-fleetprof-{name}.1"));
                let named = |of: Command| (format!("{name}-{}", of.get_name()), of, parent.clone());
                below(verb).into_iter().map(named).collect::<Vec<_>>()
            })
            .collect();
        assert!(nested.iter().any(|(name, ..)| name == "symbols-missing"), "{nested:?}");
        assert_eq!(pages.len(), first.len() + nested.len() + 1);
        for (name, verb, parent) in first.iter().chain(&nested) {
            assert!(parent.contains(&format!("kubectl-fleetprof-{name}(1)")), "{name} is not in {parent}");
            let page = text(&format!("kubectl-fleetprof-{name}.1"));
            let way = name
                .rsplit_once('-')
                .map_or("kubectl-fleetprof".to_owned(), |(up, _)| format!("kubectl-fleetprof-{up}"));
            assert!(
                page.contains(&format!("\\fB{way}\\fR(1)")),
                "{name} does not lead back to {way}: {page}"
            );
            assert!(!page.contains(&format!("{name}-help")), "{page}");
            let flags = verb.get_arguments().chain(command.get_arguments());
            for flag in flags.filter(|flag| !flag.is_hide_set()).filter_map(clap::Arg::get_long) {
                assert!(page.contains(&format!("--{flag}")), "{name}: --{flag} is not in {page}");
            }
            for wanted in
                ["kubectl fleetprof", ".SH SYNOPSIS", ".SH DESCRIPTION", ".SH \"EXIT STATUS\"", "130"]
            {
                assert!(page.contains(wanted), "{name}: {wanted} is not in {page}");
            }
        }
    }

    /// As a reader sees them, where there is a reader.
    #[test]
    fn man_shows_every_page_without_a_warning() {
        if Process::new("man").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err()
        {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        run(&ManArgs { folder: folder.path().join("man1") }, Cli::command()).unwrap();
        for file in std::fs::read_dir(folder.path().join("man1")).unwrap() {
            let path = file.unwrap().path();
            let man = Process::new("man")
                .args(["--warnings", "-l"])
                .arg(&path)
                .env("MANWIDTH", "100")
                .env("LC_ALL", "C.UTF-8")
                .output()
                .unwrap();
            let (shown, said) = (String::from_utf8_lossy(&man.stdout), String::from_utf8_lossy(&man.stderr));
            assert!(man.status.success() && said.is_empty(), "{}: {said}", path.display());
            assert!(shown.contains("EXIT STATUS") && shown.contains("--context"), "{shown}");
        }
    }
}
