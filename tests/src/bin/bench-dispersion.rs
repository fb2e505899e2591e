//! How much more do shares of functions vary between stored captures of one revision than counting samples gives?
//!
//! `bench-dispersion DIR`, of a folder with `REVISION/SESSION/POD.cpu.pb.gz` and `….heap.pb.gz`, as
//! `tests/bench/dispersion.sh` fetches them. Prints what the simulations of verdicts and of growth take for granted
//! (φ) beside what there is.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use fleetprof_profile::trend::{LEAST_SESSIONS, Settings, trend};
use fleetprof_profile::verdict::{About, Dispersion, PodCapture, Side, dispersion};
use fleetprof_profile::{Limits, ProfileKind, decode_valid};

/// Bytes between two samples of Go's heap profile, which simulated memory varies by.
const STEP: f64 = 524_288.0;
/// The function whose spread is told.
const REFERENCE: f64 = 0.05;

fn main() -> Result<()> {
    let Some(directory) = std::env::args_os().nth(1) else {
        bail!("name the folder with the profiles: bench-dispersion DIR, see tests/bench/dispersion.sh");
    };
    let revisions = folders(Path::new(&directory))?;
    ensure!(!revisions.is_empty(), "{} has no folder REVISION/SESSION with profiles", directory.display());
    println!(
        "| revision | captures in sessions | samples of a capture | φ of pods | φ of sessions | = spread of a function of 5 % | memory |"
    );
    println!("|---|---|---|---|---|---|---|");
    for revision in &revisions {
        println!("{}", row(revision)?);
    }
    println!(
        "| simulated verdicts | | 356 to 11,880 | 1 and 4 | | 20 % where costs differ between moments | |"
    );
    println!(
        "| simulated growth | 2 pods in 8 to 24 sessions | 2,970 | 1 and 4 | | 0, 10 % and 20 % | 1.0 |"
    );
    Ok(())
}

/// The folders in a folder, by name.
fn folders(path: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(path).with_context(|| format!("cannot read the folder {}", path.display()))?;
    let mut found: Vec<PathBuf> = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<_>>>()?
        .into_iter()
        .filter(|p| p.is_dir())
        .collect();
    found.sort();
    Ok(found)
}

/// The captures of a revision, by kind; the moment of each is the position of its session.
fn captures(revision: &Path, kind: ProfileKind) -> Result<Vec<PodCapture>> {
    let mut captures = Vec::new();
    for (moment, session) in (0_u32..).zip(folders(revision)?) {
        let mut files: Vec<PathBuf> =
            fs::read_dir(&session)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
        files.sort();
        let ending = format!(".{kind}.pb.gz");
        for file in files.iter().filter(|file| file.to_string_lossy().ends_with(&ending)) {
            captures
                .push(capture(file, kind, moment).with_context(|| format!("cannot use {}", file.display()))?);
        }
    }
    Ok(captures)
}

fn capture(file: &Path, kind: ProfileKind, moment: u32) -> Result<PodCapture> {
    let profile = decode_valid(&fs::read(file)?, &Limits::default())?;
    let pod = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let pod_seconds = profile.duration_nanos.max(1) as f64 / 1e9;
    let about = About { pod, side: Side::New, moment, pod_seconds, cpu_seconds: None, coverage: None };
    Ok(PodCapture::of_kind(&profile, kind, about)?)
}

fn row(revision: &Path) -> Result<String> {
    let cpu = captures(revision, ProfileKind::Cpu)?;
    let heap = captures(revision, ProfileKind::Heap)?;
    ensure!(!cpu.is_empty() || !heap.is_empty(), "{} has no profile POD.cpu.pb.gz", revision.display());
    let found = dispersion(&cpu);
    let number = |phi: Option<f64>| phi.map_or_else(|| "–".to_owned(), |phi| format!("{phi:.1}"));
    let name = revision.file_name().unwrap_or_default().to_string_lossy();
    Ok(format!(
        "| {name} | {} in {} | {:.0} | {} | {} | {} | {} |",
        found.captures,
        found.count,
        found.samples,
        number(found.pods),
        number(found.moments),
        spread(&found),
        memory(&heap)
    ))
}

/// The spread of the cost of a function of 5 % between sessions that has this φ beside counting.
fn spread(found: &Dispersion) -> String {
    let samples = found.samples_of_moment;
    let beyond = found.moments.map(|phi| (phi - 1.0).max(0.0) * (1.0 - REFERENCE) / (REFERENCE * samples));
    beyond.filter(|b| b.is_finite()).map_or_else(|| "–".to_owned(), |b| format!("{:.0} %", 100.0 * b.sqrt()))
}

/// Variance of memory between sessions ÷ what sampling every 512 KiB gives in as many pods.
fn memory(heap: &[PodCapture]) -> String {
    if heap.is_empty() {
        return "–".to_owned();
    }
    let found = trend(ProfileKind::Heap, heap, &BTreeMap::new(), &Settings::default(), 1);
    let pods = found.captures as f64 / found.sessions.max(1) as f64;
    match found.dispersion {
        Some(dispersion) => format!("{:.1}", dispersion * pods / STEP),
        None => format!("– ({} of {LEAST_SESSIONS} sessions)", found.sessions),
    }
}

#[cfg(test)]
mod tests {
    use fleetprof_profile::{Frame, ProfileBuilder, encode};

    use super::*;

    fn write(path: &Path, hits: u32) -> Result<()> {
        let mut builder = ProfileBuilder::new(ProfileKind::Cpu, 10_000_000, 1);
        for (function, hits) in [("parse", 1_000), ("render", hits)] {
            builder.add_hits(&[Frame::named(function, "app.py", 1)], hits, &[])?;
        }
        fs::create_dir_all(path.parent().context("a folder")?)?;
        Ok(fs::write(path, encode(&builder.finish(30_000_000_000, &[]))?)?)
    }

    #[test]
    fn stored_profiles_become_a_row_and_what_is_none_is_named() -> Result<()> {
        let directory = std::env::temp_dir().join(format!("fleetprof-dispersion-{}", std::process::id()));
        let revision = directory.join("Deployment_orders_r1");
        for (session, hits) in [("s1", 900), ("s2", 1_100), ("s3", 1_000)] {
            for pod in ["a", "b"] {
                write(&revision.join(session).join(format!("{pod}.cpu.pb.gz")), hits)?;
            }
        }
        let row = row(&revision)?;
        assert!(row.starts_with("| Deployment_orders_r1 | 6 in 3 | 2000 | 0.0 | "), "{row}");
        assert!(row.ends_with("| – |"), "{row}");
        fs::write(revision.join("s3").join("c.cpu.pb.gz"), "no profile")?;
        let error = format!("{:#}", captures(&revision, ProfileKind::Cpu).err().context("it is none")?);
        assert!(error.contains("s3/c.cpu.pb.gz"), "{error}");
        fs::remove_dir_all(&directory)?;
        Ok(())
    }
}
