//! `kubectl fleetprof top` and `flame`: what is in a session's profiles?

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use fleetprof_crds::ProfileKind;

use crate::cluster::{Ask, Cluster};
use crate::exit::{Exit, Failure};
use crate::output::{self, Format};
use crate::paths;

/// Which part of a session's profiles.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Part {
    /// Only the profiles of this pod.
    #[arg(long, value_name = "POD", value_parser = paths::name)]
    pod: Option<String>,
    /// The kind of profile, by default the session's first.
    #[arg(long = "type", value_name = "KIND")]
    kind: Option<ProfileKind>,
    /// Only the samples of processes of this name.
    #[arg(long, value_name = "NAME")]
    process: Option<String>,
}

impl Part {
    /// The parameters of the read API.
    pub(crate) fn query(&self) -> Vec<(&str, &str)> {
        let given = [
            ("pod", self.pod.as_deref()),
            ("type", self.kind.map(ProfileKind::name)),
            ("process", self.process.as_deref()),
        ];
        given.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

/// What to list.
#[derive(Args, Debug)]
pub(crate) struct TopArgs {
    /// Name of the session.
    #[arg(value_parser = paths::session_name)]
    session: String,
    #[command(flatten)]
    part: Part,
    /// How many functions, 1 to 1000.
    #[arg(long, value_name = "N", default_value = "20")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=1000))]
    rows: u16,
    /// Show idle threads of a wall profile with their stacks, not as [idle].
    #[arg(long)]
    idle: bool,
    /// How to print them: json or yaml instead of the table.
    #[arg(long, short = 'o', value_name = "FORMAT")]
    output: Option<Format>,
}

/// Lists the hottest functions.
pub(crate) async fn top(cluster: &Cluster, args: &TopArgs) -> Result<Exit, Failure> {
    let rows = args.rows.to_string();
    let mut query = args.part.query();
    query.push(("n", &rows));
    if args.idle {
        query.push(("idle", "true"));
    }
    view(cluster, &args.session, "top", query, args.output).await?;
    Ok(Exit::Data)
}

/// Prints a view as the text of the read API, or as an object.
pub(crate) async fn view<'a>(
    cluster: &Cluster,
    session: &str,
    view: &str,
    mut query: Vec<(&'a str, &'a str)>,
    format: Option<Format>,
) -> Result<(), Failure> {
    let namespace = paths::namespace(cluster.namespace())?;
    match format {
        Some(Format::Name) => Err(Failure::usage("--output name is for lists of objects: use json or yaml")),
        Some(format @ (Format::Json | Format::Yaml)) => {
            query.push(("format", "json"));
            let object = cluster.json(&Ask::get(paths::view(namespace, session, view, &query))).await?;
            output::print(&output::object(&object, format)?)
        }
        None | Some(Format::Wide) => {
            query.push(("format", "text"));
            let ask = Ask::get(paths::view(namespace, session, view, &query)).accept("*/*");
            output::bytes(&cluster.bytes(&ask).await?)
        }
    }
}

/// What to save.
#[derive(Args, Debug)]
pub(crate) struct FlameArgs {
    /// Name of the session.
    #[arg(value_parser = paths::session_name)]
    session: String,
    #[command(flatten)]
    part: Part,
    /// The file: .html is a page for any browser, .pb.gz a pprof file, .folded stacks as text, .json the call
    /// tree; - is stdout and takes --format. By default SESSION.html.
    #[arg(long, short = 'o', value_name = "FILE")]
    output: Option<PathBuf>,
    /// What to save, whatever the file's name says.
    #[arg(long, value_name = "FORMAT")]
    format: Option<Saved>,
}

/// What is saved of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Saved {
    /// A page for any browser.
    Html,
    /// A gzipped pprof file.
    Pprof,
    /// Stacks as text.
    Folded,
    /// The call tree.
    Json,
}

impl Saved {
    /// What the name of a file asks for.
    fn of(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_string_lossy().to_lowercase();
        let ends = |endings: &[&str]| endings.iter().any(|ending| name.ends_with(ending));
        match () {
            () if ends(&[".html", ".htm"]) => Some(Self::Html),
            () if ends(&[".pb.gz", ".pprof"]) => Some(Self::Pprof),
            () if ends(&[".folded", ".txt"]) => Some(Self::Folded),
            () if ends(&[".json"]) => Some(Self::Json),
            () => None,
        }
    }

    const fn view(self) -> (&'static str, Option<&'static str>) {
        match self {
            Self::Html => ("flamegraph", Some("html")),
            Self::Json => ("flamegraph", Some("json")),
            Self::Pprof => ("profile", None),
            Self::Folded => ("folded", None),
        }
    }

    const fn hint(self) -> &'static str {
        match self {
            Self::Html => "open it in any browser; it needs no network",
            Self::Pprof => "open it with go tool pprof",
            Self::Folded => "for flamegraph.pl, inferno and speedscope",
            Self::Json => "docs/reference.md describes its fields",
        }
    }
}

/// Where a flame graph goes, and as what.
#[derive(Debug, PartialEq, Eq)]
struct Destination {
    /// Nothing: stdout.
    file: Option<PathBuf>,
    saved: Saved,
}

impl Destination {
    /// Nothing where the name of the file does not tell what to save.
    fn of(session: &str, output: Option<&Path>, format: Option<Saved>) -> Option<Self> {
        let default = PathBuf::from(format!("{session}.html"));
        let path = output.unwrap_or(&default);
        match path == Path::new("-") {
            true => Some(Self { file: None, saved: format.unwrap_or(Saved::Html) }),
            false => Some(Self { file: Some(path.to_owned()), saved: format.or_else(|| Saved::of(path))? }),
        }
    }
}

/// Saves the profiles of a session.
pub(crate) async fn flame(cluster: &Cluster, args: &FlameArgs) -> Result<Exit, Failure> {
    let place = Destination::of(&args.session, args.output.as_deref(), args.format).ok_or_else(|| {
        Failure::usage(
            "the file's name does not say what to save: end it with .html, .pb.gz, .folded or .json, or pass \
             --format",
        )
    })?;
    let (view, format) = place.saved.view();
    let mut query = args.part.query();
    query.extend(format.map(|format| ("format", format)));
    let namespace = paths::namespace(cluster.namespace())?;
    let data =
        cluster.bytes(&Ask::get(paths::view(namespace, &args.session, view, &query)).accept("*/*")).await?;
    let Some(file) = &place.file else {
        output::bytes(&data)?;
        return Ok(Exit::Data);
    };
    std::fs::write(file, &data)
        .map_err(|error| Failure::error(format!("{} cannot be written: {error}", file.display())))?;
    output::note(&format!(
        "Saved {} ({} KB): {}.",
        file.display(),
        data.len().div_ceil(1000),
        place.saved.hint()
    ));
    Ok(Exit::Data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_file_says_what_is_saved() {
        let saved = |output: Option<&str>, format| {
            Destination::of("now-1", output.map(Path::new), format).map(|place| place.saved)
        };
        let cases = [
            (Some("a.html"), Some(Saved::Html)),
            (Some("dir.html/a.pb.gz"), Some(Saved::Pprof)),
            (Some("A.FOLDED"), Some(Saved::Folded)),
            (Some("a.json"), Some(Saved::Json)),
            (Some("a.svg"), None),
            (Some("a.gz"), None),
            (None, Some(Saved::Html)),
            (Some("-"), Some(Saved::Html)),
        ];
        for (name, wanted) in cases {
            assert_eq!(saved(name, None), wanted, "{name:?}");
        }
        assert_eq!(saved(Some("a.svg"), Some(Saved::Pprof)), Some(Saved::Pprof));
        let default = Destination::of("now-1", None, None).and_then(|place| place.file);
        assert_eq!(default, Some(PathBuf::from("now-1.html")));
    }

    #[test]
    fn what_is_not_given_is_not_asked_for() {
        assert!(Part::default().query().is_empty());
        let part = Part { pod: Some("a".into()), kind: Some(ProfileKind::Wall), process: None };
        assert_eq!(part.query(), [("pod", "a"), ("type", "wall")]);
    }
}
