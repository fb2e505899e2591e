//! Which settings in the environment does this version not read? A chart of another version sets them, or a typing
//! error: what they ask for does not happen, so each is worth a warning.

use std::collections::BTreeSet;

use clap::Command;

/// What all settings begin with.
const PREFIX: &str = "FLEETPROF_";

/// Settings that older versions read, and where that is set now.
const MOVED: [(&str, &str); 1] = [(
    "FLEETPROF_DESTINATIONS",
    "destinations are part of the file in FLEETPROF_CONFIG now, below \"destinations:\"; upgrade the chart to the \
     operator's version, which writes that file from its value destinations",
)];

/// A warning for each of these variables that neither `command` nor one of its subcommands reads.
pub fn unread(command: &Command, variables: impl Iterator<Item = String>) -> Vec<String> {
    let mut known = BTreeSet::new();
    read(command, &mut known);
    let set: BTreeSet<String> = variables.filter(|name| name.starts_with(PREFIX)).collect();
    set.iter()
        .filter(|name| !known.contains(*name) && !is_link(name, &set))
        .map(|name| warning(name))
        .collect()
}

fn read(command: &Command, known: &mut BTreeSet<String>) {
    let of_arguments = command.get_arguments().filter_map(clap::Arg::get_env);
    known.extend(of_arguments.map(|name| name.to_string_lossy().into_owned()));
    command.get_subcommands().for_each(|subcommand| read(subcommand, known));
}

/// Whether Kubernetes sets it for a Service: `FLEETPROF_LEADER_SERVICE_HOST`, and others that begin as that one
/// does, such as `FLEETPROF_LEADER_PORT`. The chart switches that off.
fn is_link(name: &str, set: &BTreeSet<String>) -> bool {
    let of_service = |service: &str| set.contains(&format!("{service}_SERVICE_HOST"));
    ["_SERVICE_HOST", "_SERVICE_PORT", "_PORT"]
        .iter()
        .flat_map(|part| name.match_indices(part))
        .any(|(at, _)| of_service(&name[..at]))
}

fn warning(name: &str) -> String {
    let moved = MOVED.iter().find(|(moved, _)| *moved == name).map(|(_, to)| *to);
    let to_do = moved
        .unwrap_or("check its spelling, and that the chart and the operator's image have the same version");
    format!("{name} is set, but this version does not read it, so it has no effect: {to_do}")
}

#[cfg(test)]
mod tests {
    use clap::Arg;

    use super::*;

    fn unread_of(names: &[&str]) -> Vec<String> {
        let run = Command::new("run").arg(Arg::new("config").long("config").env("FLEETPROF_CONFIG"));
        let command =
            Command::new("operator").arg(Arg::new("log").long("log").env("FLEETPROF_LOG")).subcommand(run);
        unread(&command, names.iter().map(|name| (*name).to_owned()))
    }

    #[test]
    fn what_an_older_chart_set_is_named_with_what_to_do() {
        let said = unread_of(&["FLEETPROF_DESTINATIONS", "FLEETPROF_CONFIG", "FLEETPROF_LOG", "PATH"]);
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(
            said[0].starts_with("FLEETPROF_DESTINATIONS is set, but this version does not read it"),
            "{said:?}"
        );
        assert!(said[0].contains("FLEETPROF_CONFIG") && said[0].contains("upgrade the chart"), "{said:?}");
    }

    #[test]
    fn a_typing_error_is_named_and_a_link_to_a_service_is_not() {
        let links = [
            "FLEETPROF_LEADER_SERVICE_HOST",
            "FLEETPROF_LEADER_SERVICE_PORT_GATEWAY",
            "FLEETPROF_LEADER_PORT",
            "FLEETPROF_LEADER_PORT_8443_TCP_ADDR",
        ];
        assert!(unread_of(&links).is_empty(), "{:?}", unread_of(&links));
        let said = unread_of(&["FLEETPROF_CONFIGS", "FLEETPROF_CLUSTRE", "FLEETPROF_GATEWAY_PORT"]);
        assert_eq!(said.len(), 3, "without a Service of that name, a port is a setting: {said:?}");
        assert!(said[0].starts_with("FLEETPROF_CLUSTRE is set") && said[0].contains("spelling"), "{said:?}");
    }
}
