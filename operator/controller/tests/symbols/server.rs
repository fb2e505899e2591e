//! Are files fetched from a debuginfod server where the volume does not have them?

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Path as Parameter, State};
use axum::http::StatusCode;
use axum::routing::get;
use fleetprof_operator::symbols::{Config, Symbols};
use fleetprof_profile::Profile;
use fleetprof_profile::resolve::{lacking, name};
use tokio::net::TcpListener;

use crate::memory;
use crate::programs::{Program, place, shown};
use crate::{are_in, with_supplement};

/// What a server heard: build ids, in order.
type Heard = Arc<Mutex<Vec<String>>>;

/// A server of the files of a volume.
async fn server(volume: &Path) -> (String, Heard) {
    let heard = Heard::default();
    let answer = async |Parameter(id): Parameter<String>, State((root, heard)): State<(PathBuf, Heard)>| {
        heard.lock().unwrap().push(id.clone());
        std::fs::read(place(&root, &id)).map_err(|_| StatusCode::NOT_FOUND)
    };
    let state = (volume.to_owned(), heard.clone());
    let router = Router::new().route("/buildid/{id}/debuginfo", get(answer)).with_state(state);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, heard)
}

fn symbols(root: &Path, volume: Option<&Path>, url: &str) -> Symbols {
    read_by(env!("CARGO_BIN_EXE_fleetprof-operator"), root, volume, url)
}

fn read_by(program: &str, root: &Path, volume: Option<&Path>, url: &str) -> Symbols {
    let volume = volume.map(|volume| format!("volume: {}, ", volume.display())).unwrap_or_default();
    let config: Config = serde_yaml::from_str(&format!("{{{volume}debuginfod: {{url: '{url}'}}}}")).unwrap();
    std::fs::create_dir_all(root).unwrap();
    Symbols::new(&config, root, PathBuf::from(program))
}

async fn named(symbols: &Symbols, mut profile: Profile) -> Profile {
    let found = symbols.find(&lacking(&profile), &memory(), 1 << 30).await;
    assert!(found.failed.is_empty(), "{found:?}");
    name(&mut profile, &found.names);
    profile
}

#[tokio::test]
async fn a_file_and_its_supplement_are_fetched_once() {
    let folder = tempfile::tempdir().unwrap();
    let (program, common) = with_supplement(folder.path(), "/usr/lib/debug/.dwz/shop.debug");
    let supplement = Program::of(common.clone()).build_id;
    std::fs::rename(common, place(folder.path(), &supplement)).unwrap();
    let (url, heard) = server(folder.path()).await;
    let symbols = symbols(&folder.path().join("results"), None, &url);
    for _ in 0..2 {
        let profile = named(&symbols, program.profile(program.function("Basket"))).await;
        are_in(&shown(&profile), "shop::Basket::total(unsigned long)", "shop.cpp", "discount");
    }
    assert_eq!(*heard.lock().unwrap(), [program.build_id, supplement]);
}

#[tokio::test]
async fn a_file_of_no_use_on_the_volume_is_fetched() {
    let (folder, volume) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let program = Program::cpp(folder.path(), "shop");
    program.symbols(folder.path());
    std::fs::write(place(volume.path(), &program.build_id), "not what it should be").unwrap();
    let (url, heard) = server(folder.path()).await;
    let symbols = symbols(&folder.path().join("results"), Some(volume.path()), &url);
    let profile = named(&symbols, program.profile(program.function("Basket"))).await;
    are_in(&shown(&profile), "shop::Basket::total(unsigned long)", "shop.cpp", "discount");
    assert_eq!(heard.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_wrong_file_of_the_server_is_refused_and_not_fetched_again() {
    let folder = tempfile::tempdir().unwrap();
    let (program, other) = (Program::cpp(folder.path(), "shop"), Program::rust(folder.path()));
    std::fs::copy(&other.whole, place(folder.path(), &program.build_id)).unwrap();
    let (url, heard) = server(folder.path()).await;
    let symbols = symbols(&folder.path().join("results"), None, &url);
    let asked = lacking(&program.profile(program.function("Basket")));
    let found = symbols.find(&asked, &memory(), 1 << 30).await;
    let why = &found.failed[&program.build_id];
    assert!(why.ends_with(&format!("it is the file of build id {}", other.build_id)), "{why}");
    assert!(!symbols.may_name(&asked), "nobody else has it");
    let again = symbols.find(&asked, &memory(), 1 << 30).await;
    assert_eq!(&again.failed[&program.build_id], why, "the next status says so too");
    assert_eq!(symbols.why_not(&program.build_id, None), *why);
    assert_eq!(heard.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_file_that_could_not_be_read_for_another_cause_is_kept_and_read_the_next_time() {
    let folder = tempfile::tempdir().unwrap();
    let program = Program::cpp(folder.path(), "shop");
    program.symbols(folder.path());
    let (url, heard) = server(folder.path()).await;
    let results = folder.path().join("results");
    let failing = read_by("/bin/false", &results, None, &url);
    let profile = program.profile(program.function("Basket"));
    for _ in 0..2 {
        let found = failing.find(&lacking(&profile), &memory(), 1 << 30).await;
        let why = &found.failed[&program.build_id];
        assert!(why.contains("could not be read: the process that reads it failed"), "{why}");
        assert!(failing.may_name(&lacking(&profile)), "it may be read the next time");
    }
    let profile = named(&symbols(&results, None, &url), profile).await;
    are_in(&shown(&profile), "shop::Basket::total(unsigned long)", "shop.cpp", "discount");
    assert_eq!(heard.lock().unwrap().len(), 1, "it was fetched once");
}

#[tokio::test]
async fn a_server_is_not_asked_for_lines_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (url, heard) = server(folder.path()).await;
    let symbols = symbols(&folder.path().join("results"), None, &url);
    let program = Program::cpp(folder.path(), "shop");
    let mut asked = lacking(&program.profile(program.function("Basket")));
    assert!(symbols.may_name(&asked));
    asked[0].unnamed = 0;
    assert!(!symbols.may_name(&asked));
    symbols.find(&asked, &memory(), 1 << 30).await;
    assert_eq!(heard.lock().unwrap().len(), 0);
}
