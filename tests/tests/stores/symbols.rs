//! Files with symbols that people upload, kept by a real object store while leaders with volumes of their own come and
//! go.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use fleetprof_operator::results::Results;
use fleetprof_operator::symbols::uploads::{Claim, Piece, Progress};
use fleetprof_operator::symbols::{Config, Symbols};
use fleetprof_profile::resolve::Lacking;
use fleetprof_tests::{root, run};
use serde_json::json;
use tokio::sync::Semaphore;

use crate::operator::Operator;
use crate::server::{Kind, Server};

/// Bytes of a section that makes the file take several pieces.
const PADDING: usize = 9 << 20;

/// A leader to which people may upload.
struct Leader {
    results: Results,
    symbols: Symbols,
    _operator: Operator,
}

impl Leader {
    async fn start(server: &Server, volume: &Path) -> Self {
        let operator = Operator::start(server, volume).await;
        let config: Config = serde_json::from_value(json!({"uploads": {"size": "64Mi"}})).unwrap();
        let symbols = Symbols::new(&config, volume, program());
        let results = operator.results.clone().named_by(symbols.clone());
        results.settle_symbols().await;
        Self { results, symbols, _operator: operator }
    }

    async fn upload(&self, file: &Path, build_id: &str) {
        let bytes = std::fs::read(file).unwrap();
        let sha256 = run("sha256sum", &[text(file)]).unwrap().split(' ').next().unwrap().to_owned();
        let claim =
            Claim { build_id: build_id.into(), name: "shop.debug".into(), bytes: bytes.len() as u64, sha256 };
        let mut offset = 0;
        loop {
            let end = bytes.len().min(offset + (2 << 20));
            let bytes_of_piece = bytes[offset..end].to_vec().into();
            let piece = Piece {
                claim: claim.clone(),
                user: "ann".into(),
                offset: offset as u64,
                bytes: bytes_of_piece,
            };
            match self.results.upload_symbols(piece).await.unwrap() {
                Progress::Receiving(wanted) => offset = usize::try_from(wanted).unwrap(),
                Progress::Checking => offset = bytes.len(),
                Progress::Stored(_) => return,
            }
        }
    }

    /// How many names there are for an address, and why none.
    async fn names(&self, build_id: &str, address: u64) -> (usize, Option<String>) {
        let lacking = Lacking { build_id: build_id.into(), addresses: vec![address], unnamed: 1 };
        let found = self.symbols.find(&[lacking], &Arc::new(Semaphore::new(1)), 1 << 30).await;
        (found.names.len(), found.failed.get(build_id).cloned())
    }

    /// Build ids, and whether the archive has the files.
    fn listed(&self) -> Vec<(String, Option<bool>)> {
        let (all, warning) = self.results.uploaded_symbols().unwrap();
        assert_eq!(warning, None);
        all.into_iter().map(|listed| (listed.file.build_id, listed.archived)).collect()
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The operator of the same build, which reads files.
fn program() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let built = own.ancestors().skip(1).map(|folder| folder.join("fleetprof-operator"));
    built.take(2).find(|program| program.is_file()).expect("cargo built no fleetprof-operator")
}

/// A program with symbols of some MiB, its build id, and the address of one of its functions.
fn shop(folder: &Path) -> (PathBuf, String, u64) {
    let (whole, padding, file) = (folder.join("shop"), folder.join("padding"), folder.join("shop.debug"));
    let source = root().join("operator/controller/tests/symbols/shop.cpp");
    run("g++", &["-O2", "-g", "-Wl,--build-id", "-o", text(&whole), text(&source)]).unwrap();
    std::fs::write(&padding, vec![7; PADDING]).unwrap();
    let section = format!(".padding={}", text(&padding));
    run("objcopy", &["--add-section", &section, text(&whole), text(&file)]).unwrap();
    let notes = run("readelf", &["-n", text(&whole)]).unwrap();
    let build_id = notes.lines().find_map(|line| line.trim().strip_prefix("Build ID: ")).unwrap().to_owned();
    let table = run("nm", &["-C", text(&whole)]).unwrap();
    let line = table.lines().find(|line| line.contains("Basket::total")).unwrap();
    (file, build_id, u64::from_str_radix(line.split(' ').next().unwrap(), 16).unwrap())
}

async fn outlives_its_leader(kind: Kind) {
    let (server, folder) = (Server::start(kind).await, tempfile::tempdir().unwrap());
    let (file, build_id, address) = shop(folder.path());
    let [one, two] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let first = Leader::start(&server, one.path()).await;
    first.upload(&file, &build_id).await;
    assert_eq!(first.listed(), [(build_id.clone(), Some(true))], "{kind:?}");

    let second = Leader::start(&server, two.path()).await;
    assert_eq!(second.listed(), [(build_id.clone(), Some(true))], "{kind:?}");
    assert_eq!(second.names(&build_id, address).await, (1, None), "{kind:?}");
    assert!(
        two.path().join(format!("symbols/uploaded/{build_id}.debug")).is_file(),
        "it is on its volume now"
    );

    second.results.delete_symbols(&build_id).await.unwrap();
    assert_eq!(second.listed(), []);
    first.results.settle_symbols().await;
    assert_eq!(first.listed(), [], "{kind:?}: it does not come back with the volume of the first");
    let third = Leader::start(&server, one.path()).await;
    let (names, why) = third.names(&build_id, address).await;
    assert_eq!((names, why.as_deref()), (0, Some("nobody uploaded its symbols")), "{kind:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn uploaded_symbols_outlive_their_leader_in_s3() {
    outlives_its_leader(Kind::S3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn uploaded_symbols_outlive_their_leader_in_azure_blob_storage() {
    outlives_its_leader(Kind::Az).await;
}
