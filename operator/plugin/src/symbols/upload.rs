//! `kubectl fleetprof symbols upload`: how do files with symbols come into the cluster?

use std::cell::RefCell;
use std::collections::HashSet;
use std::fs::File;
use std::io::IsTerminal;
use std::path::PathBuf;

use clap::Args;
use fleetprof_core::text::counted;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::files::{self, Files, Found};
use super::send::{self, Told};
use super::size;
use crate::cluster::{Ask, Cluster};
use crate::exit::{Exit, Failure};
use crate::follow::patient;
use crate::output::{self, Format};
use crate::paths;
use crate::table::Table;

/// Without a terminal, the longest silence, in seconds.
const SILENCE: u64 = 30;

/// What to upload.
#[derive(Args, Debug)]
pub(super) struct UploadArgs {
    /// Files with symbols, or folders that are searched for them: programs that are not stripped, or the files that
    /// objcopy --only-keep-debug makes.
    #[arg(value_name = "FILE|FOLDER", required = true)]
    paths: Vec<PathBuf>,
    /// Send files too of whose build ID the cluster has one.
    #[arg(long)]
    replace: bool,
    /// How to print what was sent.
    #[arg(long, short = 'o', value_name = "FORMAT")]
    output: Option<Format>,
}

/// What became of a file that can be used.
struct Done {
    found: Found,
    sent: bool,
}

/// Uploads them, one after the other.
pub(super) async fn run(cluster: &Cluster, args: &UploadArgs) -> Result<Exit, Failure> {
    let files = files::look(&args.paths);
    tell(&files);
    if files.found.is_empty() {
        return Err(Failure::error(
            "there is no file with symbols: build without stripping, and keep that file",
        ));
    }
    let list = patient(async || cluster.json(&Ask::get(paths::symbols())).await).await?;
    let known = if args.replace { HashSet::new() } else { known(&list) };
    let (mut done, mut failed) = (Vec::new(), skipped_by_name(&files, &args.paths));
    for found in files.found {
        let sent = !known.contains(&found.build_id);
        if sent {
            match one(cluster, &found).await {
                Err(failure) if matches!(failure.status(), Some(401 | 403 | 404)) => return Err(failure),
                Err(failure) => {
                    output::note(&format!("error: {}: {failure}", found.path.display()));
                    failed = true;
                    continue;
                }
                Ok(()) => {}
            }
        }
        done.push(Done { found, sent });
    }
    let exit = if failed { Exit::Error } else { Exit::Data };
    crate::exit::after(print(&done, args.output), exit)
}

/// Whether a file that was named cannot be used.
fn skipped_by_name(files: &Files, named: &[PathBuf]) -> bool {
    files.skipped.iter().any(|(path, _)| named.contains(path))
}

fn tell(files: &Files) {
    for (path, why) in &files.skipped {
        output::note(&format!("skipped {}: {why}", path.display()));
    }
    if files.others > 0 {
        let others = counted(files.others, "other file is", "other files are");
        output::note(&format!("{others} not ELF."));
    }
}

/// The build ids that the cluster has.
fn known(list: &Value) -> HashSet<String> {
    let items = list["items"].as_array().into_iter().flatten();
    items.filter_map(|item| item["metadata"]["name"].as_str().map(str::to_owned)).collect()
}

async fn one(cluster: &Cluster, found: &Found) -> Result<(), Failure> {
    let unreadable = |error: std::io::Error| Failure::error(format!("it cannot be read ({error})"));
    let file = File::open(&found.path).map_err(unreadable)?;
    let sum = send::sum(&file).map_err(unreadable)?;
    let name = found.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let size = found.bytes.to_string();
    let (mut progress, last) = (Progress::new(&name, found.bytes), RefCell::new(Value::Null));
    let ask = async |offset: u64, piece: Vec<u8>| {
        let at = offset.to_string();
        let query = [
            ("offset", at.as_str()),
            ("size", size.as_str()),
            ("sha256", sum.as_str()),
            ("name", name.as_str()),
        ];
        let ask = Ask::send(paths::symbols_content(&found.build_id, &query), piece);
        let answer = patient(async || cluster.json(&ask).await).await?;
        let told = Told::read(&answer);
        last.replace(answer);
        told
    };
    let sent = send::send(&file, found.bytes, ask, |offset| progress.show(offset)).await;
    progress.finish();
    super::warn(&last.borrow());
    sent
}

fn print(done: &[Done], format: Option<Format>) -> Result<(), Failure> {
    let object = |done: &Done| {
        let Found { path, build_id, bytes } = &done.found;
        let result = if done.sent { "Uploaded" } else { "Known" };
        json!({"buildId": build_id, "file": path.to_string_lossy(), "bytes": bytes, "result": result})
    };
    match format {
        Some(format @ (Format::Json | Format::Yaml)) => {
            let objects: Vec<Value> = done.iter().map(object).collect();
            output::print(&output::object(&json!({"symbols": objects}), format)?)
        }
        Some(Format::Name) => {
            output::print(&done.iter().map(|done| format!("{}\n", done.found.build_id)).collect::<String>())
        }
        None | Some(Format::Wide) => output::print(&table(done).text()),
    }
}

fn table(done: &[Done]) -> Table {
    let mut table = Table::new(&["build id", "file", "size", "result"]);
    for Done { found, sent } in done {
        let result = if *sent { "uploaded" } else { "known, not sent" };
        let file = found.path.to_string_lossy().into_owned();
        table.row(vec![found.build_id.clone(), file, size(found.bytes), result.to_owned()]);
    }
    table
}

/// What is shown of a file that is being sent: a bar on a terminal, elsewhere a line and one every 30 s.
struct Progress {
    bar: Option<ProgressBar>,
    name: String,
    bytes: u64,
    said: Instant,
}

impl Progress {
    fn new(name: &str, bytes: u64) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(Some(bytes), ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template("{spinner} [{bar:20}] {bytes}/{total_bytes} {wide_msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "));
            bar.set_message(output::lines(name));
            bar
        });
        if bar.is_none() {
            output::note(&format!("Uploading {name} ({})", size(bytes)));
        }
        Self { bar, name: name.to_owned(), bytes, said: Instant::now() }
    }

    fn show(&mut self, offset: u64) {
        match &self.bar {
            Some(bar) => bar.set_position(offset),
            None if self.said.elapsed().as_secs() >= SILENCE => {
                self.said = Instant::now();
                output::note(&format!("Uploading {}: {} of {}", self.name, size(offset), size(self.bytes)));
            }
            None => {}
        }
    }

    fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_says_what_became_of_a_file() {
        let found = Found { path: "/b/shop.debug".into(), build_id: "abcdef01".into(), bytes: 12 << 20 };
        let done = [Done { found: found.clone(), sent: true }, Done { found, sent: false }];
        let text = table(&done).text();
        assert!(text.contains("abcdef01   /b/shop.debug   12.0 MiB   uploaded\n"), "{text}");
        assert!(text.ends_with("known, not sent\n"), "{text}");
        let list = json!({"items": [{"metadata": {"name": "abcdef01"}}, {}]});
        assert_eq!(known(&list), HashSet::from(["abcdef01".to_owned()]));
        assert!(known(&json!({})).is_empty());
    }

    #[test]
    fn a_file_that_was_named_and_cannot_be_used_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notes");
        std::fs::write(&path, "text").unwrap();
        let named = [path];
        assert!(skipped_by_name(&files::look(&named), &named));
        let within = [folder.path().to_owned()];
        assert!(!skipped_by_name(&files::look(&within), &within));
    }
}
